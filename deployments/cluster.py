"""Starts, watches and stops the Ray Serve applications of a fleet on this machine. The door to Serve's controller."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_SERVE_LOG_TO_STDERR", "0")
# What a new local cluster turns on by itself; whoever connects to one must say so, or is refused without a word.
os.environ.setdefault("RAY_AUTH_MODE", "token")
# Ray starts workers at nice 15, which suits batch jobs: whatever else the machine does would come before requests.
os.environ.setdefault("RAY_worker_niceness", "0")
# One machine needs no address but loopback; by default every Ray process listens on all interfaces.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from deployments.loopback import LOOPBACK

POLL_S = 0.1
CONNECT_TIMEOUT_S = 2.0
MIN_CPUS = 4
"""Ray's CPUs are scheduling tokens; Serve's controller and build tasks take some of them for a moment."""


class NoCluster(Exception):
    """There is no cluster to connect to. The text says so in words."""


@contextmanager
def local_cluster(address_file: Path) -> Iterator[None]:
    """A Ray cluster on this machine with Serve and no proxy, gone when the block ends. Its address is in the file."""
    context = ray.init(
        address="local",
        include_dashboard=False,
        _node_ip_address=LOOPBACK,
        num_cpus=max(MIN_CPUS, os.cpu_count() or 1),
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
        serve.shutdown()
        ray.shutdown()


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


def statuses() -> dict[str, tuple[str, str]]:
    """Application name to (status, message)."""
    found = {}
    for name, application in serve.status().applications.items():
        # The deployment knows why; the application only that one of its deployments failed.
        messages = [deployment.message for deployment in application.deployments.values()]
        message = next(filter(None, messages), application.message)
        found[name] = (str(getattr(application.status, "value", application.status)), message)
    return found


def wait_settled(
    names: list[str],
    timeout_s: float,
    on_change: Callable[[str, str, str], None],
    given_up: Callable[[], bool] = lambda: False,
) -> bool:
    """Wait until each application runs or has failed; `on_change(name, status, message)` at every change.

    True if all run; False also once `given_up()`.
    """
    seen: dict[str, str] = {}
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s and not given_up():
        now = statuses()
        for name in names:
            status, message = now.get(name, ("NOT_STARTED", ""))
            if seen.get(name) != status:
                seen[name] = status
                on_change(name, status, message)
        if all(seen[name] in {"RUNNING", "DEPLOY_FAILED", "UNHEALTHY"} for name in names):
            break
        time.sleep(POLL_S)
    return all(seen.get(name) == "RUNNING" for name in names)


def router_state() -> dict[str, Any]:
    """What one router replica sees of the fleet."""
    return dict(serve.get_app_handle("router").state.remote().result(timeout_s=5))


def placements(application: str) -> dict[str, dict[str, Any]]:
    """Where each model of a pool really runs, as one replica's runtime reports it."""
    return dict(serve.get_app_handle(application).placements.remote().result(timeout_s=5))
