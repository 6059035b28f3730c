"""What `pointsman serve` and its companions do: check, start, show, wait, stop."""

from __future__ import annotations

import errno
import json
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from deployments.backends.registry import kinds
from deployments.environments import EnvironmentProblem
from deployments.keys import LocalKeys, admin_key, local_keys, stream_key
from deployments.placement import PlacementError, place
from deployments.pool_checks import pool_problems
from deployments.words import SHOWN, say, state_words, table, times
from models.repository import load_store
from router.config.load import load
from router.config.problems import ConfigError, Problem
from router.config.settings import ServerSettings, Settings

if TYPE_CHECKING:
    from deployments.cluster import Status

START_TIMEOUT_S = 120.0
READY_TIMEOUT_S = 30.0
WATCH_PERIOD_S = 2.0
GENERATIONS = "generations.json"
"""In the run folder: how often each application of the running fleet was restarted on purpose."""
CLUSTER = "cluster"
"""In the run folder: address of the running fleet's Ray."""


def known_models(state: Path) -> set[str] | None:
    """Names in the local model store; None where none was built yet."""
    store = state / "models"
    return set(load_store(store)) if store.is_dir() else None


def checked(config: Path, state: Path) -> Settings:
    """The fleet file's settings, whose tenants file may still be absent, with a place for every pool.

    Raises ConfigError with the YAML path of each fault.
    """
    settings = load(config, known_models(state), kinds(), tenants_file_may_be_absent=True)
    problems = []
    for index, pool in enumerate(settings.pools):
        try:
            place(pool)
        except PlacementError as error:
            problems.append(Problem(str(config), 1, f"pools[{index}]", str(error)))
    store = Path(settings.model_store) if settings.model_store else state / "models"
    problems += pool_problems(settings, store, str(config))
    if problems:
        raise ConfigError(problems)
    return settings


def serve(config: Path, state: Path, resources: dict[str, float], labels: dict[str, str]) -> int:
    """Start the fleet, print how to use it, wait for Ctrl-C, stop it. Returns the exit status.

    `resources` and `labels`: what this machine has and Ray does not detect.
    """
    started_s = time.monotonic()
    settings = checked(config, state)
    if taken := _taken(settings.server):
        say(f"{taken} is taken: stop what listens there, or set another port under `server:` in {config}")
        return 2
    run = state / "run"
    keys = local_keys(settings, run)
    settings = load(config, known_models(state), kinds())
    stream_key(settings, run)
    (run / GENERATIONS).unlink(missing_ok=True)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    say("starting Ray")
    from deployments import cluster  # sets Ray's environment, so before all that imports Ray

    # A second of imports and of another process, while Ray starts.
    ahead = ThreadPoolExecutor(1, "ahead").submit(_applications, settings, state)
    with cluster.local_cluster(run / CLUSTER, resources, labels):
        signal.signal(signal.SIGINT, lambda *_: stop.set())
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        try:
            applications = ahead.result()
        except EnvironmentProblem as error:
            say(str(error))
            return 2
        say(f"starting {len(settings.pools)} pools and {settings.server.routers} router")
        cluster.deploy(applications)
        watch = cluster.Watch([application["name"] for application in applications], _show_status)
        cluster.wait_settled(watch, START_TIMEOUT_S, stop.is_set)
        ready = _wait_listening(settings, stop)
        if not stop.is_set():
            click.echo(_pool_table(settings))
            click.echo(_how_to_use(settings, keys))
            state_now = "ready" if ready else "started, with no pool ready,"
            say(f"{state_now} after {time.monotonic() - started_s:.1f} s; Ctrl-C stops everything")
        with cluster.followed(watch, WATCH_PERIOD_S, stop):
            while not stop.wait(0.2):
                pass
        say("stopping")
    say("stopped")
    return 0


def restart(name: str, config: Path, state: Path) -> None:
    """Raise the generation of one application and deploy: Serve replaces its replicas, the others stay."""
    from deployments import cluster  # first, as in `serve`

    from deployments import app  # isort: skip

    settings = load(config, known_models(state), kinds())
    names = {pool.facts.name for pool in settings.pools} | {app.ROUTER_APP}
    if name not in names:
        raise click.ClickException(f"nothing is called {name!r}; there are: {', '.join(sorted(names))}")
    file = state / "run" / GENERATIONS
    generations = json.loads(file.read_text()) if file.exists() else {}
    target = app.ROUTER_APP if name == app.ROUTER_APP else app.app_name(name)
    generations[target] = generations.get(target, 0) + 1
    with _running_fleet(state):
        applications = app.applications(settings, app.default_paths(settings, state), generations)
        cluster.deploy(applications)
        file.write_text(json.dumps(generations))
        time.sleep(1.0)
        cluster.wait_settled(cluster.Watch([target], _show_status), START_TIMEOUT_S)


def status(state: Path) -> str:
    """The fleet as a router sees it, as a table; of a pool that does not run, why."""
    from deployments import cluster  # first, as in `serve`

    from deployments.membership import app_name  # isort: skip

    with _running_fleet(state):
        pools = cluster.router_state()["pools"]
        running = cluster.statuses()
    rows = []
    for p in pools:
        found = running.get(app_name(p["name"]))
        words = state_words(found.status, found.message, found.running) if found else "not started"
        models = ", ".join(f"{name} {m['variant']}".strip() for name, m in p["models"].items())
        rows.append(
            (p["name"], p["accelerator"], "yes" if p["emulated"] else "", times(p["emulation"]), models,
             p["ready_replicas"], p["inflight"], p["capacity"], words)
        )  # fmt: skip
    head = ("pool", "class", "emulated", "times", "models and variants", "ready", "in flight", "capacity", "state")
    return table(head, rows)


def operator_key(state: Path) -> str:
    """The admin key that `serve` made there. Raises click.ClickException if it made none."""
    key = admin_key(state / "run")
    if not key:
        raise click.ClickException("no admin key was made here: give one with --admin-key or POINTSMAN_ADMIN_KEY")
    return key


def post_json(url: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """POST and decode; (status, answer). Raises click.ClickException where nothing answers."""
    if not url.startswith(("http://", "https://")):
        raise click.ClickException(f"{url}: an http:// or https:// URL is needed")
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json", **headers})  # noqa: S310  (checked above)
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310  (as above)
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")
    except OSError as error:
        raise click.ClickException(f"{url}: {error}; is `pointsman serve` running?") from error


@contextmanager
def _running_fleet(state: Path) -> Iterator[None]:
    """Connected to the Ray cluster of the `pointsman serve` with that state folder. Raises click.ClickException."""
    from deployments import cluster

    try:
        with cluster.running_cluster(state / "run" / CLUSTER):
            yield
    except cluster.NoCluster as error:
        raise click.ClickException(str(error)) from error


def _applications(settings: Settings, state: Path) -> list[dict[str, Any]]:
    """What Serve is to run. Raises EnvironmentProblem."""
    from deployments import app

    return app.applications(settings, app.default_paths(settings, state))


def _show_status(name: str, status: Status) -> None:
    if status.status in SHOWN:
        say(f"{name}: {state_words(status.status, status.message, status.running)}")


def _wait_listening(settings: Settings, stop: threading.Event) -> bool:
    """Until a router answers and sees at least one pool: then True. False when the time is up or someone stops it."""
    url = f"http://{settings.server.http.host}:{settings.server.http.port}/v2/health/ready"
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline_s and not stop.is_set():
        try:
            with urllib.request.urlopen(url, timeout=2):
                return True
        except OSError:
            time.sleep(0.1)
    return False


def _taken(server: ServerSettings) -> str:
    """The first address of the fleet's own that something listens on already, "" if none.

    Routers share their port, so another fleet's router would not be noticed: each would get some of the requests.
    """
    addresses = [
        (server.http.host, server.http.port),
        (server.metrics_host, server.metrics_port),
        (server.admin.host, server.admin.port),
    ]
    if server.grpc.enabled:
        addresses.append((server.grpc.host, server.grpc.port))
    for host, port in addresses:
        try:
            socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"{host}:{port}"
    return ""


def _pool_table(settings: Settings) -> str:
    from deployments import cluster
    from deployments.app import app_name

    running = cluster.statuses()
    rows = []
    for pool in settings.pools:
        name = app_name(pool.facts.name)
        found = running.get(name)
        placed = cluster.placements(name) if found and found.running else {}
        providers = ", ".join(sorted({str(p["provider"]) for p in placed.values()})) or "-"
        marked = "yes" if pool.facts.emulated else "no"
        facts = pool.facts
        models = ", ".join(f"{m} {placed[m]['variant']}".strip() if m in placed else m for m in facts.models)
        rows.append(
            (facts.name, facts.accelerator.name, marked, times(msgspec.to_builtins(facts.emulation)), providers, models,
             _up(found))
        )  # fmt: skip
    return table(("pool", "class", "emulated", "times", "execution provider", "models and variants", "state"), rows)


def _up(found: Status | None) -> str:
    if found is None or found.status not in {"RUNNING", "WAITING", "FULL"}:
        return "down"
    if found.status == "RUNNING":
        return "up" if found.running else "no replica"
    return f"{found.running} up, waits for hardware"


def _how_to_use(settings: Settings, keys: LocalKeys) -> str:
    server = settings.server
    url = f"http://{server.http.host}:{server.http.port}"
    lines = ["", f"URL      {url}", f"metrics  http://{server.metrics_host}:{server.metrics_port}/metrics"]
    if server.grpc.enabled:
        lines.insert(2, f"gRPC     {server.grpc.host}:{server.grpc.port}")
    refuses = "" if server.admin.key_digests else ": refuses everybody, no key is configured"
    proof = f", key {keys.admin}" if keys.admin else refuses
    lines += [f"admin    http://{server.admin.host}:{server.admin.port}{proof}"]
    lines += [f"key      {tenant}: {key}" for tenant, key in keys.tenants.items()]
    if keys.tenants and "minilm" in settings.models:
        key = next(iter(keys.tenants.values()))
        body = '{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":["a quick brown fox"]}]}'
        lines += ["", f"curl -s {url}/v2/models/minilm/infer -H 'authorization: Bearer {key}' -d '{body}'"]
    return "\n".join([*lines, ""])
