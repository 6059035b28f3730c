"""docs/policy.md: its variables are those there are, its rules load, and they do what the page says."""

import pytest
import yaml
from docs_pages import ROOT, blocks, table

from router.config.build import policy_table
from router.config.load import load
from router.policy.variables import POOL_VARIABLES, REQUEST_VARIABLES

PAGE = ROOT / "docs" / "policy.md"
FLEET = """
pools:
  - {name: eu-cpu, accelerator: x86-cpu, region: eu-west, models: [m]}
  - {name: cn-h20, accelerator: nvidia-h20, region: cn-north, models: [m]}
  - {name: cn-h100, accelerator: nvidia-h100-sxm, region: cn-north, models: [m]}
  - {name: cn-licensed, accelerator: nvidia-h100-sxm, region: cn-north, models: [m], labels: {bis-licence: "1"}}
  - {name: cn-own, accelerator: own-asic, region: cn-north, models: [m]}
accelerators:
  own-asic: {source: us, as_of: 2026-01-01, provider: cpu}
tenants:
  - {id: search, labels: {}}
  - {id: other, labels: {data: eu}}
"""
NOW_S = 1.8e9


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """(tenant) to verdicts by pool, under the rules of the page; `other` may use all, so that `require` shows."""
    fleet = yaml.safe_load(FLEET)
    (rules,) = blocks(PAGE, "yaml")
    fleet |= yaml.safe_load(rules)
    fleet["policies"].append({"name": "rest", "when": 'tenant.id == "other"', "allow": "true"})
    path = tmp_path_factory.mktemp("policy") / "fleet.yaml"
    path.write_text(yaml.safe_dump(fleet, default_flow_style=None).replace("2023-11-17", "'2023-11-17'"))
    rows = policy_table(load(path), {"m": ["1"]})
    rows.fill(NOW_S)
    return lambda tenant, priority=0: rows.lookup(tenant, "m", "", priority).verdicts


def test_the_variables_of_the_page_are_those_there_are():
    """With their types."""
    types = {"STRING": "string", "DOUBLE": "double", "BOOL": "bool"}
    there = {
        path: types.get(str(kind).rpartition(".")[2], "map")
        for path, kind in (REQUEST_VARIABLES | POOL_VARIABLES).items()
    }
    told = {}
    for names, kind, _ in table(PAGE, "variable"):
        told |= dict.fromkeys(names.replace("`", "").split(", "), kind)
    assert told == there


def test_allow_opens_what_nothing_denies(verdicts):
    """The H100 in China is denied without the licence label; one whose export class nobody stated is denied too."""
    allowed = {pool for pool, verdict in verdicts("search").items() if verdict.allowed}
    assert allowed == {"eu-cpu", "cn-h20", "cn-licensed"}
    assert "unknown" in verdicts("search")["cn-own"].reason


def test_require_keeps_a_tenant_where_its_data_may_be(verdicts):
    """Only pools in the EU, and the reason of the page is given."""
    found = verdicts("other")
    assert {pool for pool, verdict in found.items() if verdict.allowed} == {"eu-cpu"}
    assert found["cn-h20"].reason == "data of this tenant may not leave the EU"


def test_prefer_adds_its_weight_for_those_who_wait(verdicts):
    """And opens nothing."""
    assert verdicts("search", 0)["eu-cpu"].prefer == 0.5
    assert verdicts("search", 2)["eu-cpu"].prefer == 0.0
