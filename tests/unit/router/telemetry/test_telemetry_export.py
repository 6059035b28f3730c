"""The text of /metrics for a fixed sequence, against a golden file, promtool and prometheus_client's own parsers."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from router.core.facts import AcceleratorFacts, Emulation, PoolFacts
from router.core.record import RequestRecord
from router.telemetry.export import registry
from router.telemetry.metrics import Metrics
from router.telemetry.table import METRICS

GOLDEN = Path(__file__).parents[3] / "golden" / "metrics.txt"
POOLS = [
    PoolFacts(
        "a910",
        AcceleratorFacts("huawei-ascend-910b3"),
        "cn",
        "cpu",
        True,
        {},
        2.0,
        ("minilm",),
        Emulation("assumed", 40.0),
    ),
    PoolFacts("cpu", AcceleratorFacts("x86-cpu"), "eu", "openvino", False, {}, 1.0, ("minilm",)),
]
RECORDS = [
    RequestRecord(
        "r1", "search", "minilm", "answered", 200, "cpu", "x86-cpu", attempts=2, parse_s=0.0000625, decide_s=0.00003125,
        queue_s=0.0005, batch_s=0.0005, run_s=0.00625, total_s=0.0078125, batch_rows=5, predicted_s=0.00390625,
        actual_s=0.0078125, deadline_met=True, target_met=True,
    ),
    RequestRecord("r2", "", "", "unauthenticated", 401, total_s=0.0001220703125),
    RequestRecord("r3", "search", "minilm", "policy_denied", 403, total_s=0.000244140625, parse_s=0.0001220703125,
                  rejected=(("a910", "policy"), ("cpu", "policy"))),
    RequestRecord("r4", 'quo"te\\', "minilm", "backend_lost", 502, "a910", attempts=1, total_s=0.5,
                  failed=(("a910", "backend_lost"),)),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path):
    """A router that died and one that lives, on a clock that stands still."""
    for live in (False, True):
        metrics = Metrics(tmp_path)
        metrics.configure(version="v1", tenants=["search", 'quo"te\\'], models=["minilm"], pools=POOLS)
        metrics.set_pool("cpu", inflight=3, ready_replicas=2, queue_rows={"minilm": 7}, open_models=["minilm"])
        metrics.set_overruns("a910", "replica-1", 4 if live else 3)
        for record in RECORDS:
            metrics.observe(record)
        metrics.flush()
        if not live:
            metrics.close()
    for lock in tmp_path.glob("*.lock"):
        os.utime(lock, (100.0, 100.0))
    yield tmp_path
    metrics.close()


def test_the_text_is_the_golden_one(folder):
    """After a wanted change UPDATE_GOLDEN=1 rewrites it: then read the diff."""
    text = generate_latest(registry(folder, lambda: 100.5)).decode()
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool_has_nothing_to_say(folder):
    """Names, suffixes, help texts and histograms follow Prometheus' own rules."""
    text = generate_latest(registry(folder, lambda: 100.5))
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_openmetrics_is_parsed_and_holds_the_same_metrics(folder):
    """The strict parser checks units, buckets and suffixes."""
    text = generate_openmetrics(registry(folder, lambda: 100.5)).decode()
    names = [family.name for family in text_string_to_metric_families(text)]
    assert names == [metric.name.removesuffix("_total") for metric in METRICS]


def test_one_metric_can_be_asked_for_by_name(folder):
    """As prometheus_client's name[] parameter does."""
    restricted = registry(folder, lambda: 100.5).restricted_registry(["pointsman_inflight"])
    text = generate_latest(restricted).decode()
    assert text.splitlines()[-1] == 'pointsman_inflight{pool="cpu"} 3.0'
    assert "pointsman_requests" not in text
