"""The marker `own_network`: such a test runs in a private network, which has a loopback and nothing else.

For Ray clusters of several nodes on one machine: where the machine has another address, Ray prefers it, and is then not
reached at it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INSIDE = "POINTSMAN_TEST_NETWORK"
UNSHARE = (shutil.which("unshare") or "unshare", "--map-root-user", "--net")
TIMEOUT_S = 500.0


def pytest_configure() -> None:
    """In such a network not even the loopback is up at first."""
    if INSIDE in os.environ:
        sys.path.insert(0, str(ROOT))  # benchmarks/ is no part of what is installed
        from benchmarks.http.isolate import raise_loopback

        raise_loopback()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run the test by another pytest inside, and take over what came of it."""
    if INSIDE in os.environ or pyfuncitem.get_closest_marker("own_network") is None:
        return None
    inside = [*UNSHARE, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", pyfuncitem.nodeid]
    done = subprocess.run(
        inside, cwd=pyfuncitem.config.rootpath, env=os.environ | {INSIDE: "1"}, timeout=TIMEOUT_S,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return True
