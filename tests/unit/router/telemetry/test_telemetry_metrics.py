"""What each record moves, read back through the real files."""

import resource
from pathlib import Path

import pytest

from router.core.facts import AcceleratorFacts, Emulation, PoolFacts
from router.core.record import RequestRecord
from router.telemetry import table
from router.telemetry.metrics import Metrics
from router.telemetry.store import collect

ASCEND = PoolFacts(
    "a910", AcceleratorFacts("huawei-ascend-910b3"), "cn", "cpu", True, {}, 2.0, ("minilm",), Emulation("assumed", 40.0)
)
CPU = PoolFacts("cpu", AcceleratorFacts("x86-cpu"), "eu", "openvino", False, {}, 1.0, ("minilm", "mlp"))
ANSWERED = RequestRecord(
    "r1", "search", "minilm", "answered", 200, "cpu", "x86-cpu", attempts=1, parse_s=0.00001, decide_s=0.00002,
    queue_s=0.0004, batch_s=0.0003, run_s=0.006, total_s=0.008, batch_rows=5, predicted_s=0.004, actual_s=0.007,
    deadline_met=True,
)  # fmt: skip
REFUSED = RequestRecord(
    "r2", "", "minilm", "policy_denied", 403, total_s=0.0001, rejected=(("cpu", "policy"), ("a910", "not_ready"))
)


@pytest.fixture
def metrics(tmp_path: Path):
    metrics = Metrics(tmp_path)
    metrics.configure(version="v1", tenants=["search"], models=["minilm", "mlp"], pools=[ASCEND, CPU])
    yield metrics
    metrics.close()


def totals(folder: Path, metric: table.Metric) -> dict:
    return {labels: values for labels, values in collect(folder, 0.0)[0].get(metric.key, {}).items() if any(values)}


def gauges(folder: Path, metric: table.Metric) -> dict:
    return {labels: values[0] for labels, values in collect(folder, 0.0)[1].get(metric.key, {}).items()}


def test_an_answer_is_counted_once_under_its_tenant_pool_and_class(metrics, tmp_path):
    """One record moves requests, pool requests, tenant class, deadline and target by one."""
    metrics.observe(ANSWERED)
    metrics.flush()
    assert totals(tmp_path, table.REQUESTS) == {("search", "minilm", "answered"): [1]}
    assert totals(tmp_path, table.POOL_REQUESTS) == {("cpu", "minilm", "answered"): [1]}
    assert totals(tmp_path, table.TENANT_CLASS) == {("search", "x86-cpu"): [1]}
    assert totals(tmp_path, table.DEADLINE) == {("cpu", "minilm", "met"): [1]}
    assert totals(tmp_path, table.TARGET) == {("cpu", "minilm", "missed"): [1]}
    assert totals(tmp_path, table.RETRIES) == totals(tmp_path, table.REJECTIONS) == {}


@pytest.mark.parametrize(
    ("stage", "bound"),
    [("parse", 0.00001), ("decide", 0.00005), ("queue", 0.0005), ("batch", 0.0005), ("run", 0.0075), ("total", 0.01)],
)
def test_a_stage_lands_in_the_first_bucket_that_holds_it(metrics, tmp_path, stage, bound):
    """Bounds are inclusive, as Prometheus has them; the sum is kept beside."""
    metrics.observe(ANSWERED)
    metrics.flush()
    cell = totals(tmp_path, table.STAGE)["cpu", "minilm", stage]
    assert [table.SECONDS_BUCKETS[i] for i, n in enumerate(cell[:-2]) if n] == [bound]
    assert cell[-1] == getattr(ANSWERED, f"{stage}_s")


def test_what_is_beyond_the_last_bucket_is_counted_in_infinity(metrics, tmp_path):
    """Nothing observed is lost."""
    metrics.observe(RequestRecord("r", "search", "mlp", "answered", 200, "cpu", attempts=1, total_s=99.0))
    metrics.flush()
    assert totals(tmp_path, table.STAGE)["cpu", "mlp", "total"][-2:] == [1, 99.0]


def test_a_stage_not_reached_is_not_observed(metrics, tmp_path):
    """A refused request has no queue, batch or run, and no pool."""
    metrics.observe(REFUSED)
    metrics.flush()
    assert set(totals(tmp_path, table.STAGE)) == {("", "minilm", "total")}


def test_batch_rows_and_the_ratio_of_prediction_are_observed(metrics, tmp_path):
    """5 rows fall under 8; 7 ms for 4 predicted is 1.75, under 2."""
    metrics.observe(ANSWERED)
    metrics.flush()
    rows = totals(tmp_path, table.BATCH_ROWS)["cpu", "minilm"]
    ratio = totals(tmp_path, table.PREDICTION_RATIO)["cpu", "minilm"]
    assert (rows[table.ROWS_BUCKETS.index(8)], rows[-1]) == (1, 5)
    assert (ratio[table.RATIO_BUCKETS.index(2.0)], ratio[-1]) == (1, 1.75)
    assert totals(tmp_path, table.PREDICTED) == {("cpu", "minilm"): [0.004]}
    assert totals(tmp_path, table.ACTUAL) == {("cpu", "minilm"): [0.007]}


def test_a_refusal_is_counted_with_the_reason_of_each_pool(metrics, tmp_path):
    """Without a tenant the label is empty; no pool is charged with a deadline."""
    metrics.observe(REFUSED)
    metrics.flush()
    assert totals(tmp_path, table.REQUESTS) == {("", "minilm", "policy_denied"): [1]}
    assert totals(tmp_path, table.REJECTIONS) == {("minilm", "policy_denied"): [1]}
    assert totals(tmp_path, table.POOL_REJECTIONS) == {("cpu", "policy"): [1], ("a910", "not_ready"): [1]}
    assert totals(tmp_path, table.POOL_REQUESTS) == totals(tmp_path, table.DEADLINE) == {}


def test_a_failure_after_dispatch_is_a_missed_deadline_but_no_rejection(metrics, tmp_path):
    """Three dispatches are two retries, on the pool that came last."""
    metrics.observe(RequestRecord("r", "search", "mlp", "backend_lost", 502, "cpu", attempts=3, total_s=0.1))
    metrics.flush()
    assert totals(tmp_path, table.RETRIES) == {("cpu",): [2]}
    assert totals(tmp_path, table.DEADLINE) == {("cpu", "mlp", "missed"): [1]}
    assert totals(tmp_path, table.REJECTIONS) == {}


def test_a_request_tried_once_and_then_without_a_pool_still_says_why(metrics, tmp_path):
    """The reasons of the final decision count whatever the number of attempts."""
    metrics.observe(RequestRecord("r", "search", "mlp", "no_ready_pool", 503, attempts=1, rejected=(("cpu", "tried"),)))
    metrics.flush()
    assert totals(tmp_path, table.POOL_REJECTIONS) == {("cpu", "tried"): [1]}


def test_a_client_that_hung_up_is_neither_met_nor_missed(metrics, tmp_path):
    """It is counted by outcome alone."""
    metrics.observe(RequestRecord("r", "search", "mlp", "client_gone", 499, "cpu", attempts=1, total_s=0.1))
    metrics.flush()
    assert totals(tmp_path, table.DEADLINE) == totals(tmp_path, table.TARGET) == {}
    assert totals(tmp_path, table.POOL_REQUESTS) == {("cpu", "mlp", "client_gone"): [1]}


def test_what_configuration_does_not_name_is_other(metrics, tmp_path):
    """A hundred strangers make one series."""
    for i in range(100):
        metrics.observe(RequestRecord("r", f"t{i}", f"m{i}", "answered", 200, f"p{i}", attempts=1))
    metrics.flush()
    assert totals(tmp_path, table.REQUESTS) == {("other", "other", "answered"): [100]}
    assert totals(tmp_path, table.POOL_REQUESTS) == {("other", "other", "answered"): [100]}
    assert totals(tmp_path, table.TENANT_CLASS) == {("other", "other"): [100]}


def test_reasons_without_end_make_a_bounded_number_of_series(metrics, tmp_path):
    """A replica that invents reasons cannot fill the memory of Prometheus."""
    for i in range(1000):
        metrics.observe(RequestRecord("r", "search", "mlp", f"reason-{i}", 500, "cpu", attempts=1))
    metrics.flush()
    counted = totals(tmp_path, table.REQUESTS)
    assert len(counted) < 100
    assert sum(values[0] for values in counted.values()) == 1000


def test_series_of_configured_pools_start_at_zero(metrics, tmp_path):
    """A rate then sees the first request."""
    metrics.flush()
    assert collect(tmp_path, 0.0)[0][table.POOL_REQUESTS.key]["a910", "minilm", "answered"] == [0]


def test_a_reload_keeps_totals_and_drops_gauges_of_what_is_gone(metrics, tmp_path):
    """The new tenant counts under its own name from then on."""
    metrics.observe(ANSWERED)
    metrics.set_pool("a910", inflight=1, ready_replicas=1, queue_rows={})
    metrics.configure(version="v2", tenants=["ads"], models=["minilm"], pools=[CPU])
    metrics.observe(RequestRecord("r", "ads", "minilm", "answered", 200, "cpu", attempts=1))
    metrics.flush()
    assert totals(tmp_path, table.REQUESTS) == {
        ("search", "minilm", "answered"): [1],
        ("ads", "minilm", "answered"): [1],
    }
    assert gauges(tmp_path, table.CONFIG_INFO) == {("v2",): 1}
    assert gauges(tmp_path, table.POOL_INFO) == {("cpu", "x86-cpu", "openvino", "false"): 1}
    assert gauges(tmp_path, table.INFLIGHT) == {}


def test_gauges_hold_the_last_value_and_a_queue_that_emptied_says_zero(metrics, tmp_path):
    """Only configured pools have gauges."""
    metrics.set_pool("cpu", inflight=3, ready_replicas=2, queue_rows={"mlp": 7, "minilm": 1})
    metrics.set_pool("cpu", inflight=4, ready_replicas=2, queue_rows={"mlp": 5})
    metrics.set_pool("unknown", inflight=9, ready_replicas=9, queue_rows={})
    metrics.flush()
    assert gauges(tmp_path, table.INFLIGHT) == {("cpu",): 4}
    assert gauges(tmp_path, table.READY_REPLICAS) == {("cpu",): 2}
    assert gauges(tmp_path, table.QUEUE_ROWS) == {("cpu", "mlp"): 5, ("cpu", "minilm"): 0}


def test_a_flush_that_cannot_write_keeps_counting_and_is_made_good(metrics, tmp_path, caplog):
    """A real limit on file size stands in for a full disk: warned of once, counted each time, nothing lost."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    metrics.observe(ANSWERED)
    assert metrics.flush()
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        metrics.observe(ANSWERED)
        assert [metrics.flush(), metrics.flush()] == [False, False]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert totals(tmp_path, table.REQUESTS) == {("search", "minilm", "answered"): [1]}
    assert metrics.flush()
    assert totals(tmp_path, table.REQUESTS) == {("search", "minilm", "answered"): [2]}
    assert totals(tmp_path, table.FLUSH_FAILURES) == {(): [2]}
    assert len(caplog.records) == 1


def test_a_folder_that_is_swept_away_comes_back_with_all_totals(metrics, tmp_path):
    """One flush fails, the next writes everything under a new name, counted once."""
    metrics.observe(ANSWERED)
    metrics.flush()
    for path in tmp_path.iterdir():
        path.unlink()
    assert [metrics.flush(), metrics.flush()] == [False, True]
    assert totals(tmp_path, table.REQUESTS) == {("search", "minilm", "answered"): [1]}


def test_an_emulated_pool_shows_whose_times_it_keeps_and_a_real_one_has_no_such_gauge(metrics, tmp_path):
    """The value is the time scale, the label the basis: an assumed time cannot pass for a measured one."""
    metrics.flush()
    assert gauges(tmp_path, table.TIME_SCALE) == {("a910", "assumed"): 40.0}
