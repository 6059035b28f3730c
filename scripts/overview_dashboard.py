"""Writes helm/dashboards/overview.json, for Grafana, from overview.yaml: `python scripts/overview_dashboard.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parents[1] / "helm" / "dashboards" / "overview.json"
WIDTH, HEIGHT, COLUMNS = 8, 8, 3
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
SHORT = {"POOL": 'pool=~"$pool",model=~"$model"', "RATE": "[$__rate_interval]"}
VARIABLES = {"tenant": "pointsman_requests_total", "model": "pointsman_requests_total", "pool": "pointsman_pool_info"}
"""Name, and so label, to the metric whose values it takes."""
Json = dict[str, Any]


def dashboard() -> Json:
    """The dashboard in Grafana's form."""
    source = yaml.safe_load(FILE.with_suffix(".yaml").read_text())
    panels: list[Json] = []
    for row, (title, members) in enumerate(source["rows"].items()):
        y = row * (HEIGHT + 1)
        place = {"h": 1, "w": WIDTH * COLUMNS, "x": 0, "y": y}
        panels.append({"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": place})
        for column, panel in enumerate(members):
            place = {"h": HEIGHT, "w": WIDTH, "x": column * WIDTH, "y": y + 1}
            panels.append((table if panel.get("table") else graph)(panel) | {"gridPos": place})
    return {
        "uid": source["uid"], "title": source["title"], "tags": ["pointsman"], "schemaVersion": 39, "version": 1,
        "editable": True, "refresh": "10s", "time": {"from": "now-1h", "to": "now"}, "timezone": "",
        "templating": {"list": variables()}, "annotations": {"list": []}, "links": [],
        "panels": [panel | {"id": number} for number, panel in enumerate(panels, start=1)],
    }  # fmt: skip


def graph(panel: Json) -> Json:
    """Lines over time, or areas one upon the other."""
    custom = {"fillOpacity": 0} if not panel.get("stacked") else {"fillOpacity": 20, "stacking": {"mode": "normal"}}
    return common(panel, "timeseries", {"range": True}) | {
        "fieldConfig": {"defaults": {"unit": panel.get("unit", "none"), "custom": custom}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}},
    }


def table(panel: Json) -> Json:
    """The labels of one query, now."""
    hidden = {"id": "organize", "options": {"excludeByName": {"Time": True, "Value": True}}}
    return common(panel, "table", {"instant": True, "format": "table"}) | {"transformations": [hidden]}


def common(panel: Json, kind: str, query: Json) -> Json:
    """What every kind of panel has."""
    targets = []
    for letter, (legend, expression) in zip("ABCDEF", panel["queries"].items(), strict=False):
        for short, long in SHORT.items():
            expression = expression.replace(short, long)
        targets.append({"refId": letter, "expr": expression, "legendFormat": legend, "datasource": DATASOURCE} | query)
    says = panel.get("says", "")
    return {"type": kind, "title": panel["title"], "description": says, "datasource": DATASOURCE, "targets": targets}


def variables() -> list[Json]:
    """Choices at the top: Prometheus, then tenant, model and pool, each any number of them or all."""
    source = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    return [source, *(variable(name, metric) for name, metric in VARIABLES.items())]


def variable(name: str, metric: str) -> Json:
    """A choice among the values of a label."""
    query = f"label_values({metric}, {name})"
    return {
        "name": name, "label": name, "type": "query", "datasource": DATASOURCE, "definition": query,
        "query": {"query": query, "refId": name}, "refresh": 2, "sort": 1, "multi": True, "includeAll": True,
        "allValue": ".*", "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip


if __name__ == "__main__":
    FILE.write_text(json.dumps(dashboard(), indent=1) + "\n")
