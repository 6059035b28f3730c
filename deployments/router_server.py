"""The Serve deployment of the router: listens for HTTP, holds a stream to every pool replica, decides.

Composes router/ into one process. Its settings come as user_config, so that a change never restarts it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from deployments.dispatch import FleetLinks
from deployments.logs import to_serve_log
from deployments.loopback import confine_replica
from deployments.members import Members
from deployments.membership import watch
from deployments.metrics_process import MetricsProcess
from deployments.runtime import LoopTimers, Prepared, RouterState, router_state, settings_of_value
from models.repository import load_store
from router.api.admin import AdminListener
from router.api.grpc_listener import GrpcListener
from router.api.heads import RequestIds
from router.api.listener import Listener
from router.api.plane import DataPlane
from router.config.load import read_stream_key
from router.config.settings import ServerSettings, Settings
from router.service.clock import SystemClock
from router.service.status import fleet_status
from router.telemetry.metrics import Metrics

log = logging.getLogger("pointsman.router")

FLUSH_PERIOD_S = 0.25
DATES_PERIOD_S = 0.1
MIGRATE = Path("/proc/sys/net/ipv4/tcp_migrate_req")


class RouterArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What does not change while a router runs. No secret: the key travels as a file path."""

    server: ServerSettings
    body_bytes: int
    """Bound on all requests being received or under way."""
    metrics_dir: str
    store: str
    key_file: str
    settle_s: float
    """How long a new router waits for the pools before it listens: without, it would refuse its first requests."""
    accept_s: float
    drain_s: float
    version: str


class RouterReplica:
    """One router replica."""

    async def __init__(self, args: dict[str, object]) -> None:
        self._args = msgspec.convert(args, RouterArgs)
        to_serve_log()
        confine_replica()
        self._loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self._handles: list[Any] = []
        self._leaving = False
        self._state: RouterState | None = None
        self._listener: Listener | None = None
        self._admin: AdminListener | None = None
        self._grpc: GrpcListener | None = None
        self._links: FleetLinks | None = None
        self._metrics = Metrics(Path(self._args.metrics_dir))

    async def reconfigure(self, wire: dict[str, object]) -> None:
        """Take new settings: the first ones start the router, later ones replace rules, tenants and models' times."""
        if self._state is None:
            specs = await self._loop.run_in_executor(None, load_store, Path(self._args.store))
            settings = settings_of_value(wire, specs)
            await self._start(settings, specs)
            log.info("router runs with config %s", settings.digest)
            return
        try:
            prepared = await self._loop.run_in_executor(None, self._prepare, self._state, wire)
        except Exception as error:
            # Serve would replace a replica that raises here; the last good configuration serves better.
            log.error("the new configuration is refused, the old one stays in force: %s", error)
            return
        self._state.put_in_force(prepared)
        log.info("router runs with config %s", prepared.settings.digest)

    def _prepare(self, state: RouterState, wire: dict[str, object]) -> Prepared:
        specs = load_store(Path(self._args.store))
        return state.prepare(settings_of_value(wire, specs), specs)

    async def _start(self, settings: Settings, specs: Any) -> None:
        clock = SystemClock()
        state = router_state(settings, specs, LoopTimers(self._loop), clock, self._metrics)
        key = read_stream_key(Path(self._args.key_file))
        self._links = FleetLinks(state.queues, state.fleet, state.facts, key, clock.now_s, self._loop)
        state.handler.dispatcher = self._links
        self._state = state
        for pool in settings.pools:
            self._handles.append(watch(pool.facts.name, self._on_members(pool.facts.name)))
        settle_s, expected = self._args.settle_s, [pool.facts.name for pool in settings.pools if pool.replicas_min]
        if not await self._links.settle(settle_s, expected):
            log.info("not every pool is connected after %g s: listening all the same", settle_s)
        http = self._args.server.http
        prefix = secrets.token_hex(6)
        plane = DataPlane(state.handler, RequestIds(prefix), http, self._args.body_bytes, self._args.version)
        self._listener = Listener(plane)
        address = await self._listener.open(http.host, http.port)
        await self._open_admin(plane)
        metrics_process = MetricsProcess(
            Path(self._args.metrics_dir), self._args.server.metrics_host, self._args.server.metrics_port
        )
        self._tasks.append(self._loop.create_task(self._flush_forever()))
        self._tasks.append(self._loop.create_task(self._dates_forever()))
        self._tasks.append(self._loop.create_task(metrics_process.keep()))
        _warn_of_migration()
        log.info("router listens on %s:%d", *address)
        if self._args.server.grpc.enabled:
            self._grpc = GrpcListener(plane)
            log.info("router listens for gRPC on %s:%d", *await self._grpc.open(self._args.server.grpc))

    async def _open_admin(self, plane: DataPlane) -> None:
        admin = self._args.server.admin
        self._admin = AdminListener(plane, self._status)
        address = await self._admin.open(admin.host, admin.port)
        log.info("admin listener on %s:%d", *address)

    def _on_members(self, pool: str) -> Callable[[Members], None]:
        def changed(members: Members) -> None:
            if self._links is not None:
                self._loop.call_soon_threadsafe(self._links.set_members, pool, members)

        return changed

    async def _flush_forever(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_PERIOD_S)
            self._flush_gauges()
            await self._loop.run_in_executor(None, self._metrics.flush)

    def _flush_gauges(self) -> None:
        state, links = self._state, self._links
        if state is None or links is None:
            return
        for view in state.fleet.snapshot(state.clock.now_s()).pools:
            self._metrics.set_pool(
                view.name,
                inflight=view.inflight,
                ready_replicas=view.ready_replicas,
                queue_rows=view.waiting_rows,
                open_models=[model for model, serving in view.models.items() if serving.curve],
            )
        for pool, replicas in links.overruns.items():
            for replica, overruns in replicas.items():
                self._metrics.set_overruns(pool, replica, overruns)
        self._metrics.stamp(state.clock.unix_s())

    async def _dates_forever(self) -> None:
        """Fill the policy table again once a rule or a licence state has begun or ended."""
        while True:
            await asyncio.sleep(DATES_PERIOD_S)
            state = self._state
            assert state is not None
            policy, now_s = state.handler.policy, state.clock.unix_s()
            if policy.is_due(now_s):
                await self._loop.run_in_executor(None, policy.fill, now_s)
                state.handler.generation = object()  # which models a tenant may know of may have changed
                log.info("a rule or a licence state has begun or ended: policy %s filled again", policy.version)

    async def check_health(self) -> None:
        """Serve asks: the listener must be open unless the replica is leaving."""
        if self._listener is None or self._leaving:
            return
        if not self._listener.is_open:
            raise RuntimeError("the data listener is closed")
        if self._admin is not None and not self._admin.is_open:
            raise RuntimeError("the admin listener is closed")
        if any(task.done() for task in self._tasks):
            raise RuntimeError("a task that keeps this router going has ended")

    async def state(self) -> dict[str, object]:
        """What this router sees of the fleet, for `pointsman status`."""
        return dict(self._status())

    def _status(self) -> Mapping[str, object]:
        state = self._state
        if state is None:
            return {}
        pools = fleet_status(state.fleet, state.clock.now_s())
        policy, requests = state.handler.policy.version, state.handler.open_exchanges
        return {"version": self._args.version, "policy_version": policy, "open_requests": requests, "pools": pools}

    async def __del__(self) -> None:
        """Serve is stopping this replica: leave without loss."""
        self._leaving = True
        listeners = [each for each in (self._listener, self._grpc) if each is not None]
        await asyncio.gather(*(each.leave(self._args.accept_s, self._args.drain_s) for each in listeners))
        if self._admin is not None:
            self._admin.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._links is not None:
            await self._links.close()
        self._metrics.close()


def _warn_of_migration() -> None:
    """Connections waiting in the accept queue of a listener that closes are reset unless the kernel may move them."""
    try:
        enabled = MIGRATE.read_text().strip() != "0"
    except OSError:
        return
    if not enabled:
        log.info(
            "net.ipv4.tcp_migrate_req is 0: a router that leaves a shared port may reset the few connections it has "
            "not accepted yet; set it to 1 on nodes with several routers"
        )
