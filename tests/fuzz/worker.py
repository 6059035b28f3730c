"""One target under libFuzzer, in a process of its own: atheris instruments what it imports and never returns."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
TARGETS = ("http", "json", "binary", "grpc", "h2", "frames", "handshake")
FIRST_LOOK = 1024
"""Cases after which caches are full and objects are counted for the first time."""
MAX_NEW_OBJECTS = 600
"""That may be alive more than at half as many cases. The corpus is libFuzzer's own and no object of Python."""
MAX_NEW_RSS_BYTES = 48 * 2**20
"""Likewise; libFuzzer's corpus is in it."""


def watched(case: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """The case, and at every doubling of the number of cases a look at what stayed alive."""
    cases, next_look, objects, rss = 0, FIRST_LOOK, 0, 0

    def run(data: bytes) -> None:
        nonlocal cases, next_look, objects, rss
        case(data)
        cases += 1
        if cases == next_look:
            gc.collect()
            seen, resident = len(gc.get_objects()), rss_bytes()
            if objects and seen - objects > MAX_NEW_OBJECTS:
                raise AssertionError(f"{seen - objects} more objects alive after {cases} cases than after half of them")
            if rss and resident - rss > MAX_NEW_RSS_BYTES:
                raise AssertionError(f"{(resident - rss) >> 20} MiB more after {cases} cases than after half of them")
            objects, rss, next_look = seen, resident, cases * 2

    return run


def rss_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main() -> None:
    """`worker TARGET FILE` runs one input, `worker TARGET <libFuzzer's arguments>` searches."""
    target, *rest = sys.argv[1:]
    if rest and Path(rest[0]).is_file():
        from tests.fuzz import targets

        targets.case(target)(Path(rest[0]).read_bytes())
        return
    import atheris

    with atheris.instrument_imports(include=["router", "models", "uvicorn"]):
        from tests.fuzz import targets

        case = targets.case(target)
    atheris.Setup([sys.argv[0], *rest], watched(case))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
