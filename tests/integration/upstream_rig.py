"""A router, a pool that is another server and a pool of this machine, in one process; joined by real streams.

What Ray Serve would do is done by hand. Requests go through the router's own handler.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import orjson
from stream_rig import KEY, STORE, Replica, until

from deployments.dispatch import FleetLinks
from deployments.replica_server import ReplicaIdentity, ReplicaServer
from deployments.runtime import LoopTimers, RouterState, router_state
from deployments.upstream.lane import Declared
from deployments.upstream.pool import Upstream
from models.replica import ReplicaCore
from models.repository import load_store
from router.config.load import load
from router.config.settings import Settings
from router.service.clock import SystemClock
from router.service.head import Head
from router.service.reply import Reply
from router.telemetry.metrics import Metrics

API_KEY = "pm_0123456789abcdef0123456789abcdef"
FLEET = """
pools:
  - name: far
    accelerator: nvidia-h20
    region: there
    models: [mlp]
    backend: {{type: oip_upstream, url: "{url}"{more}}}
  - {{name: cpu, accelerator: x86-cpu, region: here, models: [mlp], cost: 100, backend: {{provider: cpu}}}}
tenants: [{{id: someone, keys: ["{digest}"]}}]
policies: [{{name: all, when: "true", allow: "true"}}]
"""
MAX_BYTES = 64 * 1024 * 1024


class Rig:
    """One router and its pools. `far` is the cheaper one, so that traffic prefers it."""

    def __init__(self, url: str, folder: Path, more: str = "", *, with_cpu: bool = True) -> None:
        digest = "sha256:" + hashlib.sha256(API_KEY.encode()).hexdigest()
        config = folder / "fleet.yaml"
        config.write_text(FLEET.format(url=url, more=more, digest=digest))
        self.settings: Settings = load(config, {"mlp"})
        self.with_cpu = with_cpu
        self.loop = asyncio.get_running_loop()
        self.clock = SystemClock()
        self.metrics = Metrics(folder / "metrics")
        self.state: RouterState = router_state(
            self.settings, load_store(STORE), LoopTimers(self.loop), self.clock, self.metrics
        )
        self.links = FleetLinks(self.state.queues, self.state.fleet, self.state.facts, KEY, self.clock.now_s, self.loop)
        self.state.handler.dispatcher = self.links
        self.numbers = iter(range(1, 1 << 30))

    async def start(self) -> Rig:
        """Start both pools and join them."""
        (far, _) = self.settings.pools
        spec = load_store(STORE)["mlp"]["1"]
        declared = Declared(far.facts.accelerator.name, far.facts.region, far.facts.emulated)
        self.upstream = Upstream([spec], dict(far.options), declared, MAX_BYTES)
        core = ReplicaCore({"mlp": spec.batch}, 4096, MAX_BYTES, alone=self.upstream.options.connections)
        identity = ReplicaIdentity(
            "far", "f1", "nvidia-h20", "oip_upstream", far.facts.emulated, self.upstream.grants, self.state.facts["far"]
        )
        self.far = ReplicaServer(identity, core, self.upstream.lanes, KEY, self.loop)
        self.proven = await self.upstream.start(self.far)
        self.links.set_members("far", {"f1": await self.far.listen("127.0.0.1")})
        self.cpu = Replica("cpu", "c1", facts=self.state.facts["cpu"])
        if self.with_cpu:
            await self.cpu.listen()
            self.links.set_members("cpu", self.cpu.members())
        await until(lambda: self.ready("far") == 1 and self.ready("cpu") == int(self.with_cpu))
        return self

    async def stop(self) -> None:
        """End everything."""
        await self.links.close()
        await self.far.close()
        await self.upstream.close()
        await self.cpu.server.close()
        self.metrics.close()

    def ready(self, pool: str) -> int:
        """Replicas of the pool that have a stream."""
        views = {view.name: view for view in self.state.fleet.snapshot(self.clock.now_s()).pools}
        return views[pool].ready_replicas

    def head(self, timeout: str = "", **more: str) -> Head:
        """What a request's headers say."""
        return Head("mlp", more.pop("version", ""), f"request-{next(self.numbers)}", API_KEY, timeout, **more)

    async def ask(self, x: np.ndarray | None = None, timeout: str = "", **more: str) -> Reply:
        """One request through the router, to its end."""
        x = np.zeros((1, 256), np.float32) if x is None else x
        tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
        ended: asyncio.Future[Reply] = self.loop.create_future()
        self.state.handler.start(self.head(timeout, **more), orjson.dumps({"inputs": [tensor]}), ended.set_result)
        return await ended

    def explained(self, pool: str = "far") -> dict:
        """What explain says of a pool."""
        pools = self.state.handler.explain(self.head(), 1)["pools"]
        return next(each for each in pools if each["pool"] == pool)

    def takes(self, pool: str = "far") -> bool:
        """Whether the pool would be a candidate now."""
        return self.explained(pool)["status"] != "rejected"


class Load:
    """A steady stream of requests, and what became of each: (sent at, ended at, pool or reason)."""

    def __init__(self, rig: Rig, per_s: float = 100.0, timeout: str = "2s") -> None:
        self.rig, self.period_s, self.timeout = rig, 1.0 / per_s, timeout
        self.ended: list[tuple[float, float, str]] = []
        self._open: set[asyncio.Task[None]] = set()
        self._driver = asyncio.create_task(self._drive())

    async def _drive(self) -> None:
        due_s = time.perf_counter()
        while True:
            task = asyncio.create_task(self._one())
            self._open.add(task)
            task.add_done_callback(self._open.discard)
            due_s += self.period_s
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))

    async def _one(self) -> None:
        sent_s = time.perf_counter()
        reply = await self.rig.ask(timeout=self.timeout)
        self.ended.append((sent_s, time.perf_counter(), pool_of(reply)))

    async def run(self, seconds: float) -> None:
        """Let it go on for so long."""
        await asyncio.sleep(seconds)

    async def stop(self) -> None:
        """No new request; every one under way ends."""
        self._driver.cancel()
        await asyncio.gather(*self._open)

    def between(self, from_s: float, until_s: float) -> Counter[str]:
        """What became of the requests sent in a time."""
        return Counter(what for sent_s, _, what in self.ended if from_s <= sent_s < until_s)


def pool_of(reply: Reply) -> str:
    """The pool that answered, or the reason."""
    if reply.error is not None:
        return reply.error.reason
    return dict(reply.headers())["x-pointsman-pool"]


def output(reply: Reply) -> np.ndarray:
    """The one output of an answer."""
    (tensor,) = msgspec.json.decode(reply.body)["outputs"]
    return np.array(tensor["data"], np.float32).reshape(tensor["shape"])
