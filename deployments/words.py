"""Words and tables for people at a terminal. Formats what others found out, asks nothing itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import click

SHOWN = {"RUNNING", "WAITING", "FULL", "DEPLOY_FAILED", "UNHEALTHY"}
"""Statuses of an application that are said when they come about."""
_EXCEPTION = re.compile(r"^[\w.]*\w+Error: ")


def say(text: str) -> None:
    """One line of progress."""
    click.echo(f"pointsman: {text}", err=True)


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


def state_words(status: str, message: str, running: int) -> str:
    """A status of cluster.py for people; `running`: how many replicas run."""
    if status == "RUNNING":
        return "running" if running else "no replica is asked for"
    if status in {"WAITING", "FULL"}:
        return message
    return f"{status.lower()}: {last_line(message)}" if status in SHOWN else status.lower()


def last_line(message: str) -> str:
    """The line of a traceback that says what is wrong, without the name of its exception."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line]
    return _EXCEPTION.sub("", (errors or lines or ["no message"])[-1])
