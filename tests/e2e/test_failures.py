"""What a fleet of two routers and two pools loses when a part of it dies, freezes or is replaced under load."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import httpx
import psutil
import pytest
from fleet import Fleet, eventually, start_fleet
from incident import CLIENTS, incident, restart
from load import BODIES

pytestmark = pytest.mark.cluster

FLEET = """
pools:
  - {name: cpu, accelerator: x86-cpu, region: here, replicas: 2, models: [mlp, minilm], backend: {threads: 1}}
  - name: ascend
    accelerator: huawei-ascend-910b3
    region: far
    models: [mlp, minilm]
    cost: 2.0
    backend: {type: emulated, time_scale: 20.0, seed: 7}
tenants:
  - {id: anyone, labels: {pools: cpu ascend}}
  - {id: only-cpu, labels: {pools: cpu}}
  - {id: only-ascend, labels: {pools: ascend}}
policies:
  - {name: pools-of-the-tenant, when: "true", allow: tenant.labels.pools.contains(pool.name)}
models:
  mlp: {latency_target: 100ms, deadline: 2s}
  minilm: {latency_target: 200ms, deadline: 2s}
server: {routers: 2}
"""
DEADLINE_S = 2.0
MIGRATE = Path("/proc/sys/net/ipv4/tcp_migrate_req")
Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The fleet above; stopped by Ctrl-C at the end, and nothing of it may be left."""
    with start_fleet(FLEET, tmp_path_factory.mktemp("failures")) as fleet:
        yield fleet


@pytest.fixture
def fleet(running: Fleet) -> Fleet:
    """The fleet with all that belongs to it, whatever the test before did."""
    whole = {"cpu": 2, "ascend": 1}
    eventually(lambda: all(running.metric("pointsman_pool_ready_replicas", pool=p) == n for p, n in whole.items()), 90)
    eventually(lambda: running.metric("pointsman_router_processes") == 2, 90)
    return running


@pytest.fixture
def migrating() -> Iterator[bool]:
    """The kernel moves what waits for a listener that closes to the others of its port; False where it may not."""
    before = MIGRATE.read_text() if MIGRATE.exists() else ""
    try:
        MIGRATE.write_text("1")
    except OSError:
        yield before.strip() == "1"
        return
    yield True
    MIGRATE.write_text(before)


def stream_ports(fleet: Fleet, pool: str) -> list[int]:
    """Ports on which replicas of the pool now listen for routers."""
    said = {int(port) for port in re.findall(rf"pool {pool} listens on 127\.0\.0\.1:(\d+)", fleet.log())}
    listening = {
        connection.laddr.port
        for pid in fleet.pool_pids(pool)
        for connection in psutil.Process(pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    return sorted(said & listening)


def test_a_killed_replica_costs_no_request_while_its_pool_has_another(fleet: Fleet, record_property: Record) -> None:
    """kill -9 of one of two: what it held is run by the other; Serve replaces it and the routers find it."""
    before = fleet.pool_pids("cpu")
    with incident(fleet, "only-cpu") as seen:
        seen.kill(before[0])
        seen.since_s("lost_s", seen.ready("cpu", 1))
        seen.since_s("back_s", seen.ready("cpu", 2))
    record_property("figures", seen.figures)
    assert seen.tally.failed() == {}
    assert seen.counted == seen.tally.sent
    assert len(set(fleet.pool_pids("cpu")) - set(before)) == 1


def test_a_killed_pool_costs_no_request_while_another_is_eligible(fleet: Fleet, record_property: Record) -> None:
    """kill -9 of every replica of the cheaper pool: the other takes over, and the first takes back."""
    with incident(fleet, "anyone", after_s=2.0) as seen:
        seen.kill(*fleet.pool_pids("cpu"))
        seen.since_s("lost_s", seen.ready("cpu", 0))
        seen.since_s("back_s", seen.ready("cpu", 2))
        back_s = time.monotonic()
    record_property("figures", seen.figures)
    assert seen.tally.failed() == {}
    assert seen.counted == seen.tally.sent
    assert seen.tally.answered_by("ascend", seen.at_s)
    assert seen.tally.answered_by("cpu", back_s)


def test_a_killed_pool_without_another_is_refused_at_once_until_it_is_back(
    fleet: Fleet, record_property: Record
) -> None:
    """503 with a reason, within the deadline, though a pool that is not eligible stands idle."""
    with incident(fleet, "only-ascend") as seen:
        seen.kill(*fleet.pool_pids("ascend"))
        seen.since_s("lost_s", seen.ready("ascend", 0))
        seen.since_s("back_s", seen.ready("ascend", 1))
        back_s = time.monotonic()
    record_property("figures", seen.figures)
    assert set(seen.tally.failed()) == {"503 no_ready_pool"}
    assert seen.tally.longest_s() < DEADLINE_S * 3
    assert seen.counted == seen.tally.sent
    assert not seen.tally.answered_by("cpu")
    assert seen.tally.answered_by("ascend", back_s)


def test_a_frozen_replica_is_left_in_three_seconds_and_used_again_once_it_wakes(
    fleet: Fleet, record_property: Record
) -> None:
    """SIGSTOP: alive for the kernel, silent for the stream. Only what it was given fails, at its deadline."""
    frozen = fleet.pool_pids("cpu")[0]
    with incident(fleet, "only-cpu") as seen:
        seen.kill(frozen, how=signal.SIGSTOP)
        try:
            left_s = seen.since_s("left_s", seen.ready("cpu", 1))
            time.sleep(1.0)
        finally:
            os.kill(frozen, signal.SIGCONT)
        woken_s = time.monotonic()
        eventually(seen.ready("cpu", 2), 30)
        seen.figures["back_s"] = round(time.monotonic() - woken_s, 2)
    record_property("figures", seen.figures)
    assert left_s < 9.0
    assert set(seen.tally.failed()) <= {"504 backend_timeout"}
    assert seen.tally.longest_s() < DEADLINE_S * 3
    late = [each.started_s for each in seen.tally.ended if each.outcome != "200"]
    assert all(started_s < seen.at_s + left_s for started_s in late)
    assert seen.counted == seen.tally.sent
    assert frozen in fleet.pool_pids("cpu")


def test_strangers_at_a_stream_port_change_nothing(fleet: Fleet) -> None:
    """Garbage, half a handshake and silence, a hundred times: each is cut off, no request fails."""
    (port, *_) = stream_ports(fleet, "cpu")
    with incident(fleet, "only-cpu") as seen:
        strangers = []
        for number in range(100):
            stranger = socket.create_connection(("127.0.0.1", port), timeout=6)
            stranger.sendall((b"", b"PTSM\x01\x00", b"GET / HTTP/1.1\r\n\r\n" * 10)[number % 3])
            strangers.append(stranger)
        for stranger in strangers:
            with contextlib.suppress(ConnectionError):
                assert stranger.recv(4096) == b""
            stranger.close()
    assert seen.tally.failed() == {}
    assert fleet.metric("pointsman_pool_ready_replicas", pool="cpu") == 2


def test_a_rolling_restart_of_a_pool_costs_no_request(fleet: Fleet, record_property: Record) -> None:
    """Its two replicas go one after the other, for a tenant that has no other pool."""
    before = fleet.pool_pids("cpu")
    with incident(fleet, "only-cpu") as seen:
        restart(fleet, "cpu")
        seen.since_s("took_s", lambda: not set(before) & set(fleet.pool_pids("cpu")))
    record_property("figures", seen.figures)
    assert seen.tally.failed() == {}
    assert seen.counted == seen.tally.sent


def test_a_rolling_restart_of_the_routers_costs_no_request(
    fleet: Fleet, migrating: bool, record_property: Record
) -> None:
    """Kept connections are told to close, new ones find a listener, and an idle one is good for a next request."""
    before = fleet.router_pids()
    infer = f"{fleet.http_url}/v2/models/mlp/infer"
    with httpx.Client(headers=fleet.headers("anyone")) as idle:
        assert idle.post(infer, content=BODIES["mlp"]).status_code == 200
        with incident(fleet, "anyone") as seen:
            restart(fleet, "router")
            seen.since_s("took_s", lambda: not set(before) & set(fleet.router_pids()))
        assert idle.post(infer, content=BODIES["mlp"]).status_code == 200
    seen.figures["tcp_migrate_req"] = int(migrating)
    record_property("figures", seen.figures)
    # Without migration what waits to be accepted while a listener closes is reset; every client retries such a connect.
    lost = {} if migrating else {"ConnectError", "ReadError"}
    assert set(seen.tally.failed()) <= set(lost)
    assert sum(seen.tally.failed().values()) <= (0 if migrating else 5)
    assert any(each.closing for each in seen.tally.ended)
    assert seen.counted == seen.tally.sent - sum(seen.tally.failed().values())


def test_a_killed_router_costs_only_what_it_held(fleet: Fleet, record_property: Record) -> None:
    """kill -9 of the one that keeps the metrics server: at most a request of each client; totals never step back."""
    before = fleet.router_pids()
    (keeper,) = (pid for pid in before if any("router.telemetry.server" in t for t in _titles_of_children(pid)))
    with incident(fleet, "anyone") as seen, _totals(fleet) as totals:
        seen.kill(keeper)
        seen.since_s("replaced_s", lambda: set(fleet.router_pids()) - set(before))
        seen.since_s("back_s", lambda: fleet.metric("pointsman_router_processes") == 2)
    seen.figures |= {"uncounted": int(seen.tally.sent - seen.counted), "metrics_gap_s": totals.gap_s()}
    record_property("figures", seen.figures)
    failed = [each for each in seen.tally.ended if each.outcome != "200"]
    assert {each.outcome for each in failed} <= {"ReadError", "RemoteProtocolError", "ConnectError", "WriteError"}
    assert len(failed) <= CLIENTS
    assert all(each.started_s < seen.at_s + 0.5 for each in failed)
    # What ended after the dead router's last flush (every 0.25 s) is not counted; nothing is counted twice.
    unflushed = sum(seen.at_s - 0.75 < each.ended_s < seen.at_s + 0.5 for each in seen.tally.ended)
    assert seen.tally.sent - unflushed <= seen.counted <= seen.tally.sent
    assert totals.values == sorted(totals.values)
    assert totals.gap_s() < 10.0


def test_a_killed_controller_costs_nothing_and_its_successor_goes_on(fleet: Fleet, record_property: Record) -> None:
    """It carries membership. Traffic needs it not; a pool replica killed afterwards is replaced and found."""
    (controller,) = fleet.pids("ray::ServeController")
    pools = fleet.pool_pids("cpu")
    with incident(fleet, "only-cpu") as seen:
        seen.kill(controller)
        seen.since_s("controller_s", lambda: set(fleet.pids("ray::ServeController")) - {controller})
        time.sleep(1.0)
        seen.kill(pools[0])
        seen.since_s("replica_lost_s", seen.ready("cpu", 1))
        seen.since_s("replica_back_s", seen.ready("cpu", 2))
    record_property("figures", seen.figures)
    assert seen.tally.failed() == {}
    assert seen.counted == seen.tally.sent
    assert len(set(fleet.pool_pids("cpu")) - set(pools)) == 1


class _Totals:
    """Scrapes of the request total: values as they came, and when none came."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.at_s: list[float] = []

    def gap_s(self) -> float:
        """The longest time between two scrapes that were answered."""
        return round(max(b - a for a, b in pairwise(self.at_s)), 2)


@contextlib.contextmanager
def _totals(fleet: Fleet) -> Iterator[_Totals]:
    """Scrape during the block, as Prometheus would, but ten times a second."""
    totals, over = _Totals(), threading.Event()

    def scrape() -> None:
        while not over.wait(0.1):
            with contextlib.suppress(OSError):
                totals.values.append(fleet.metric("pointsman_requests_total"))
                totals.at_s.append(time.monotonic())

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield totals
    finally:
        over.set()
        thread.join()


def _titles_of_children(pid: int) -> list[str]:
    return [" ".join(child.cmdline()) for child in psutil.Process(pid).children()]
