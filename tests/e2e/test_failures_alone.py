"""A fleet with one router and one replica: what its loss costs, a full disk, and the death of `pointsman serve`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fleet import POINTSMAN, ROOT, Fleet, eventually, start_fleet
from incident import CLIENTS, answers, incident
from load import load

pytestmark = pytest.mark.cluster

FLEET = """
pools:
  - {name: cpu, accelerator: x86-cpu, region: here, models: [mlp], backend: {threads: 1}}
tenants:
  - {id: demo}
policy_default: allow
models:
  mlp: {latency_target: 100ms, deadline: 2s}
"""
MODELS = ("mlp",)
DISK_BYTES = 1024 * 1024
RAY_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Helpers of a Ray node. When it dies they try for 60 s to tell it to a head that is dead too, then they end."""
Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """A disk of 1 MiB where the fleet below keeps its metrics; None where this user may not mount one."""
    folder = tmp_path_factory.mktemp("alone") / "state" / "run" / "metrics"
    folder.mkdir(parents=True, mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def fleet(disk: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The fleet above."""
    folder = disk.parents[2] if disk else tmp_path_factory.mktemp("alone")
    with start_fleet(FLEET, folder) as running:
        yield running


def test_a_full_disk_costs_no_request_and_no_count(fleet: Fleet, disk: Path | None, record_property: Record) -> None:
    """Where metrics cannot be written they stay in memory: scrapes give the last ones, and all once there is room."""
    if disk is None:
        pytest.skip("only root may mount the small disk that this test fills")
    filler = disk / "filler"
    with incident(fleet, "demo", models=MODELS) as seen:
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 4096)
        full = fleet.metric("pointsman_requests_total")
        time.sleep(1.5)
        assert fleet.metric("pointsman_requests_total") == full
        filler.unlink()
        seen.since_s("counted_again_s", lambda: fleet.metric("pointsman_requests_total") > full)
    record_property("figures", seen.figures)
    assert seen.tally.failed() == {}
    assert seen.counted == seen.tally.sent
    assert fleet.metric("pointsman_telemetry_flush_failures_total") > 0


def test_the_only_router_killed_is_back_with_its_totals(fleet: Fleet, record_property: Record) -> None:
    """Connections are refused until Serve has the next one, which listens only once it knows the pools."""
    (router,) = fleet.router_pids()
    total = fleet.metric("pointsman_requests_total")
    with incident(fleet, "demo", models=MODELS, after_s=2.0) as seen:
        seen.kill(router)
        seen.since_s("gone_s", lambda: not answers(fleet))
        seen.since_s("back_s", lambda: answers(fleet))
        back_s = time.monotonic()
        seen.since_s("metrics_back_s", lambda: _scraped(fleet) >= total)
    record_property("figures", seen.figures)
    broken = [each for each in seen.tally.ended if each.outcome not in ("200", "ConnectError")]
    assert {each.outcome for each in broken} <= {"ReadError", "RemoteProtocolError", "WriteError"}
    assert len(broken) <= CLIENTS
    assert {each.outcome for each in seen.tally.ended if each.started_s > back_s} == {"200"}
    refused = seen.tally.failed().get("ConnectError", 0)
    unflushed = sum(seen.at_s - 0.75 < each.ended_s < seen.at_s for each in seen.tally.ended)
    reached = seen.tally.sent - refused
    assert reached - len(broken) - unflushed <= seen.counted <= reached


def test_the_only_replica_killed_is_refused_with_a_reason_and_back(fleet: Fleet, record_property: Record) -> None:
    """No pool is left at all: 503 at once."""
    with incident(fleet, "demo", models=MODELS) as seen:
        seen.kill(*fleet.pool_pids("cpu"))
        seen.since_s("lost_s", seen.ready("cpu", 0))
        seen.since_s("back_s", seen.ready("cpu", 1))
        back_s = time.monotonic()
    record_property("figures", seen.figures)
    assert set(seen.tally.failed()) == {"503 no_ready_pool"}
    assert seen.counted == seen.tally.sent
    assert seen.tally.answered_by("cpu", back_s)


def test_nothing_outlives_a_killed_serve(fleet: Fleet, record_property: Record) -> None:
    """kill -9 of `pointsman serve` itself, under load: pools, router, metrics server and Ray end by themselves."""
    processes = fleet.processes()
    agents = {pid for title in RAY_AGENTS for pid in fleet.pids(title)}
    assert len(processes) > 5
    with load(fleet.http_url, fleet.headers("demo"), models=MODELS, after_s=0.0):
        os.kill(fleet.process.pid, signal.SIGKILL)
        at_s = time.monotonic()
        fleet.process.wait(10)
        eventually(lambda: {process.pid for process in fleet.processes()} <= agents, 60)
        gone_s = time.monotonic() - at_s
    for agent in fleet.processes():
        agent.kill()
    record_property("figures", {"processes": len(processes), "gone_s": round(gone_s, 2)})
    assert not answers(fleet)
    status = subprocess.run([POINTSMAN, "status", "--state", fleet.state], cwd=ROOT, capture_output=True, timeout=30)
    assert status.returncode == 1
    assert b"no `pointsman serve` runs" in status.stderr


def _scraped(fleet: Fleet) -> float:
    """The request total, -1 while the metrics server is away."""
    try:
        return fleet.metric("pointsman_requests_total")
    except OSError:
        return -1.0
