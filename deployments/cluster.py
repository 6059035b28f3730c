"""Starts, watches and stops the Ray Serve applications of a fleet on this machine. The door to Serve's controller."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_SERVE_LOG_TO_STDERR", "0")
# What a new local cluster turns on by itself; whoever connects to one must say so, or is refused without a word.
os.environ.setdefault("RAY_AUTH_MODE", "token")
# Ray starts workers at nice 15, which suits batch jobs: whatever else the machine does would come before requests.
os.environ.setdefault("RAY_worker_niceness", "0")
# Ray's metrics of itself, which nothing here reads: in a Serve replica they cost 15 KiB of memory a second, for ever.
os.environ.setdefault("RAY_enable_metrics_collection", "0")
# One machine needs no address but loopback; by default every Ray process listens on all interfaces.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

import msgspec
import ray
from ray import serve
from ray._private import state as gcs
from ray.exceptions import RayError
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ServeDeploySchema

from deployments.loopback import LOOPBACK
from deployments.placement import Node, full, lacks

POLL_S = 0.1
CONNECT_TIMEOUT_S = 2.0
WAITING, FULL = "WAITING", "FULL"
"""Statuses of an application with a replica that no node can hold, or none now. To Serve both are DEPLOYING."""
SETTLED = {"RUNNING", "DEPLOY_FAILED", "UNHEALTHY", WAITING, FULL}
WAITING_AFTER_S, FULL_AFTER_S = 1.0, 10.0
"""How long a replica is without a node before that is said. Its own process, starting, may be what takes the room."""
MIN_CPUS = 4
"""Ray's CPUs are scheduling tokens; Serve's controller and build tasks take some of them for a moment."""


class NoCluster(Exception):
    """There is no cluster to connect to. The text says so in words."""


@contextmanager
def local_cluster(address_file: Path, resources: dict[str, float], labels: dict[str, str]) -> Iterator[None]:
    """A Ray cluster on this machine with Serve and no proxy, gone when the block ends. Its address is in the file.

    `resources` and `labels` say what Ray does not detect here by itself.
    """
    more = dict(resources)
    gpus = more.pop("GPU", None)
    context = ray.init(
        address="local",
        include_dashboard=False,
        _node_ip_address=LOOPBACK,
        num_cpus=more.pop("CPU", max(MIN_CPUS, os.cpu_count() or 1)),
        num_gpus=gpus,
        resources=more,
        labels=labels,
        log_to_driver=False,
        configure_logging=False,
    )
    try:
        serve.start(proxy_location="Disabled")
        address_file.parent.mkdir(parents=True, exist_ok=True)
        address_file.write_text(context.address_info["gcs_address"])
        yield
    finally:
        address_file.unlink(missing_ok=True)
        with _waiting_forgotten():
            serve.shutdown()
        ray.shutdown()


@contextmanager
def _waiting_forgotten() -> Iterator[None]:
    """During the block, replicas that have no node are ended.

    Serve gives each of them its whole time to drain, though nothing is there to hear it, and starts another in its
    place as long as it is not stopping itself: so again and again.
    """
    over = threading.Event()

    def forget() -> None:
        while not over.wait(POLL_S):
            for name in _without_node():
                with suppress(ValueError):  # it is gone already
                    ray.kill(ray.get_actor(name, namespace="serve"))

    thread = threading.Thread(target=forget)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def running_cluster(address_file: Path) -> Iterator[None]:
    """The cluster that wrote its address there. Raises NoCluster.

    Ray's own search ("auto") takes any cluster of the machine, and deploying to another one would end what runs there.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        address = address_file.read_text()
        host, _, port = address.rpartition(":")
        # Ray itself tries a dead address for minutes.
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except OSError as error:
        raise NoCluster(f"no `pointsman serve` runs with the state folder {address_file.parents[1]}") from error
    try:
        yield
    finally:
        ray.shutdown()


def deploy(applications: list[dict[str, Any]]) -> None:
    """Make these the fleet's applications: what is unchanged stays as it is, what is missing goes.

    Serve's public way for this is its REST API, which would need the dashboard's process; its client does the same.
    """
    schema = ServeDeploySchema(applications=applications, proxy_location="Disabled")  # type: ignore[arg-type]
    client = _get_global_client()
    assert client is not None
    client.deploy_apps(schema)


class Status(msgspec.Struct, frozen=True):
    """One application: Serve's status, WAITING or FULL, what there is to say of it, replicas that run."""

    status: str
    message: str
    running: int


def statuses() -> dict[str, Status]:
    """Every application by name. Raises ray.exceptions.RayError where Serve does not answer."""
    applications = serve.status().applications
    counts = {
        name: Counter({state: n for each in app.deployments.values() for state, n in each.replica_states.items()})
        for name, app in applications.items()
    }
    waits = _waits() if any(count["STARTING"] for count in counts.values()) else {}
    found = {}
    for name, application in applications.items():
        running = counts[name]["RUNNING"]
        # A failed deployment says why; its application only that it failed.
        told = [each.message for each in application.deployments.values() if each.message]
        status = (application.status.value, "\n".join(told) or application.message)
        found[name] = Status(*waits.get(name, status), running)
    return found


def _waits() -> dict[str, tuple[str, str]]:
    """Application name to (WAITING or FULL, words), where a replica has been without a node for a while."""
    without = _without_node()
    if not without:
        return {}
    client = _get_global_client()
    assert client is not None
    nodes = _nodes()
    found = {}
    for name, application in client.get_serve_details()["applications"].items():
        for deployment in application["deployments"].values():
            options = deployment["deployment_config"].get("ray_actor_options") or {}
            for replica in deployment["replicas"]:
                age_s = time.time() - replica["start_time_s"]
                if replica["actor_name"] not in without or age_s < WAITING_AFTER_S:
                    continue
                if words := lacks(options, nodes):
                    found[name] = (WAITING, f"waits for hardware: {words}")
                elif age_s > FULL_AFTER_S and (words := full(options, nodes)):
                    found[name] = (FULL, f"waits for hardware: {words}")
    return found


def _without_node() -> set[str]:
    """Names of the replicas' actors that have no process yet."""
    actors = gcs.actors().values()
    names = (actor["Name"] for actor in actors if actor["State"] == "PENDING_CREATION")
    return {name for name in names if name.startswith("SERVE_REPLICA::")}


def _nodes() -> list[Node]:
    free = gcs.available_resources_per_node()
    living = [node for node in ray.nodes() if node["Alive"]]
    return [Node(node["Resources"], free.get(node["NodeID"], {}), node["Labels"]) for node in living]


class Watch:
    """What became of some applications, and `on_change(name, status)` once for every change of it."""

    def __init__(self, names: list[str], on_change: Callable[[str, Status], None]) -> None:
        self._seen = dict.fromkeys(names, Status("", "", 0))
        self._full_since_s: dict[str, float] = {}
        self._on_change = on_change

    def look(self) -> None:
        """See what is so now."""
        now = statuses()
        for name, seen in self._seen.items():
            status = now.get(name, Status("NOT_STARTED", "", 0))
            if status.status != FULL:
                self._full_since_s.pop(name, None)
            elif time.monotonic() - self._full_since_s.setdefault(name, time.monotonic()) < FULL_AFTER_S:
                continue
            self._seen[name] = status
            if (seen.status, seen.message) != (status.status, status.message):
                self._on_change(name, status)

    def settled(self) -> bool:
        """Whether nothing more will come of waiting: each runs, has failed, or finds no node."""
        return all(status.status in SETTLED for status in self._seen.values())


@contextmanager
def followed(watch: Watch, period_s: float, over: threading.Event) -> Iterator[None]:
    """During the block, look every so often until it is over. What Serve does not answer now, it will later."""

    def look() -> None:
        while not over.wait(period_s):
            with suppress(RayError, RayServeException, TimeoutError):
                watch.look()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(CONNECT_TIMEOUT_S)


def wait_settled(watch: Watch, timeout_s: float, given_up: Callable[[], bool] = lambda: False) -> None:
    """Look until the watch is settled, the time is over, or `given_up()`."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s and not given_up():
        watch.look()
        if watch.settled():
            return
        time.sleep(POLL_S)


def router_state() -> dict[str, Any]:
    """What one router replica sees of the fleet."""
    return dict(serve.get_app_handle("router").state.remote().result(timeout_s=5))


def placements(application: str) -> dict[str, dict[str, Any]]:
    """Where each model of a pool really runs, as one replica's runtime reports it."""
    return dict(serve.get_app_handle(application).placements.remote().result(timeout_s=5))
