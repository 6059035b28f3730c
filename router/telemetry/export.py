"""The door to prometheus_client: merged totals of a folder as metric families. Counts nothing of its own.

Imported by the metrics server alone, so that no router process loads prometheus_client.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from router.telemetry.store import Merged, collect
from router.telemetry.table import METRICS, Kind, Metric

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class FolderCollector(Collector):
    """Reads the folder at each scrape. `clock` gives Unix time in seconds."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock

    def collect(self) -> Iterator[Family]:
        """All metrics of the table, in its order; series sorted. Raises OSError where the folder cannot be read."""
        totals, gauges = collect(self._folder, self._clock())
        for metric in METRICS:
            yield _family(metric, gauges if metric.key in gauges else totals)

    def describe(self) -> Iterator[Family]:
        """Names alone, without reading anything."""
        for metric in METRICS:
            yield _family(metric, {})


def registry(folder: Path, clock: Callable[[], float] = time.time) -> CollectorRegistry:
    """A registry of its own: nothing of the default registry (such as this process's own memory) is shown."""
    own = CollectorRegistry()
    own.register(FolderCollector(folder, clock))
    return own


def _family(metric: Metric, merged: Merged) -> Family:
    unit = "seconds" if metric.name.removesuffix("_total").endswith("_seconds") else ""
    family: Family
    if metric.kind is Kind.HISTOGRAM:
        family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels, unit=unit)
    elif metric.kind is Kind.COUNTER:
        family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels, unit=unit)
    else:
        family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels, unit=unit)
    for labels, values in sorted(_shown(metric, merged).items()):
        if isinstance(family, HistogramMetricFamily):
            bounds = [*(repr(bound) for bound in metric.buckets), "+Inf"]
            counts = accumulate(values[:-1])
            family.add_metric(labels, list(zip(bounds, counts, strict=True)), values[-1])
        else:
            family.add_metric(labels, values[0])
    return family


def _shown(metric: Metric, merged: Merged) -> dict[tuple[str, ...], list[int | float]]:
    """Series by the labels that are shown: what was kept apart by source is summed."""
    series = merged.get(metric.key, {})
    if not metric.source:
        return series
    shown: dict[tuple[str, ...], list[int | float]] = {}
    for labels, values in series.items():
        have = shown.setdefault(labels[: len(metric.labels)], [0] * metric.width)
        have[:] = [a + b for a, b in zip(have, values, strict=True)]
    return shown
