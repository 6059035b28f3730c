"""Counts of one router process, in plain numbers: about a microsecond per request, no lock, no foreign library.

Owns which record moves which series. What is written, merged and shown is store.py and export.py.
"""

from __future__ import annotations

import logging
import threading
from bisect import bisect_left
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path

from router.core.facts import PoolFacts
from router.core.record import RequestRecord
from router.telemetry import table
from router.telemetry.store import Series, Snapshot, SnapshotFile
from router.telemetry.table import RATIO_BUCKETS, ROWS_BUCKETS, SECONDS_BUCKETS, Metric

_LOG = logging.getLogger("pointsman.telemetry")

OTHER = "other"
"""Label value for anything that configuration does not name."""
_MAX_REASONS = 64

_Cell = list[int | float]


class _Series:
    """Series by metric, in the form the file has them: the cells counted in are the lists written out."""

    def __init__(self) -> None:
        self.by_key: dict[str, list[Series]] = {}
        self._cells: dict[tuple[str, tuple[str, ...]], _Cell] = {}

    def cell(self, metric: Metric, *labels: str) -> _Cell:
        """The numbers of one series, zeros at first."""
        cell = self._cells.get((metric.name, labels))
        if cell is None:
            cell = self._cells[metric.name, labels] = [0] * metric.width
            self.by_key.setdefault(metric.key, []).append((labels, cell))
        return cell


class _Path:
    """The cells that requests of one (tenant, model, outcome, pool) move."""

    __slots__ = (
        "actual", "answered", "batch", "counts", "deadline", "decide", "executions", "parse", "predicted", "queue",
        "ratio", "row_count", "rows", "run", "target", "total",
    )  # fmt: skip

    def __init__(self, series: _Series, pool: str, model: str, outcome: str, counts: Sequence[_Cell]) -> None:
        unused: _Cell = [0] * max(metric.width for metric in table.METRICS)

        def stage(name: str) -> _Cell:
            return series.cell(table.STAGE, pool, model, name)

        def results(metric: Metric) -> tuple[_Cell, _Cell]:
            if not pool or outcome == "client_gone":
                return (unused, unused)
            return (series.cell(metric, pool, model, "missed"), series.cell(metric, pool, model, "met"))

        self.counts = tuple(counts)
        self.parse, self.decide, self.total = stage("parse"), stage("decide"), stage("total")
        self.deadline, self.target = results(table.DEADLINE), results(table.TARGET)
        self.queue = self.batch = self.run = self.rows = self.ratio = self.predicted = self.actual = unused
        self.answered = self.row_count = self.executions = unused
        if pool:
            self.queue, self.batch, self.run = stage("queue"), stage("batch"), stage("run")
            self.rows = series.cell(table.BATCH_ROWS, pool, model)
            self.ratio = series.cell(table.PREDICTION_RATIO, pool, model)
            self.predicted = series.cell(table.PREDICTED, pool, model)
            self.actual = series.cell(table.ACTUAL, pool, model)
            self.answered = series.cell(table.ANSWERED_SECONDS, pool, model)
            self.row_count = series.cell(table.ROWS, pool, model)
            self.executions = series.cell(table.EXECUTIONS, pool, model)


class Metrics:
    """Counts requests as they end; the caller flushes on a timer. `folder` is shared by the routers of a node.

    Label values come from `configure` alone; before it, and for what it does not name, they are "other". All methods
    but `flush` belong to one thread.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = SnapshotFile(folder)
        self._totals, self._gauges = _Series(), _Series()
        self._failures = self._totals.cell(table.FLUSH_FAILURES)
        self._failing = False
        self._flushing = threading.Lock()
        self._paths: dict[tuple[str, str, str, str], _Path] = {}
        self._tenants: frozenset[str] = frozenset()
        self._models: frozenset[str] = frozenset()
        self._pools: dict[str, PoolFacts] = {}
        self._reasons: set[str] = set()
        self._seen: dict[tuple[str, ...], int | float] = {}

    def configure(
        self, *, version: str, tenants: Iterable[str], models: Iterable[str], pools: Sequence[PoolFacts]
    ) -> None:
        """Say which label values there are. At start and at each reload: totals stay, gauges begin anew."""
        self._tenants = frozenset((*tenants, ""))
        self._models = frozenset((*models, ""))
        self._pools = {pool.name: pool for pool in pools}
        self._paths = {}
        gauges = _Series()
        gauges.cell(table.CONFIG_INFO, version)[0] = 1
        for pool in pools:
            emulated = "true" if pool.emulated else "false"
            gauges.cell(table.POOL_INFO, pool.name, pool.accelerator.name, pool.provider, emulated)[0] = 1
            if pool.emulation is not None:
                gauges.cell(table.TIME_SCALE, pool.name, pool.emulation.basis)[0] = pool.emulation.time_scale
            for model in pool.models:  # from zero, so that a rate sees the first request
                counted = self._totals.cell(table.POOL_REQUESTS, pool.name, model, "answered")
                _Path(self._totals, pool.name, model, "answered", [counted])
        self._gauges = gauges

    def observe(self, record: RequestRecord) -> None:
        """Count one request. Call exactly once for each, at its end."""
        path = self._paths.get((record.tenant, record.model, record.outcome, record.pool))
        if path is None:
            path = self._path(record)
        for cell in path.counts:
            cell[0] += 1
        path.deadline[record.deadline_met][0] += 1
        path.target[record.target_met][0] += 1
        if record.attempts != 1 or record.rejected or record.failed:
            self._unusual(record)
        if (value := record.parse_s) > 0.0:
            cell = path.parse
            cell[bisect_left(SECONDS_BUCKETS, value)] += 1
            cell[-1] += value
        if (value := record.decide_s) > 0.0:
            cell = path.decide
            cell[bisect_left(SECONDS_BUCKETS, value)] += 1
            cell[-1] += value
        if (value := record.queue_s) > 0.0:
            cell = path.queue
            cell[bisect_left(SECONDS_BUCKETS, value)] += 1
            cell[-1] += value
        if (value := record.batch_s) > 0.0:
            cell = path.batch
            cell[bisect_left(SECONDS_BUCKETS, value)] += 1
            cell[-1] += value
        if (value := record.run_s) > 0.0:
            cell = path.run
            cell[bisect_left(SECONDS_BUCKETS, value)] += 1
            cell[-1] += value
        value = record.total_s
        cell = path.total
        cell[bisect_left(SECONDS_BUCKETS, value)] += 1
        cell[-1] += value
        if rows := record.batch_rows:
            cell = path.rows
            cell[bisect_left(ROWS_BUCKETS, rows)] += 1
            cell[-1] += rows
            path.answered[0] += record.total_s
            path.row_count[0] += record.rows
            path.executions[0] += record.rows / rows
        if (predicted_s := record.predicted_s) > 0.0 and (value := record.actual_s) > 0.0:
            path.predicted[0] += predicted_s
            path.actual[0] += value
            value /= predicted_s
            cell = path.ratio
            cell[bisect_left(RATIO_BUCKETS, value)] += 1
            cell[-1] += value

    def set_pool(
        self,
        pool: str,
        *,
        inflight: int,
        ready_replicas: int,
        queue_rows: Mapping[str, int],
        open_models: Container[str] = (),
    ) -> None:
        """State of one pool now, before each flush. `queue_rows` by model. A pool not configured is left out."""
        facts = self._pools.get(pool)
        if facts is None:
            return
        self._gauges.cell(table.INFLIGHT, pool)[0] = inflight
        self._gauges.cell(table.READY_REPLICAS, pool)[0] = ready_replicas
        for model in facts.models:
            self._gauges.cell(table.QUEUE_ROWS, pool, model)[0] = queue_rows.get(model, 0)
            self._gauges.cell(table.MODEL_OPEN, pool, model)[0] = int(model in open_models)

    def set_overruns(self, pool: str, replica: str, overruns: int) -> None:
        """Overruns of one replica since its start, as its load report has them. All routers may report the same."""
        self._totals.cell(table.OVERRUNS, _one_of(pool, self._pools), replica)[0] = overruns

    def stamp(self, unix_s: float) -> None:
        """Note, before a flush, which models have answered since the last one."""
        for (pool, model), cell in self._totals.by_key.get(table.ROWS.key, ()):
            if cell[0] != self._seen.get((pool, model), 0):
                self._seen[pool, model] = cell[0]
                self._totals.cell(table.LAST_ANSWER, model)[0] = unix_s

    def flush(self) -> bool:
        """Write the counts of this process out; False where that failed: counted, warned of, made good by the next.

        May run in another thread: the snapshot is encoded in one step under the interpreter's lock.
        """
        with self._flushing:
            try:
                self._file.write(Snapshot(self._totals.by_key, self._gauges.by_key))
            except OSError as error:
                self._failures[0] += 1
                if not self._failing:
                    _LOG.warning("metrics cannot be written, kept in memory: %s", error)
                self._failing = True
                return False
            self._failing = False
            return True

    def close(self) -> None:
        """Flush for the last time and leave: gauges of this process vanish, its totals stay."""
        self.flush()
        self._file.close()

    def _path(self, record: RequestRecord) -> _Path:
        """The cells of a record; remembered only where configuration names all its labels, so memory is bounded."""
        tenant, model = _one_of(record.tenant, self._tenants), _one_of(record.model, self._models)
        outcome, pool = self._reason(record.outcome), _one_of(record.pool, self._pools) if record.pool else ""
        counts = [self._totals.cell(table.REQUESTS, tenant, model, outcome)]
        if pool:
            facts = self._pools.get(pool)
            accelerator = facts.accelerator.name if facts else OTHER
            counts.append(self._totals.cell(table.POOL_REQUESTS, pool, model, outcome))
            counts.append(self._totals.cell(table.TENANT_CLASS, tenant, accelerator))
        path = _Path(self._totals, pool, model, outcome, counts)
        if (tenant, model, outcome, pool) == (record.tenant, record.model, record.outcome, record.pool):
            self._paths[tenant, model, outcome, pool] = path
        return path

    def _unusual(self, record: RequestRecord) -> None:
        """A request that was sent to no replica or to several, or that ended without any pool."""
        if record.attempts > 1:
            pool = _one_of(record.pool, self._pools) if record.pool else ""
            self._totals.cell(table.RETRIES, pool)[0] += record.attempts - 1
        elif record.attempts == 0 and record.outcome not in ("answered", "client_gone"):
            model = _one_of(record.model, self._models)
            self._totals.cell(table.REJECTIONS, model, self._reason(record.outcome))[0] += 1
        for pool, reason in record.rejected:
            self._totals.cell(table.POOL_REJECTIONS, _one_of(pool, self._pools), self._reason(reason))[0] += 1
        for pool, reason in record.failed:
            self._totals.cell(table.FAILED_ATTEMPTS, _one_of(pool, self._pools), self._reason(reason))[0] += 1

    def _reason(self, reason: str) -> str:
        """Reasons are the code's, not the config's: as they come, up to a number no table of reasons reaches."""
        if reason not in self._reasons and len(self._reasons) >= _MAX_REASONS:
            return OTHER
        self._reasons.add(reason)
        return reason


def _one_of(value: str, known: Container[str]) -> str:
    return value if value in known else OTHER
