"""Tables and phrases of the `pointsman` command. Values in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def times(emulation: Mapping[str, Any] | None) -> str:
    """Whose times a pool keeps, such as "assumed x40"; "own" where its hardware is real."""
    return f"{emulation['basis']} x{emulation['time_scale']:g}" if emulation else "own"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table for people."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def explained(answer: dict[str, Any]) -> str:
    """An explain answer as a table."""
    rows = [
        (
            pool["pool"],
            pool["accelerator"] + (f" (emulated, {times(pool['emulation'])})" if pool["emulated"] else ""),
            pool["variant"],
            pool["status"],
            f"{pool['score']:.3f}" if "score" in pool else "",
            f"{pool['predicted_s'] * 1e3:.2f} ms" if pool["predicted_s"] else "",
            pool["words"],
        )
        for pool in answer["pools"]
    ]
    head = f"request {answer['request_id']}, tenant {answer['tenant']}, policy {answer['policy_version']}"
    return head + "\n" + table(("pool", "class", "variant", "status", "score", "predicted", "why"), rows)
