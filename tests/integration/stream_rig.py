"""Both ends of the data path in one process: a router's FleetLinks and pool replicas, joined by TCP on loopback.

Real sockets, lanes, threads and ONNX Runtime with the bundled MLP; what Ray Serve would do is done by hand.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from deployments.backends.onnx import OnnxBackend
from deployments.dispatch import FleetLinks
from deployments.lane import Lane
from deployments.pool_links import LinkTicket
from deployments.replica_server import ReplicaIdentity, ReplicaServer
from models.replica import ReplicaCore
from models.repository import load_store
from models.spec import BatchRule, ModelSpec
from models.tensors import from_wire, to_wire
from router.core.facts import AcceleratorFacts, PoolFacts
from router.protocol.link import Answer, Item, ModelGrant, Tensor
from router.state.fleet_view import FleetView
from router.state.inflight import Ledger
from router.state.pool_queue import PoolQueue

KEY = b"the key of both ends, 32 bytes.."
FACTS = "facts"
STORE = Path(__file__).parents[2] / "build" / "models"
WAIT_S = 15.0
"""For what takes milliseconds: only a fault takes this long."""


def mlp_spec(max_rows: int = 32) -> ModelSpec:
    """The bundled MLP: x f32[rows, 256] to y f32[rows, 256]."""
    return msgspec.structs.replace(load_store(STORE)["mlp"]["1"], batch=BatchRule(max_rows))


async def until(holds: Callable[[], object], timeout_s: float = WAIT_S) -> None:
    """Wait until `holds()` is true. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.005)


class Replica:
    """One pool replica. `held` is what it has admitted and not yet answered."""

    def __init__(
        self,
        pool: str = "cpu",
        name: str = "r1",
        *,
        key: bytes = KEY,
        max_rows: int = 32,
        items: int = 128,
        facts: str = FACTS,
    ) -> None:
        spec = mlp_spec(max_rows)
        nbytes = 64 * 1024 * 1024
        grant = ModelGrant("mlp", "1", max_rows, items, nbytes, [(1, 0.001), (max_rows, 0.01)])
        identity = ReplicaIdentity(pool, name, "x86-cpu", "CPUExecutionProvider", False, (grant,), facts)
        self.backend = OnnxBackend(spec, {"provider": "cpu", "threads": 1})
        self.name = name
        self.core = ReplicaCore({"mlp": spec.batch}, 4096, nbytes)
        self.server = ReplicaServer(
            identity, self.core, {"mlp": Lane(spec, self.backend, None)}, key, asyncio.get_running_loop()
        )
        self.address = ("127.0.0.1", 0)

    async def listen(self) -> Replica:
        """Accept routers."""
        self.address = await self.server.listen("127.0.0.1")
        return self

    def members(self) -> dict[str, tuple[str, int]]:
        """What membership says of a pool that has this replica alone."""
        return {self.name: self.address}


class Router:
    """The router's side for some pools, and every answer it was given, by request number."""

    def __init__(self, *pools: str, key: bytes = KEY, waiting: int = 1024) -> None:
        facts = [PoolFacts(p, AcceleratorFacts("x86-cpu"), "here", "cpu", False, {}, 1.0, ("mlp",)) for p in pools]
        self.fleet = FleetView(facts, Ledger(), queue_items=waiting)
        queues = {pool: PoolQueue(waiting, 64 * 1024 * 1024) for pool in pools}
        self.links = FleetLinks(
            queues, self.fleet, dict.fromkeys(pools, FACTS), key, time.perf_counter, asyncio.get_running_loop()
        )
        self.queues = queues
        self.answers: dict[int, list[Answer]] = defaultdict(list)

    def ready(self, pool: str = "cpu") -> int:
        """Replicas of the pool that take requests."""
        views = {view.name: view for view in self.fleet.snapshot(time.perf_counter()).pools}
        return views[pool].ready_replicas

    def send(self, number: int, x: np.ndarray, pool: str = "cpu", budget_s: float = WAIT_S) -> LinkTicket | None:
        """Send rows of the MLP; the answer will be under `number`."""
        deadline_s = time.perf_counter() + budget_s
        return self.links.send(pool, item(number, x), x.nbytes, deadline_s, self.answers[number].append)

    def reasons(self) -> set[str]:
        """Every reason given so far; "" is success."""
        return {answer.reason for given in self.answers.values() for answer in given}

    def output(self, number: int) -> np.ndarray:
        """The one answer to a request, as an array."""
        (answer,) = self.answers[number]
        (tensor,) = answer.tensors
        return from_wire(tensor.datatype, tensor.shape, tensor.data, tensor.name)


def item(number: int, x: np.ndarray) -> Item:
    """A request as it travels."""
    tensor = Tensor("x", "FP32", list(x.shape), to_wire(x, "FP32"))
    return Item(number, "mlp", "1", int(WAIT_S * 1e6), 1, "someone", "", f"request-{number}", len(x), [], [tensor])


def rows(number: int, count: int = 1) -> np.ndarray:
    """Input of request `number`: different for each."""
    return np.random.default_rng(number).standard_normal((count, 256)).astype(np.float32)


def expected(x: np.ndarray) -> np.ndarray:
    """What the model makes of it, asked without any stream."""
    backend = OnnxBackend(mlp_spec(max(1, len(x))), {"provider": "cpu", "threads": 1})
    try:
        return backend.run({"x": x}, ())["y"]
    finally:
        backend.close()
