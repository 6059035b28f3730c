"""What is wrong with a configuration, in words with a place. Collects; never stops at the first."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """One fault. `line` counts from 1; `path` is the YAML path, such as pools[1].accelerator, "" for the file."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: " + (f"{self.path}: " if self.path else "") + self.message


class ConfigError(ValueError):
    """A configuration that cannot be used. `problems` holds every fault found, in the order of the files' lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.file, problem.line)))
        super().__init__("\n".join(map(str, self.problems)))


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """`unknown KIND "NAME"`, with the nearest known name where there is one, else with what is known."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f'unknown {kind} "{name}"; did you mean "{near[0]}"?'
    listed = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f'unknown {kind} "{name}"; known: {listed or "none"}'
