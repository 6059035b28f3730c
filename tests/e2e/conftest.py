"""One fleet for all tests here, see example.py."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import httpx
import pytest
import yaml
from example import example_fleet
from fleet import ROOT, Fleet, start_fleet

sys.path.insert(0, str(ROOT))  # examples/ is no part of what is installed


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The example fleet, running."""
    with start_fleet(example_fleet(), tmp_path_factory.mktemp("fleet")) as running:
        yield running


@pytest.fixture(scope="session")
def pools(fleet: Fleet) -> list[str]:
    """Names of the fleet's pools. The tenant `only-NAME` may use that one alone."""
    return [pool["name"] for pool in yaml.safe_load(fleet.config.read_text())["pools"]]


@pytest.fixture(scope="session")
def client(fleet: Fleet) -> Iterator[httpx.Client]:
    """A client of the fleet without a key."""
    with httpx.Client(base_url=fleet.http_url, timeout=30) as opened:
        yield opened


@pytest.fixture(scope="module")
def nothing_lost(fleet: Fleet) -> Iterator[None]:
    """For a module: afterwards the same router lives on, holds no lease, and logged no fault of its own."""
    pids = fleet.router_pids()
    yield
    assert fleet.router_pids() == pids
    fleet.flushed()
    assert fleet.metric("pointsman_inflight") == 0
    assert fleet.metric("pointsman_requests_total", outcome="internal") == 0
    assert "Traceback" not in fleet.log()
