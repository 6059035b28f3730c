"""Environments beside the main one: each fork of ONNX Runtime owns the same package folder, so each needs its own.

Owns the table of them and which one a provider needs on this machine. Never creates one, never imports onnxruntime.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import msgspec

_ROOT = Path(__file__).parents[1]
_TIMEOUT_S = 60.0


class Environment(msgspec.Struct, frozen=True):
    """A virtual environment with the main one's packages, a fork of ONNX Runtime in place of the plain one."""

    lock: str
    """Lock file it is made from, relative to the root of the checkout."""
    folder: str
    """Folder of the virtual environment, relative to the root of the checkout."""
    providers: tuple[str, ...]
    """Names in the provider table of deployments/backends/onnx.py that it can run."""


ENVIRONMENTS: dict[str, Environment] = {
    "openvino": Environment("requirements/openvino.txt", ".venv-openvino", ("openvino",)),
}
"""Environment name to what it is. `make env-NAME` makes it."""


class EnvironmentProblem(Exception):
    """An environment is not there or cannot be asked. The text says what to do."""


def needed(provider: str) -> str | None:
    """Environment that `provider` needs on this machine: "" is the main one, else a name of the table.

    None: neither can run it, and a backend started in the main one says why. Asks ONNX Runtime once per process and
    provider, about half a second each, in a process of its own: a plugin stays in the process that looked at its
    devices. Raises EnvironmentProblem if that process fails.
    """
    if _runs_here(provider):
        return ""
    return next((name for name, environment in ENVIRONMENTS.items() if provider in environment.providers), None)


def interpreter(name: str) -> str:
    """Absolute path of the environment's Python. Raises EnvironmentProblem if it has not been made."""
    path = _ROOT / ENVIRONMENTS[name].folder / "bin" / "python"
    if not path.exists():
        raise EnvironmentProblem(f"the environment {name!r} is not there ({path}): run `make env-{name}`")
    return str(path)


def runtime_env(name: str) -> dict[str, object]:
    """Ray's runtime_env that runs a replica in the environment; {} for the main one, "". Raises EnvironmentProblem.

    Looks before Ray does: a replica whose interpreter does not start stays STARTING for ever and nothing says why.
    """
    # Ray puts the path into a shell command as it is.
    return {"py_executable": shlex.quote(interpreter(name))} if name else {}


@cache
def _runs_here(provider: str) -> bool:
    """Whether the main environment can run the provider on this machine. Raises EnvironmentProblem."""
    code = "import sys; from deployments.backends.onnx import missing; sys.exit(3 if missing(sys.argv[1]) else 0)"
    asked = [sys.executable, "-c", code, provider]
    try:
        done = subprocess.run(asked, cwd=_ROOT, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603  (our own interpreter and code)
    except subprocess.TimeoutExpired as error:
        raise EnvironmentProblem(f"ONNX Runtime did not say within {_TIMEOUT_S:g} s if it has {provider!r}") from error
    if done.returncode not in {0, 3}:
        raise EnvironmentProblem(
            f"asking ONNX Runtime for {provider!r} failed ({done.returncode}): {done.stderr[-500:]}"
        )
    return done.returncode == 0
