"""One fleet for all tests here: the example fleet as it stands, with ports of its own and two more tenants."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from fleet import ROOT, Fleet, start_fleet

from deployments import environments

MAX_BODY_BYTES = 2**20
MORE_TENANTS = [
    {"id": "batch", "priority": "batch", "labels": {"hardware": "any"}},
    {"id": "nobody", "labels": {"hardware": "none"}},
]


def openvino_runs() -> bool:
    """Whether this machine can run the example's second provider."""
    try:
        name = environments.needed("openvino")
        return name is not None and environments.runtime_env(name) is not None
    except environments.EnvironmentProblem:
        return False


def example_fleet() -> str:
    """examples/fleet-local.yaml, less what this machine cannot run, with a small limit on bodies."""
    config = yaml.safe_load((ROOT / "examples" / "fleet-local.yaml").read_text())
    if not openvino_runs():
        config["pools"] = [pool for pool in config["pools"] if pool["backend"].get("provider") != "openvino"]
    config["tenants"] += MORE_TENANTS
    config["server"] = {"http": {"max_body_bytes": MAX_BODY_BYTES}}
    return yaml.safe_dump(config, sort_keys=False)


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The example fleet, running."""
    with start_fleet(example_fleet(), tmp_path_factory.mktemp("fleet")) as running:
        yield running
