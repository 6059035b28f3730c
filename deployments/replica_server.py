"""A pool replica's side of the data path: items from streams into the replica's order of steps, answers back.

Owns the streams of one replica and the hand-over to the worker threads. What may enter and what runs together is
models/replica.py's decision.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Mapping
from functools import partial

import msgspec

from deployments.lane import BatchResult, Worker
from deployments.link_replica import ReplicaEnd
from models.batching import WorkItem
from models.replica import ReplicaCore
from router.protocol.link import PROTOCOL_VERSION, Answer, Answers, Drain, Item, Load, ModelGrant, Welcome

log = logging.getLogger("pointsman.replica")

EXPIRE_PERIOD_S = 0.02
DRAIN_POLL_S = 0.01


class ReplicaIdentity(msgspec.Struct, frozen=True):
    """Who this replica is, as it tells every router."""

    pool: str
    replica: str
    accelerator: str
    provider: str
    emulated: bool
    grants: tuple[ModelGrant, ...]
    facts: str
    """See router.protocol.link.Welcome.facts."""


class _Held(msgspec.Struct, eq=False):
    """An admitted item and the stream its answer goes back on."""

    stream: ReplicaEnd
    item: Item


class ReplicaServer:
    """Implements link_replica.ReplicaListener for one replica. Everything but the lanes runs on one event loop."""

    def __init__(
        self,
        identity: ReplicaIdentity,
        core: ReplicaCore,
        lanes: Mapping[str, Worker],
        key: bytes,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._identity = identity
        self._core = core
        self._lanes = lanes
        self._key = key
        self._loop = loop
        self._versions = {grant.model: grant.version for grant in identity.grants}
        self._grants = {grant.model: grant for grant in identity.grants}
        self._closed: dict[str, tuple[str, str]] = {}
        self._aborts: dict[Hashable, Callable[[], None]] = {}
        self._rows_elsewhere: dict[str, int] = {}
        self._streams: set[ReplicaEnd] = set()
        self._server: asyncio.Server | None = None
        self._expirer: asyncio.Task[None] | None = None
        self._pump_due = False

    async def listen(self, host: str) -> tuple[str, int]:
        """Accept routers on `host`, any free port; returns the address."""
        self._server = await self._loop.create_server(lambda: ReplicaEnd(self._key, self, self._loop), host, 0)
        self._expirer = self._loop.create_task(self._expire_forever())
        address = self._server.sockets[0].getsockname()
        return str(address[0]), int(address[1])

    async def drain(self, timeout_s: float) -> None:
        """Tell every router, answer what is held, then close. After `timeout_s` what is left is dropped.

        Each router closes its own stream once it has every answer: closing from this side would lose what the kernel
        still holds as soon as the router sends anything more. What it sent before it saw the drain is refused.
        """
        self._core.drain()
        if self._server is not None:
            self._server.close()
        for stream in self._streams:
            stream.send(Drain())
        deadline_s = time.perf_counter() + timeout_s
        while time.perf_counter() < deadline_s and (self._streams or not self._core.drained):  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_POLL_S)
        await self.close()

    async def close(self) -> None:
        """Stop listening, drop the streams, end the worker threads."""
        if self._expirer is not None:
            self._expirer.cancel()
        if self._server is not None:
            self._server.close()
        for stream in list(self._streams):
            stream.close("the replica has stopped")
        await asyncio.gather(*(self._loop.run_in_executor(None, lane.close) for lane in self._lanes.values()))

    # ReplicaListener
    def on_open(self, stream: ReplicaEnd) -> None:
        """A router proved the key: greet it."""
        self._streams.add(stream)
        i = self._identity
        welcome = Welcome(
            PROTOCOL_VERSION, i.pool, i.replica, i.accelerator, i.provider, i.emulated, list(self._grants.values()),
            i.facts,
        )  # fmt: skip
        stream.send(welcome)
        if self._closed:
            stream.send(Answers(0, [], self.load()))
        if self._core.draining:
            stream.send(Drain())

    def on_items(self, stream: ReplicaEnd, items: list[Item]) -> None:
        """Admit each item or refuse it at once."""
        now_s = time.perf_counter()
        for item in items:
            served = self._versions.get(item.model, "")
            if item.version and item.version != served:
                stream.answer(_refused(item, "model_not_found", f"serves version {served!r}, not {item.version!r}"))
                continue
            if self._closed and (closed := self._closed.get(item.model)):
                stream.answer(_refused(item, *closed))
                continue
            nbytes = sum(tensor.data.nbytes for tensor in item.tensors)
            work = WorkItem(
                (stream, item.id), item.model, item.rows, nbytes, now_s + item.budget_us * 1e-6, item.priority, now_s,
                _Held(stream, item),
            )  # fmt: skip
            try:
                refusal = self._core.admit(work, now_s)
            except ValueError as error:
                stream.answer(_refused(item, "malformed", str(error)))
                continue
            if refusal is not None:
                stream.answer(_refused(item, refusal.value, f"refused by the replica: {refusal.value}"))
        self._schedule_pump()

    def on_cancel(self, stream: ReplicaEnd, ids: list[int]) -> None:
        """What waits will not run; either way each item is answered once, which gives its credit back."""
        for item_id in ids:
            key = (stream, item_id)
            if self._core.cancel(key):
                stream.answer(Answer(item_id, "cancelled", "", False, 0, 0, 0, 0, []))
            elif abort := self._aborts.get(key):
                abort()

    def on_lost(self, stream: ReplicaEnd, why: str) -> None:
        """A router is gone: nobody wants what it had sent."""
        self._streams.discard(stream)
        for key in self._core.held_keys():
            if key[0] is stream and not self._core.cancel(key) and (abort := self._aborts.get(key)):
                abort()
        log.info("a router's stream closed: %s", why)

    def load(self) -> Load:
        """The report that goes with every answer."""
        overruns = sum(lane.overruns for lane in self._lanes.values())
        rows = self._core.waiting_rows()
        for model, elsewhere in self._rows_elsewhere.items():
            rows[model] += elsewhere
        return Load(rows, self._core.draining, overruns, self._closed)

    # what a pool whose work is done elsewhere finds out
    def close_model(self, model: str, reason: str, detail: str) -> None:
        """Refuse what waits for a model and what comes, until open_model; every router is told at once."""
        self._closed = {**self._closed, model: (reason, detail)}
        for work in self._core.withdraw(model):
            held: _Held = work.payload  # type: ignore[assignment]
            held.stream.answer(_refused(held.item, reason, detail))
        self._report([])

    def open_model(self, model: str) -> None:
        """Take requests for a model again."""
        self._closed = {name: closed for name, closed in self._closed.items() if name != model}
        self._report([])

    def regrant(self, grant: ModelGrant) -> None:
        """Grant this for its model from now on."""
        self._grants[grant.model] = grant
        self._report([grant])

    def set_rows_elsewhere(self, model: str, rows: int) -> None:
        """Rows that wait where this replica sends its own, but from others: counted in the load report."""
        if rows != self._rows_elsewhere.get(model, 0):
            self._rows_elsewhere[model] = rows
            self._report([])

    def _report(self, grants: list[ModelGrant]) -> None:
        load = msgspec.structs.replace(self.load(), grants=grants)
        for stream in self._streams:
            stream.send(Answers(0, [], load))

    # running
    def _schedule_pump(self) -> None:
        """At the end of this loop turn, so that everything which arrived in it can run together."""
        if not self._pump_due:
            self._pump_due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_due = False
        now_s = time.perf_counter()
        for model in self._core.ready_lanes():
            while (taken := self._core.take(model, now_s)) is not None:
                self._answer_expired(taken.expired)
                if taken.batch:
                    self._submit(model, taken.batch, now_s)

    def _submit(self, model: str, batch: list[WorkItem], now_s: float) -> None:
        items = [work.payload.item for work in batch]  # type: ignore[attr-defined]
        lane = self._lanes[model]
        if not lane.forwards:
            lane.submit(items, partial(self._loop.call_soon_threadsafe, self._on_done, model, None, now_s))
            return
        (work,) = batch
        items[0].budget_us = int((work.deadline_s - now_s) * 1e6)
        on_done = partial(self._loop.call_soon_threadsafe, self._on_done, model, work.key, now_s)
        if abort := lane.submit(items, on_done):
            self._aborts[work.key] = abort

    def _on_done(self, model: str, key: Hashable, taken_s: float, batch: BatchResult) -> None:
        """A batch has ended; with a key, the item that ran alone under it."""
        ended = self._core.done(model, time.perf_counter(), key)
        self._aborts.pop(key, None)
        # The next batch first: the lane must not idle while answers are written.
        self._pump()
        batch_us, run_us = int(batch.form_s * 1e6), int(batch.run_s * 1e6)
        for end, result in zip(ended, batch.results, strict=True):
            work = end.item
            held: _Held = work.payload  # type: ignore[assignment]
            queue_us = int((taken_s - work.enqueued_s) * 1e6)
            held.stream.answer(
                Answer(
                    held.item.id, result.reason, result.detail, result.dispatched, queue_us, batch_us, run_us,
                    batch.rows, [] if end.cancelled else result.tensors, result.version or self._versions[model],
                )
            )  # fmt: skip

    def _answer_expired(self, expired: list[WorkItem]) -> None:
        for work in expired:
            held: _Held = work.payload  # type: ignore[assignment]
            held.stream.answer(_refused(held.item, "expired", "the deadline passed in the replica's queue"))

    async def _expire_forever(self) -> None:
        """A queue's deadline holds on time, also while a long batch runs."""
        while True:
            await asyncio.sleep(EXPIRE_PERIOD_S)
            self._answer_expired(self._core.expire(time.perf_counter()))

    def check(self) -> None:
        """Raises RuntimeError where this replica can no longer do its work: Serve then replaces it."""
        if self._expirer is None or self._expirer.done() or self._server is None:
            raise RuntimeError("the replica does not listen, or its housekeeping has ended")
        dead = [model for model, lane in self._lanes.items() if not lane.is_alive]
        if dead:
            raise RuntimeError(f"the worker thread of {', '.join(dead)} has ended")
        for lane in self._lanes.values():
            lane.check_health()


def _refused(item: Item, reason: str, detail: str) -> Answer:
    """An item that has not run and may be tried elsewhere."""
    return Answer(item.id, reason, detail, False, 0, 0, 0, 0, [])
