"""The fleet that tests here share: the example as it stands, and tenants that try its rules or hold on to one pool."""

from __future__ import annotations

import yaml
from fleet import ROOT

from deployments import environments

MAX_BODY_BYTES = 2**20
MORE_TENANTS = [
    {"id": "batch", "priority": "batch", "labels": {"hardware": "any"}},
    {"id": "nobody", "labels": {"hardware": "none"}},
]
PINNED_RULES = [
    {"name": "pinned-tenants-use-the-fleet", "when": '"pool" in tenant.labels', "allow": "true"},
    {"name": "pinned-to-one-pool", "when": '"pool" in tenant.labels', "require": "pool.name == tenant.labels.pool"},
]


def openvino_runs() -> bool:
    """Whether this machine can run the example's second provider."""
    try:
        return not environments.needed("openvino") or bool(environments.runtime_env("openvino"))
    except environments.EnvironmentProblem:
        return False


def example_fleet() -> str:
    """examples/fleet-local.yaml, less what this machine cannot run, with a small limit on bodies."""
    config = yaml.safe_load((ROOT / "examples" / "fleet-local.yaml").read_text())
    if not openvino_runs():
        config["pools"] = [pool for pool in config["pools"] if pool["backend"].get("provider") != "openvino"]
    pinned = [
        {"id": f"only-{pool['name']}", "labels": {"hardware": "any", "pool": pool["name"]}} for pool in config["pools"]
    ]
    config["tenants"] += MORE_TENANTS + pinned
    config["policies"] += PINNED_RULES
    config["server"] = {"http": {"max_body_bytes": MAX_BODY_BYTES}}
    return yaml.safe_dump(config, sort_keys=False)
