"""The table and the page written from it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from router.telemetry.docs import EXAMPLES, GROUPS, page
from router.telemetry.table import LABELS, METRICS, Kind

ROOT = Path(__file__).parents[4]
QUERIES = [query for queries in EXAMPLES.values() for query in queries]


def test_the_page_is_what_the_table_says():
    """Stale? `python -m router.telemetry.docs > docs/metrics.md`."""
    assert (ROOT / "docs" / "metrics.md").read_text() == page()


def test_each_metric_is_on_the_page_once_and_each_label_is_explained():
    """No group, metric or label without words."""
    assert [page().count(f"### {metric.name}\n") for metric in METRICS] == [1] * len(METRICS)
    assert {metric.group for metric in METRICS} == set(GROUPS) == set(EXAMPLES)
    assert {label for metric in METRICS for label in metric.labels} == set(LABELS)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_say_kind_and_unit(metric):
    """Counters end with _total, times with _seconds; only histograms have buckets, and they ascend."""
    assert re.fullmatch(r"pointsman_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert metric.name.removesuffix("_total").endswith("_seconds") == (metric.unit == "seconds")
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))


def test_keys_in_the_files_are_unlike():
    """Two metrics never share a series."""
    assert len({metric.key for metric in METRICS}) == len(METRICS)


@pytest.mark.parametrize("query", QUERIES)
def test_examples_name_metrics_that_exist(query):
    """With the suffixes a histogram is shown with."""
    shown = {metric.name + suffix for metric in METRICS for suffix in ("", "_bucket", "_sum", "_count")}
    assert set(re.findall(r"pointsman_\w+", query)) <= shown


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_examples_are_valid_promql(tmp_path):
    """Checked by Prometheus' own parser, as recording rules."""
    rules = "".join(f"  - record: example:{i}\n    expr: |\n      {query}\n" for i, query in enumerate(QUERIES))
    (tmp_path / "rules.yml").write_text(f"groups:\n- name: examples\n  rules:\n{rules}")
    done = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yml"], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
