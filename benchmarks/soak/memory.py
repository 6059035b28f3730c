"""What a process holds, read from /proc: resident memory by where it comes from, file descriptors, threads."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20
_KB = re.compile(r"^(\w+):\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True)
class Sample:
    """One look at a process. Bytes; `private_bytes` is what no other process shares."""

    at_s: float
    ended: int
    """Requests that had ended."""
    rss_bytes: int
    private_bytes: int
    descriptors: int
    threads: int


def look(pid: int, at_s: float, ended: int) -> Sample:
    """A sample of now. Raises OSError where the process is gone."""
    of = {name: int(kb) * 1024 for name, kb in _KB.findall(Path(f"/proc/{pid}/smaps_rollup").read_text())}
    private = of["Private_Clean"] + of["Private_Dirty"]
    descriptors, threads = (len(list(Path(f"/proc/{pid}/{what}").iterdir())) for what in ("fd", "task"))
    return Sample(at_s, ended, of["Rss"], private, descriptors, threads)


def mappings(pid: int) -> Counter[str]:
    """Resident bytes by file; what belongs to none is "[heap]", "[anon]" and the like."""
    resident: Counter[str] = Counter()
    name = ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if "-" in fields[0] and not fields[0].endswith(":"):
            name = (
                Path(fields[5]).name if len(fields) > 5 and fields[5].startswith("/") else (fields[5:] or ["[anon]"])[0]
            )
        elif fields[0] == "Rss:":
            resident[name] += int(fields[1]) * 1024
    return resident


def plot(samples: list[Sample], width: int = 72, height: int = 10) -> str:
    """Resident memory over requests as text, one column for several samples, from the least to the most seen."""
    values = [sample.rss_bytes / MIB for sample in samples]
    low, high = min(values), max(values)
    step = (high - low) / (height - 1) or 1.0
    wide = min(width, len(values))
    columns = [values[round(index * (len(values) - 1) / max(1, wide - 1))] for index in range(wide)]
    rows = []
    for level in range(height - 1, -1, -1):
        at = low + level * step
        marks = "".join("*" if round((value - low) / step) == level else " " for value in columns)
        rows.append(f"{at:7.1f} |{marks}")
    return "\n".join([*rows, f"    MiB +{'-' * len(columns)} {samples[-1].ended:,} requests"])
