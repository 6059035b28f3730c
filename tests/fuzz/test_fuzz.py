"""A short search over everything that reads bytes from outside. `make fuzz` searches longer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = 4096
"""The doubling up to which objects are counted; five targets make 20,000."""
TARGETS = sorted(path.name for path in (Path(__file__).parent / "corpus").iterdir())


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_breaks_what_reads(target):
    """Only the documented errors, no hang, no growth, answers well formed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--cases", str(CASES), target],
        cwd=ROOT, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{target} " in done.stdout


def test_what_breaks_it_is_found():
    """The watch itself works: a case that keeps what it got is told of."""
    from worker import FIRST_LOOK, MAX_NEW_OBJECTS, watched

    kept = []
    keeps = watched(lambda data: kept.append([data]))
    assert MAX_NEW_OBJECTS < FIRST_LOOK
    for _ in range(2 * FIRST_LOOK - 1):
        keeps(b"\x01")
    with pytest.raises(AssertionError, match="more objects alive"):
        keeps(b"\x01")
