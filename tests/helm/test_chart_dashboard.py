"""The dashboard as it is written."""

import json
import re
import runpy

import chart

from router.telemetry.table import LABELS, METRICS

SCRIPT = runpy.run_path(str(chart.ROOT / "scripts" / "overview_dashboard.py"))


def test_the_dashboard_is_that_of_its_source():
    """Written by scripts/overview_dashboard.py; one panel, one place, one number."""
    written = json.loads(SCRIPT["FILE"].read_text())
    assert written == SCRIPT["dashboard"](), "run: python scripts/overview_dashboard.py"
    places = [tuple(panel["gridPos"].values()) for panel in written["panels"]]
    assert len(set(places)) == len(places)


def test_it_shows_only_metrics_and_labels_of_the_table():
    """Prometheus would not say that it knows no such metric."""
    names = {metric.name for metric in METRICS}
    expressions = [target["expr"] for panel in SCRIPT["dashboard"]()["panels"] for target in panel.get("targets", ())]
    for expression in expressions:
        assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"pointsman_\w+", expression)} <= names
        labels = {word for group in re.findall(r"(?:by|on) \(([^)]*)\)", expression) for word in group.split(", ")}
        assert labels <= LABELS.keys() | {"le", "instance"}, expression


def test_the_chart_hands_it_to_grafana():
    """As a ConfigMap with the label that Grafana's sidecar looks for."""
    (found,) = (d for d in chart.documents("cpu", "dashboard.enabled=true") if d["kind"] == "ConfigMap")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(found["data"]["overview.json"])["uid"] == "pointsman-overview"
