"""The Serve deployment of one pool: loads its models, proves where they run, warms them up, then serves streams."""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from pathlib import Path

import msgspec
from ray import serve

from deployments.backends import registry
from deployments.backends.base import Backend, BackendError, LoadContext
from deployments.backends.padded import PaddedBackend
from deployments.lane import Lane, Worker
from deployments.logs import to_serve_log
from deployments.loopback import confine_replica, stream_host
from deployments.replica_server import ReplicaIdentity, ReplicaServer
from deployments.upstream.lane import Declared
from deployments.upstream.pool import Upstream
from deployments.warmup import filled, sizes
from models import fixed_shapes
from models.pipeline import TextPipeline
from models.replica import ReplicaCore
from models.repository import latest, load_store
from models.spec import ModelSpec
from models.variants import chosen
from router.config.load import read_stream_key
from router.config.settings import UPSTREAM
from router.protocol.link import ModelGrant

log = logging.getLogger("pointsman.pool")

WARMUP_RUNS = 3
WINDOW_BATCHES = 4
"""Full batches a stream may have open per model: one runs, the next forms, the rest hide the round trip."""


class PoolArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one pool's Serve application is built from. No secret: the key travels as a file path."""

    name: str
    accelerator: str
    emulated: bool
    facts: str
    """Digest of the pool's facts: routers whose configuration has others refuse this replica."""
    backend: str
    options: dict[str, object]
    models: tuple[str, ...]
    max_rows: dict[str, int]
    """Bound on the rows of a batch by model, where it is below the model's own."""
    variants: dict[str, str]
    """The variant that the configuration wants, by model; the others are chosen for class and provider."""
    provider: str
    """Execution provider by which they are chosen; an emulated pool's is that of its class."""
    store: str
    key_file: str
    beyond_loopback: bool
    """Whether routers of other nodes may connect, see stream.beyond_loopback."""
    max_items: int
    max_bytes: int
    drain_s: float
    region: str = ""


class PoolReplica:
    """One replica: ready only after each of its models ran at its largest batch."""

    async def __init__(self, args: dict[str, object]) -> None:
        self._args = msgspec.convert(args, PoolArgs)
        self._leaving = False
        to_serve_log()
        confine_replica()
        host = stream_host(self._args.beyond_loopback)
        loop = asyncio.get_running_loop()
        specs = [self._spec(name) for name in self._args.models]
        self._upstream = self._far(specs) if self._args.backend == UPSTREAM else None
        if self._upstream is not None:
            self._lanes: dict[str, Worker] = dict(self._upstream.lanes)
            grants: list[ModelGrant] = list(self._upstream.grants)
        else:
            self._lanes, grants = {}, []
            for spec in specs:
                self._lanes[spec.name], grant = await loop.run_in_executor(None, self._lane, spec)
                grants.append(grant)
        self._grants = grants
        alone = self._upstream.options.connections if self._upstream is not None else 0
        rules = {spec.name: spec.batch for spec in specs}
        core = ReplicaCore(rules, self._args.max_items, self._args.max_bytes, alone=alone)
        identity = ReplicaIdentity(
            pool=self._args.name,
            replica=serve.get_replica_context().replica_id.unique_id,
            accelerator=self._args.accelerator,
            provider=", ".join(sorted({lane.placement.provider for lane in self._lanes.values()})),
            emulated=self._args.emulated,
            grants=tuple(grants),
            facts=self._args.facts,
        )
        key = read_stream_key(Path(self._args.key_file))
        self._server = ReplicaServer(identity, core, self._lanes, key, loop)
        if self._upstream is not None and not await self._upstream.start(self._server):
            log.warning("pool %s: its upstream does not serve every model yet", self._args.name)
        self._address = await self._server.listen(host)
        log.info("pool %s listens on %s:%d, provider %s", self._args.name, *self._address, identity.provider)

    def record_replica_metadata(self) -> dict[str, object]:
        """What membership needs: the address of the stream listener. Read once by Serve."""
        host, port = self._address
        return {"host": host, "port": port, "pool": self._args.name}

    async def check_health(self) -> None:
        """Serve asks: raises where the replica must be replaced. A draining one is let finish."""
        if not self._leaving:
            self._server.check()
            if self._upstream is not None:
                self._upstream.check()

    async def placements(self) -> dict[str, dict[str, object]]:
        """Where each model really runs, as its runtime reports it, and which variant of it."""
        return {
            name: msgspec.to_builtins(lane.placement) | {"variant": grant.variant}
            for (name, lane), grant in zip(self._lanes.items(), self._grants, strict=True)
        }

    async def __del__(self) -> None:
        """Serve is stopping this replica: finish what is held, move the rest elsewhere."""
        self._leaving = True
        server = getattr(self, "_server", None)
        if server is not None:
            await server.drain(self._args.drain_s)
            if self._upstream is not None:
                await self._upstream.close()

    def _spec(self, name: str) -> ModelSpec:
        versions = load_store(Path(self._args.store)).get(name)
        if not versions:
            raise RuntimeError(f"model {name!r} is not in {self._args.store}: run `make models`")
        spec = versions[latest(versions)].bounded(self._args.max_rows.get(name))
        if self._args.backend == UPSTREAM:  # which form of the model it has is its own affair
            return spec
        return chosen(spec, self._args.accelerator, self._args.provider, self._args.variants)

    def _lane(self, spec: ModelSpec) -> tuple[Lane, ModelGrant]:
        args = self._args
        backend = registry.create(args.backend, spec, args.options, LoadContext(args.name, args.accelerator))
        if backend.emulated != args.emulated:
            backend.close()
            told = f"emulated: {str(backend.emulated).lower()}"
            raise BackendError(f"backend {args.backend} says {told} here, and not where the fleet was started")
        variant = spec.variants[0]
        if variant.sizes:
            backend = PaddedBackend(backend, spec)
        curve = _warm_up(spec, backend)
        rows = spec.batch.max_rows
        grant = ModelGrant(spec.name, spec.version, rows, rows * WINDOW_BATCHES, args.max_bytes, curve, variant.name)
        return Lane(spec, backend, TextPipeline(spec) if spec.text else None), grant

    def _far(self, specs: list[ModelSpec]) -> Upstream:
        args = self._args
        return Upstream(
            specs, dict(args.options), Declared(args.accelerator, args.region, args.emulated), args.max_bytes
        )


def _warm_up(spec: ModelSpec, backend: Backend) -> list[tuple[int, float]]:
    """Run every power of two up to the largest batch; median seconds by rows are the router's first estimate.

    Before that, each shape that the variant runs, once: its runtime compiles a graph for each.
    """
    for extents in fixed_shapes.shapes(spec):
        backend.run(filled(spec.inputs, **{"batch": 1, **extents}), ())
    curve = []
    for rows in sizes(spec.batch):
        stacked = filled(spec.inputs, batch=rows)
        times = []
        for _ in range(WARMUP_RUNS):
            started_s = time.perf_counter()
            backend.run(stacked, ())
            times.append(time.perf_counter() - started_s)
        curve.append((rows, statistics.median(times)))
    return curve
