"""Pointsman's own side: a fleet file with a fresh tenant key in it. Never starts the server."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from benchmarks.http.systems import PYTHON, System, pointsman

KINDS = ("preferred", "equal")
PLACEHOLDER = "sha256:" + "0" * 64
"""Stands in the fleet files where the tenant's key digest goes."""


def new_key(root: Path) -> tuple[str, str]:
    """Ask `pointsman key new`. Returns the key and its digest, `sha256:<hex>`. Raises RuntimeError with its words."""
    command = [PYTHON, "-c", "from deployments.cli import main; main()", "key", "new"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment, timeout=60)
    digest = re.search(r"sha256:[0-9a-f]{64}", done.stdout)
    words = re.findall(r"[A-Za-z0-9_\-]{22,}", done.stdout.replace(digest.group(), "") if digest else "")
    if done.returncode != 0 or digest is None or not words:
        raise RuntimeError(f"pointsman key new: {done.stdout}{done.stderr}")
    return words[0], digest.group()


def pointsman_fleet(kind: str, root: Path, scratch: Path, store: Path, routers: int = 1) -> tuple[Path, str]:
    """Write the fleet of `kind` into `scratch`, with a fresh key and that model store. Returns its path and the key.

    Raises RuntimeError where the fleet file has no place for the key.
    """
    text = (Path(__file__).parent / f"fleet-{kind}.yaml").read_text()
    if PLACEHOLDER not in text:
        raise RuntimeError(f"fleet-{kind}.yaml has no {PLACEHOLDER}")
    key, digest = new_key(root)
    path = scratch / f"fleet-{kind}.yaml"
    path.write_text(f'{text.replace(PLACEHOLDER, digest)}\nmodel_store: "{store}"\nserver: {{routers: {routers}}}\n')
    return path, key


def pointsman_fleets(names: list[str], root: Path, scratch: Path, model: Path) -> dict[str, System]:
    """The Pointsman systems among `names`, ready to be started. `model` is <store>/mlp/<version>/model.onnx."""
    kinds = [kind for kind in KINDS if f"pointsman-{kind}" in names]
    store = model.resolve().parents[2]
    return {f"pointsman-{kind}": pointsman(kind, *pointsman_fleet(kind, root, scratch, store)) for kind in kinds}
