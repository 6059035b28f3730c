"""The one table of metrics: name, kind, labels, unit, buckets, meaning.

Nothing is counted, stored or shown that is not a line here. Values only: no counting, no I/O.
"""

from __future__ import annotations

import zlib
from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """Prometheus types in use."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Merge(StrEnum):
    """How the values of several router processes become one."""

    SUM = "sum"
    MAX = "max"
    """All see the same thing: the largest is the newest."""


class Metric(msgspec.Struct, frozen=True):
    """One metric. A series of it is a label tuple and a list of numbers (`width`)."""

    name: str
    kind: Kind
    group: str
    labels: tuple[str, ...]
    unit: str
    help: str
    merge: Merge = Merge.SUM
    buckets: tuple[float, ...] = ()
    """Upper bounds, ascending; +Inf is added."""
    source: tuple[str, ...] = ()
    """Labels kept in the files but not shown: the values of one shown series are merged per source, then summed."""

    @property
    def width(self) -> int:
        """Numbers per series: 1, or for a histogram one per bucket (not cumulative), then +Inf, then the sum."""
        return len(self.buckets) + 2 if self.buckets else 1

    @property
    def key(self) -> str:
        """Name in the files. It holds a digest of the layout, so that series of unlike layout never meet."""
        layout = repr((self.kind.value, self.labels, self.source, self.merge.value, self.buckets))
        return f"{self.name}#{zlib.crc32(layout.encode()):08x}"


SECONDS_BUCKETS = (
    0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03,
    0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
)  # fmt: skip
ROWS_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
RATIO_BUCKETS = (0.1, 0.25, 0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
STAGES = ("parse", "decide", "queue", "batch", "run", "total")

_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

REQUESTS = Metric(
    "pointsman_requests_total", _C, "requests", ("tenant", "model", "outcome"), "requests",
    "Requests ended, each counted once. Outcome is answered, client_gone or the reason of the error.",
)  # fmt: skip
POOL_REQUESTS = Metric(
    "pointsman_pool_requests_total", _C, "requests", ("pool", "model", "outcome"), "requests",
    "Requests ended for which a pool was chosen, by the last pool chosen.",
)  # fmt: skip
TENANT_CLASS = Metric(
    "pointsman_tenant_class_total", _C, "requests", ("tenant", "accelerator"), "requests",
    "Requests for which a pool was chosen, by accelerator class of the last pool chosen.",
)  # fmt: skip
REJECTIONS = Metric(
    "pointsman_rejections_total", _C, "rejections", ("model", "reason"), "requests",
    "Requests that ended before anything was sent to a replica, by final reason. Part of requests_total.",
)  # fmt: skip
POOL_REJECTIONS = Metric(
    "pointsman_pool_rejections_total", _C, "rejections", ("pool", "reason"), "pools refused",
    "Why each pool was not chosen, for requests that ended without any pool: one per pool and request.",
)  # fmt: skip
RETRIES = Metric(
    "pointsman_retries_total", _C, "rejections", ("pool",), "dispatches",
    "Dispatches after the first of a request, by the last pool chosen (the pool that took over).",
)  # fmt: skip
FAILED_ATTEMPTS = Metric(
    "pointsman_failed_attempts_total", _C, "rejections", ("pool", "reason"), "dispatches",
    "Dispatches that a replica refused or that failed there, whether or not another one answered the request then.",
)  # fmt: skip
STAGE = Metric(
    "pointsman_stage_seconds", _H, "time", ("pool", "model", "stage"), "seconds",
    "Time of a request in a stage it reached: parse, decide, queue (router and replica), batch, run, and total.",
    buckets=SECONDS_BUCKETS,
)  # fmt: skip
DEADLINE = Metric(
    "pointsman_deadline_total", _C, "goodput", ("pool", "model", "result"), "requests",
    "Requests for which a pool was chosen: met if answered within the deadline, else missed. client_gone is left out.",
)  # fmt: skip
TARGET = Metric(
    "pointsman_target_total", _C, "goodput", ("pool", "model", "result"), "requests",
    "Requests for which a pool was chosen: met if answered within the latency target, else missed. "
    "client_gone is left out.",
)  # fmt: skip
BATCH_ROWS = Metric(
    "pointsman_batch_rows", _H, "batches", ("pool", "model"), "rows",
    "Rows of the batch in which a request ran, observed once per request: large batches weigh by their requests.",
    buckets=ROWS_BUCKETS,
)  # fmt: skip
ROWS = Metric(
    "pointsman_rows_total", _C, "batches", ("pool", "model"), "rows",
    "Rows of the requests answered.",
)  # fmt: skip
EXECUTIONS = Metric(
    "pointsman_executions_total", _C, "batches", ("pool", "model"), "batches",
    "Batches run: each answered request adds its share of the batch in which it ran.",
)  # fmt: skip
ANSWERED_SECONDS = Metric(
    "pointsman_answered_seconds_total", _C, "time", ("pool", "model"), "seconds",
    "Total time of the requests answered, from their arrival to their answer.",
)  # fmt: skip
LAST_ANSWER = Metric(
    "pointsman_last_answer_timestamp_seconds", _G, "requests", ("model",), "seconds",
    "Unix time of the model's last answer, as of the flush that noticed it.", Merge.MAX,
)  # fmt: skip
PREDICTION_RATIO = Metric(
    "pointsman_prediction_ratio", _H, "prediction", ("pool", "model"), "ratio",
    "Actual over predicted time from the last dispatch to its answer: 1 is exact, 2 took twice as long as predicted.",
    buckets=RATIO_BUCKETS,
)  # fmt: skip
PREDICTED = Metric(
    "pointsman_predicted_seconds_total", _C, "prediction", ("pool", "model"), "seconds",
    "Sum of predicted times from dispatch to answer, for the requests of prediction_ratio.",
)  # fmt: skip
ACTUAL = Metric(
    "pointsman_actual_seconds_total", _C, "prediction", ("pool", "model"), "seconds",
    "Sum of actual times from dispatch to answer, for the requests of prediction_ratio.",
)  # fmt: skip
INFLIGHT = Metric(
    "pointsman_inflight", _G, "fleet", ("pool",), "requests",
    "Requests leased on the pool now, all routers of the node together.",
)  # fmt: skip
QUEUE_ROWS = Metric(
    "pointsman_queue_rows", _G, "fleet", ("pool", "model"), "rows",
    "Rows queued or running on the pool now, as the router that sees most of them sees it.", Merge.MAX,
)  # fmt: skip
READY_REPLICAS = Metric(
    "pointsman_pool_ready_replicas", _G, "fleet", ("pool",), "replicas",
    "Replicas of the pool that may be sent requests now.", Merge.MAX,
)  # fmt: skip
MODEL_OPEN = Metric(
    "pointsman_pool_model_open", _G, "fleet", ("pool", "model"), "1",
    "1 where some replica of the pool takes requests for the model now, else 0: an upstream may be away while its "
    "replica is ready.", Merge.MAX,
)  # fmt: skip
POOL_INFO = Metric(
    "pointsman_pool_info", _G, "fleet", ("pool", "accelerator", "provider", "emulated"), "1",
    "Configured pools, always 1. emulated=\"true\": timing follows another class's profile.", Merge.MAX,
)  # fmt: skip
TIME_SCALE = Metric(
    "pointsman_emulated_time_scale", _G, "fleet", ("pool", "basis"), "ratio",
    "Emulated pools only: what the times of the latency profile are multiplied by. basis=\"assumed\": nobody measured "
    "them on that hardware.", Merge.MAX,
)  # fmt: skip
OVERRUNS = Metric(
    "pointsman_emulated_overruns_total", _C, "fleet", ("pool",), "batches",
    "Batches of an emulated pool whose real computation took longer than the time drawn for them.", Merge.MAX,
    source=("replica",),
)  # fmt: skip
CONFIG_INFO = Metric(
    "pointsman_config_info", _G, "router", ("version",), "1",
    "Config versions in force in the routers of the node, always 1. Two versions for long: a reload did not take.",
    Merge.MAX,
)  # fmt: skip
ROUTERS = Metric(
    "pointsman_router_processes", _G, "router", (), "processes",
    "Router processes of the node alive now.",
)  # fmt: skip
AGE = Metric(
    "pointsman_telemetry_age_seconds", _G, "router", (), "seconds",
    "Time since the least recent flush of a live router. Above a few flush intervals: a router hangs or cannot write.",
    Merge.MAX,
)  # fmt: skip
FLUSH_FAILURES = Metric(
    "pointsman_telemetry_flush_failures_total", _C, "router", (), "flushes",
    "Flushes that could not be written (disk full, folder gone). Counts stay in memory and come with a later flush.",
)  # fmt: skip

METRICS = (
    REQUESTS, POOL_REQUESTS, TENANT_CLASS, LAST_ANSWER, REJECTIONS, POOL_REJECTIONS, RETRIES, FAILED_ATTEMPTS, STAGE,
    ANSWERED_SECONDS, DEADLINE, TARGET, BATCH_ROWS, ROWS, EXECUTIONS, PREDICTION_RATIO, PREDICTED, ACTUAL, INFLIGHT,
    QUEUE_ROWS, READY_REPLICAS, MODEL_OPEN, POOL_INFO, TIME_SCALE, OVERRUNS, CONFIG_INFO, ROUTERS, AGE, FLUSH_FAILURES,
)  # fmt: skip

LABELS = {
    "tenant": 'Tenant id; "" where no tenant was proven.',
    "model": 'Model name; "" where the request named none that is configured.',
    "outcome": "answered, client_gone, or the reason of the error as in the problem body.",
    "pool": 'Pool name; "" where no pool was chosen.',
    "accelerator": "Accelerator class of the pool, as in the catalogue.",
    "reason": "Reason of the error (rejections), or of the decision for one pool (pool_rejections).",
    "stage": "parse, decide, queue, batch, run or total.",
    "result": "met or missed.",
    "provider": "Execution provider or upstream kind the config asks for.",
    "emulated": "true or false.",
    "basis": "Of an emulated pool's latency profile: measured, assumed, or unknown where there is none.",
    "version": "Version of the configuration.",
}
