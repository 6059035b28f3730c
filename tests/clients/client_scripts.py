"""The scripts of the clients, and the Python of the environment they run in."""

from __future__ import annotations

import ast
from pathlib import Path

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-clients" / "bin" / "python"


def checks_of(script: str) -> list[str]:
    """Names of a script's checks, without importing it: it belongs to another environment."""
    body = ast.parse((HERE / "scripts" / script).read_text()).body
    names = [node.name for node in body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return [name.removeprefix("check_") for name in names if name.startswith("check_")]
