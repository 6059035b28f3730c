"""The Serve deployment of one pool: loads its models, proves where they run, warms them up, then serves streams."""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from pathlib import Path

import msgspec
import numpy as np
from ray import serve

from deployments.backends import registry
from deployments.backends.base import Backend, BackendError, LoadContext, Placement
from deployments.backends.padded import PaddedBackend
from deployments.lane import Lane
from deployments.logs import to_serve_log
from deployments.loopback import confine_replica, stream_host
from deployments.replica_server import ReplicaIdentity, ReplicaServer
from models import fixed_shapes, tensors
from models.pipeline import TextPipeline
from models.replica import ReplicaCore
from models.repository import latest, load_store
from models.spec import BatchRule, ModelSpec
from models.variants import chosen
from router.config.load import read_stream_key
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


class PoolReplica:
    """One replica: ready only after each of its models ran at its largest batch."""

    async def __init__(self, args: dict[str, object]) -> None:
        self._args = msgspec.convert(args, PoolArgs)
        self._leaving = False
        to_serve_log()
        confine_replica()
        host = stream_host(self._args.beyond_loopback)
        loop = asyncio.get_running_loop()
        loaded = [await loop.run_in_executor(None, self._load, name) for name in self._args.models]
        grants = []
        lanes: dict[str, Lane] = {}
        placements: list[Placement] = []
        for spec, backend, curve in loaded:
            pipeline = TextPipeline(spec) if spec.text else None
            lanes[spec.name] = Lane(spec, backend, pipeline)
            placements.append(backend.placement)
            items = spec.batch.max_rows * WINDOW_BATCHES
            variant = spec.variants[0].name
            rows, nbytes = spec.batch.max_rows, self._args.max_bytes
            grants.append(ModelGrant(spec.name, spec.version, rows, items, nbytes, curve, variant))
        core = ReplicaCore({spec.name: spec.batch for spec, _, _ in loaded}, self._args.max_items, self._args.max_bytes)
        identity = ReplicaIdentity(
            pool=self._args.name,
            replica=serve.get_replica_context().replica_id.unique_id,
            accelerator=self._args.accelerator,
            provider=", ".join(sorted({placement.provider for placement in placements})),
            emulated=self._args.emulated,
            grants=tuple(grants),
            facts=self._args.facts,
        )
        self._lanes = lanes
        key = read_stream_key(Path(self._args.key_file))
        self._server = ReplicaServer(identity, core, lanes, key, loop)
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

    async def placements(self) -> dict[str, dict[str, object]]:
        """Where each model really runs, as ONNX Runtime reports it, and which variant of it."""
        return {
            name: msgspec.to_builtins(lane.backend.placement) | {"variant": lane.spec.variants[0].name}
            for name, lane in self._lanes.items()
        }

    async def __del__(self) -> None:
        """Serve is stopping this replica: finish what is held, move the rest elsewhere."""
        self._leaving = True
        server = getattr(self, "_server", None)
        if server is not None:
            await server.drain(self._args.drain_s)

    def _load(self, name: str) -> tuple[ModelSpec, Backend, list[tuple[int, float]]]:
        versions = load_store(Path(self._args.store)).get(name)
        if not versions:
            raise RuntimeError(f"model {name!r} is not in {self._args.store}: run `make models`")
        args = self._args
        spec = chosen(versions[latest(versions)], args.accelerator, args.provider, args.variants)
        spec = spec.bounded(args.max_rows.get(name))
        backend = registry.create(args.backend, spec, args.options, LoadContext(args.name, args.accelerator))
        if backend.emulated != args.emulated:
            backend.close()
            told = f"emulated: {str(backend.emulated).lower()}"
            raise BackendError(f"backend {args.backend} says {told} here, and not where the fleet was started")
        if spec.variants[0].sizes:
            backend = PaddedBackend(backend, spec)
        return spec, backend, _warm_up(spec, backend)


def _warm_up(spec: ModelSpec, backend: Backend) -> list[tuple[int, float]]:
    """Run every power of two up to the largest batch; median seconds by rows are the router's first estimate.

    Before that, each shape that the variant runs, once: its runtime compiles a graph for each.
    """
    for extents in fixed_shapes.shapes(spec):
        backend.run(_batch(spec, {"batch": 1, **extents}), ())
    curve = []
    for rows in _sizes(spec.batch):
        stacked = _batch(spec, {"batch": rows})
        times = []
        for _ in range(WARMUP_RUNS):
            started_s = time.perf_counter()
            backend.run(stacked, ())
            times.append(time.perf_counter() - started_s)
        curve.append((rows, statistics.median(times)))
    return curve


def _sizes(rule: BatchRule) -> list[int]:
    sizes = []
    rows = 1
    while rows < rule.max_rows:
        sizes.append(rows)
        rows *= 2
    return [*sizes, rule.max_rows]


def _batch(spec: ModelSpec, extents: dict[str, int]) -> tensors.Arrays:
    """Inputs of ones; ragged axes that `extents` lacks get a typical length."""
    typical = 16
    filled = {}
    for tensor in spec.inputs:
        shape = [extents.get(axis, typical) if isinstance(axis, str) else axis for axis in tensor.shape]
        filled[tensor.name] = np.full(shape, b"1" if tensor.datatype == "BYTES" else 1, tensors.DTYPES[tensor.datatype])
    return filled
