"""Environments beside the main one: each fork of ONNX Runtime owns the same package folder, so each needs its own.

Owns the table of them and which one a provider needs on this machine. Never creates one, never imports onnxruntime.
"""

from __future__ import annotations

import importlib.metadata
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import msgspec

from deployments.providers import PROVIDERS

_ROOT = Path(__file__).parents[1]
_TIMEOUT_S = 60.0


class Environment(msgspec.Struct, frozen=True):
    """A virtual environment with the main one's packages, a fork of ONNX Runtime in place of the plain one."""

    lock: str
    """Lock file it is made from, relative to the root of the checkout."""
    folder: str
    """Folder of the virtual environment, relative to the root of the checkout."""

    @property
    def interpreter(self) -> Path:
        """Its Python, whether it has been made or not."""
        return _ROOT / self.folder / "bin" / "python"


ENVIRONMENTS: dict[str, Environment] = {
    name: Environment(f"requirements/{name}.txt", f".venv-{name}")
    for name in dict.fromkeys(provider.environment for provider in PROVIDERS.values() if provider.environment)
}
"""Environment name, as the table of providers has it, to what it is. `make env-NAME` makes it."""


class EnvironmentProblem(Exception):
    """ONNX Runtime cannot be asked. The text says what to do."""


def needed(provider: str) -> str:
    """Environment that `provider` needs on this machine: "" is the main one, else a name of the table.

    Where a plugin might do, asks ONNX Runtime once per process and provider, about half a second, in a process of its
    own: a plugin stays in the process that looked at its devices. Raises EnvironmentProblem if that process fails.
    """
    entry = PROVIDERS.get(provider)
    if entry is None or not entry.environment:
        return ""
    if entry.plugin:
        return "" if _runs_here(provider) else entry.environment
    return "" if installed(entry.fork) else entry.environment


def installed(distribution: str) -> bool:
    """Whether the main environment has that package."""
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def runtime_env(provider: str) -> dict[str, object]:
    """Ray's runtime_env that runs a replica where the provider is; {} for the main environment.

    So is it where the environment that is needed was not made: on another machine the main one may be the fork's own
    image, and where it is not, the replica's refusal names `make env-NAME`. Ray itself would try an interpreter that
    is not there for ever, and say nothing. Raises EnvironmentProblem.
    """
    name = needed(provider)
    path = ENVIRONMENTS[name].interpreter if name else None
    # Ray puts the path into a shell command as it is.
    return {"py_executable": shlex.quote(str(path))} if path and path.exists() else {}


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
