"""One fleet of identity models for all tests here, and the scripts of the clients in their own environment."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.append(str(Path(__file__).parents[1] / "e2e"))

from client_scripts import HERE, PYTHON
from fleet import MODELS, Fleet, start_fleet
from identity_model import DATATYPES, build_store

SCRIPT_TIMEOUT_S = 240


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two CPU pools with every identity model and the bundled ones."""
    folder = tmp_path_factory.mktemp("clients")
    names = build_store(folder / "state" / "models", MODELS / "mlp", MODELS / "minilm")
    with start_fleet(_config(names), folder) as running:
        yield running


def _config(names: list[str]) -> str:
    pool = {"accelerator": "x86-cpu", "region": "local", "backend": {"type": "onnx", "provider": "cpu"}}
    allowed = 'tenant.id == "clients"'
    return yaml.safe_dump(
        {
            "pools": [{"name": name, **pool, "models": names} for name in ("cpu-a", "cpu-b")],
            "tenants": [{"id": "clients", "priority": "interactive"}, {"id": "denied"}],
            "policies": [{"name": "clients-use-the-fleet", "when": allowed, "allow": "true"}],
            "models": {name: {"latency_target": "1s", "deadline": "30s"} for name in names},
        }
    )


@pytest.fixture(scope="session")
def server(fleet: Fleet) -> dict[str, Any]:
    """The facts that scripts/harness.py:Server holds."""
    return {
        "http": fleet.http_url.removeprefix("http://"),
        "grpc": fleet.grpc_address,
        "key": fleet.keys["clients"],
        "denied_key": fleet.keys["denied"],
        "datatypes": list(DATATYPES),
    }


@pytest.fixture(scope="session")
def told(server: dict[str, Any]) -> Callable[[str, str], dict[str, str]]:
    """What became of every check of `script` with `kind`: its traceback, "" where it held. Each runs once."""

    @cache
    def run(script: str, kind: str) -> dict[str, str]:
        assert PYTHON.exists(), "make env-clients"
        done = subprocess.run(
            [PYTHON, HERE / "scripts" / script, kind, json.dumps(server)],
            capture_output=True, text=True, timeout=SCRIPT_TIMEOUT_S, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return {line["check"]: line["fault"] for line in lines}

    return run
