"""What each model has done, over all router processes of the node: read from the files that they flush.

The metrics server reads the same files; this is for the router itself, whose clients may ask for statistics.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from router.protocol.metadata import STAGES, ModelTotals
from router.telemetry import table
from router.telemetry.store import Merged, collect

MAX_AGE_S = 1.0
"""However many ask, the files are read once in this time."""
_NO_FAILURE = frozenset({"answered", "model_not_found"})
"""A model that was not found has not failed."""

Totals = Mapping[str, ModelTotals]
"""By model name; one that never was asked for may be missing."""


class NodeTotals:
    """Reads the totals when they are asked for, in a thread, and keeps them for MAX_AGE_S."""

    def __init__(self, folder: Path, flush: Callable[[], object]) -> None:
        """`flush` writes out what this process has counted."""
        self._folder = folder
        self._flush = flush
        self._reading: asyncio.Future[Totals] | None = None
        self._read_s = 0.0

    async def by_model(self) -> Totals:
        """At most MAX_AGE_S old. Raises OSError where the folder cannot be read."""
        loop = asyncio.get_running_loop()
        reading = self._reading
        if reading is None or (reading.done() and loop.time() - self._read_s > MAX_AGE_S):
            self._read_s = loop.time()
            reading = self._reading = loop.run_in_executor(None, self._read)
        return await asyncio.shield(reading)  # one client that leaves does not end what others wait for

    def _read(self) -> Totals:
        self._flush()
        return model_totals(collect(self._folder, time.time())[0])


def model_totals(merged: Merged) -> dict[str, ModelTotals]:
    """The totals of each model from merged series."""
    found: dict[str, ModelTotals] = {}

    def of(metric: table.Metric, model_label: int) -> list[tuple[ModelTotals, tuple[str, ...], list[int | float]]]:
        series = merged.get(metric.key, {})
        return [(found.setdefault(labels[model_label], ModelTotals()), labels, v) for labels, v in series.items()]

    for totals, (_, _, outcome), values in of(table.REQUESTS, 1):
        if outcome == "answered":
            totals.answered += int(values[0])
        elif outcome not in _NO_FAILURE:
            totals.failed += int(values[0])
    for totals, _, values in of(table.ANSWERED_SECONDS, 1):
        totals.answered_s += values[0]
    for totals, _, values in of(table.ROWS, 1):
        totals.rows += values[0]
    for totals, _, values in of(table.EXECUTIONS, 1):
        totals.executions += values[0]
    for totals, _, values in of(table.LAST_ANSWER, 0):
        totals.last_s = values[0]
    for totals, (_, _, stage), values in of(table.STAGE, 1):
        if stage == "total":
            totals.failed_s += values[-1]
        elif stage in STAGES:
            totals.stages_s[stage] = totals.stages_s.get(stage, 0.0) + values[-1]
    for totals in found.values():
        totals.failed_s = max(0.0, totals.failed_s - totals.answered_s)
    return found
