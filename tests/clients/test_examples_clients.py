"""Every script of examples/clients, run as its reader would run it, agrees with the others and with the reference."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from client_scripts import PYTHON
from fleet import ROOT

pytestmark = pytest.mark.cluster

REFERENCE = json.loads((ROOT / "models" / "zoo" / "minilm" / "reference.json").read_text())
SENTENCE = REFERENCE["inputs"][0]["data"][0]
FIRST = np.array(REFERENCE["outputs"][0]["data"]).ravel()[:3]
EXAMPLES = ROOT / "examples" / "clients"


def run(server, *command: object) -> str:
    """What an example prints."""
    address = server["grpc" if "grpc" in Path(str(command[-2])).name else "http"]
    done = subprocess.run(
        [str(word) for word in command], env=os.environ | {"KEY": server["key"], "ADDRESS": address},
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("script", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_a_python_client_embeds_a_sentence(server, script):
    """In the environment of the clients."""
    printed = run(server, PYTHON, EXAMPLES / script, SENTENCE)
    head, _, numbers = printed.strip().rpartition(" numbers, the first ")
    assert head == f"{SENTENCE}: 384"
    assert np.abs(np.array(json.loads(numbers)) - FIRST).max() < 1e-3


def test_curl_embeds_a_sentence(server):
    """With nothing but a shell."""
    (answer,) = json.loads(run(server, EXAMPLES / "curl.sh", json.dumps([SENTENCE])))["outputs"]
    assert answer["shape"] == [1, 384]
    assert np.abs(np.array(answer["data"][:3]) - FIRST).max() < 1e-3
