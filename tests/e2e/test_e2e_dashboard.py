"""The chart's dashboard against a real Prometheus that scraped this fleet."""

import json
import re
import shutil

import pytest
from fleet import ROOT
from scraped import prometheus, scrape, traffic

pytestmark = pytest.mark.cluster

QUIET = {"Retries, by the pool that took over"}
"""Panels for which a healthy fleet has nothing to show."""


def asked(expression: str, choices: dict[str, str]) -> str:
    """What Grafana sends."""
    for variable, value in choices.items():
        expression = expression.replace(f"${variable}", value)
    assert "$" not in expression
    return expression


@pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed")
@pytest.mark.parametrize("pool", [".*", "a910-sh|cpu"])
def test_every_expression_of_the_dashboard_finds_data(fleet, client, tmp_path, pool):
    """With all pools chosen and with some; each variable's own query finds the values to choose from."""
    dashboard = json.loads((ROOT / "helm" / "dashboards" / "overview.json").read_text())
    choices = {"__rate_interval": "1m", "tenant": ".*", "model": "minilm|mlp", "pool": pool}
    panels = {
        p["title"]: [target["expr"] for target in p["targets"]] for p in dashboard["panels"] if p["type"] != "row"
    }
    assert len(panels) > 15
    with prometheus(fleet, tmp_path) as ask:
        scrape(ask, lambda: traffic(fleet, client))
        empty = {
            title
            for title, expressions in panels.items()
            for expression in expressions
            if not ask(asked(expression, choices))
        }
        for variable in dashboard["templating"]["list"][1:]:
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"]).groups()
            assert ask(f'group by ({label}) ({metric}{{{label}!=""}})')
    assert empty <= QUIET
