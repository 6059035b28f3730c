"""Finds out whether an upstream can be sent requests, and tells the replica: asks, looks, probes. Owns the timing.

What follows from what is seen is router/state/availability.py's.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import msgspec

from deployments.replica_server import ReplicaServer
from deployments.upstream.client import Options, Reply, Unreachable, UpstreamClient
from deployments.upstream.lane import UpstreamLane, as_tensors
from deployments.upstream.outcome import Outcome, Verdict
from deployments.warmup import filled, sizes
from models.spec import TensorSpec
from router.protocol.link import ModelGrant
from router.protocol.upstream_facts import Misfit, accepted_there, pending_requests
from router.state.availability import DRIFT

log = logging.getLogger("pointsman.upstream")

LOOK_S = 0.05
MEASURE_TIMEOUT_S = 20.0
"""For one inference before the model is measured: a server may load it at the first."""
PROBE_USUAL = 4.0
"""A probe may take so many times as long as an answer usually does, and `hung_after` at least."""
READY_TIMEOUT_S = 2.0
"""Longer than `health_period`, for a server that is far away or busy: silence shows by requests and probes sooner."""
MAX_READINESS_BYTES, MAX_METADATA_BYTES, MAX_METRICS_BYTES = 4096, 1 << 20, 8 << 20
PENDING_HOLDS_S = 1.0
"""What waits there by the last page counts for so long."""
SAYS_NOTHING = (404, 405, 501)
"""Of a path for readiness that a server does not have."""


class _Seen:
    """One model, as last told to the replica."""

    def __init__(self, lane: UpstreamLane, grant: ModelGrant) -> None:
        self.lane = lane
        self.grant = grant
        """Without a curve until the model is measured."""
        self.closed: tuple[str, str] | None = None
        self.probe: asyncio.Task[None] | None = None
        self.measured = False
        """Since it was last lost: it may have come back as another."""
        self.pending_s = -math.inf
        """When a page last said how many requests wait there."""


class Watch:
    """One upstream and its models. `start` it, and `close` it in the end."""

    def __init__(
        self,
        client: UpstreamClient,
        lanes: Mapping[str, UpstreamLane],
        grants: Mapping[str, ModelGrant],
        server: ReplicaServer,
        options: Options,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._client = client
        self._seen = {model: _Seen(lane, grants[model]) for model, lane in lanes.items()}
        for seen in self._seen.values():
            seen.lane.drifted = partial(self._stretch, seen)
            seen.lane.on_ended = self._look
        self._server = server
        self._options = options
        self._clock = clock
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, timeout_s: float) -> bool:
        """Begin; waits until every model is open, but not longer than `timeout_s`. True if every one is."""
        self._look()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._look_forever()), loop.create_task(self._forever(self._ask_readiness))]
        if self._options.metrics_url:
            self._tasks.append(loop.create_task(self._forever(self._ask_metrics)))
        deadline_s = self._clock() + timeout_s
        while self._clock() < deadline_s and not self.all_open:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
        return self.all_open

    @property
    def all_open(self) -> bool:
        """Whether every model may be sent requests."""
        return all(seen.closed is None for seen in self._seen.values())

    def check(self) -> None:
        """Raises RuntimeError where nobody watches any more. That the upstream is away is no fault of the replica."""
        if any(task.done() for task in self._tasks):
            raise RuntimeError("the watch over the upstream has ended")

    async def close(self) -> None:
        """Stop watching, and close the connections."""
        probes = [seen.probe for seen in self._seen.values() if seen.probe is not None]
        for task in (*self._tasks, *probes):
            task.cancel()
        await asyncio.gather(*self._tasks, *probes, return_exceptions=True)
        await self._client.close()

    # what it does, seen often
    async def _look_forever(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(LOOK_S)

    def _look(self) -> None:
        now_s = self._clock()
        for model, seen in self._seen.items():
            availability = seen.lane.availability
            closed = availability.closed(now_s)
            if closed != seen.closed:
                self._changed(model, seen, closed)
            if availability.hung:
                seen.lane.give_up()
            if availability.probe_due(now_s) and seen.probe is None:
                seen.probe = asyncio.get_running_loop().create_task(self._probe(seen))

    def _changed(self, model: str, seen: _Seen, closed: tuple[str, str] | None) -> None:
        before, seen.closed = seen.closed, closed
        if closed is None:
            log.info("model %s: the upstream takes requests", model)
            self._server.open_model(model)
            return
        if before is None or before[0] != closed[0]:
            log.warning("model %s: closed: %s", model, closed[1])
            seen.measured = seen.measured and closed[0] != "backend_lost"
        self._server.close_model(model, *closed)

    # what it says, asked now and then
    async def _forever(self, ask: Callable[[], Awaitable[None]]) -> None:
        while True:
            asked_s = self._clock()
            await ask()
            await asyncio.sleep(max(0.0, asked_s + self._options.health_period - self._clock()))

    async def _ask_readiness(self) -> None:
        why = await self._ready("/v2/health/ready")
        for seen in self._seen.values():
            said = why if why != "" else await self._ready(f"{seen.lane.path}/ready")
            if said is None:
                seen.lane.availability.unheard("no answer about its readiness", self._clock())
            else:
                seen.lane.availability.told(said, self._clock())

    async def _ready(self, path: str) -> str | None:
        """Why it is not ready, "" where it is or does not say, None where no answer came in time."""
        try:
            return _not_ready(await self._client.get(path, READY_TIMEOUT_S, MAX_READINESS_BYTES))
        except Unreachable as error:
            return str(error)
        except TimeoutError:
            return None

    async def _ask_metrics(self) -> None:
        pending = await self._pending()
        now_s = self._clock()
        for model, seen in self._seen.items():
            waiting = pending.get(self._options.names.get(model, model))
            if waiting is not None:
                seen.pending_s = now_s
                self._server.set_rows_elsewhere(model, max(0, waiting - seen.lane.open_items))
            elif now_s - seen.pending_s > PENDING_HOLDS_S:
                self._server.set_rows_elsewhere(model, 0)

    async def _pending(self) -> dict[str, int]:
        """Requests that wait there, by its names; {} where its page says nothing, for whatever reason."""
        try:
            reply = await self._client.get(self._options.metrics_url, self._options.health_period, MAX_METRICS_BYTES)
            return pending_requests(reply.body.decode(errors="replace")) if reply.status == 200 else {}
        except Exception as error:
            log.info("metrics of the upstream: %r", error)
            return {}

    # what it can, tried
    async def _probe(self, seen: _Seen) -> None:
        availability = seen.lane.availability
        try:
            outcome = await self._try(seen)
        except Misfit as error:
            availability.probe_failed(str(error), self._clock())
        except Exception as error:
            log.exception("model %s: probing failed", seen.lane.spec.name)
            availability.probe_failed(f"internal error: {type(error).__name__}", self._clock())
        else:
            if outcome.verdict is Verdict.ANSWERED:
                availability.probed(outcome.took_s, self._clock())
            elif outcome.verdict is Verdict.REFUSED:
                availability.probe_refused(outcome.why, outcome.retry_after_s, self._clock())
            else:
                availability.probe_failed(outcome.why or outcome.result.detail, self._clock())
        finally:
            seen.probe = None

    async def _try(self, seen: _Seen) -> Outcome:
        if not seen.grant.curve:
            return await self._measure(seen, MEASURE_TIMEOUT_S)
        bound_s = max(self._options.hung_after, PROBE_USUAL * seen.lane.availability.usual_s)
        if not seen.measured:
            return await self._measure(seen, bound_s)
        outcome = await self._infer(seen.lane, 1, bound_s)
        if outcome.verdict is Verdict.ANSWERED:
            first_s = seen.grant.curve[0][1]
            if not first_s / DRIFT <= outcome.took_s <= first_s * DRIFT:
                self._stretch(seen, outcome.took_s / first_s)
        return outcome

    async def _measure(self, seen: _Seen, first_s: float) -> Outcome:
        """Whether it is our model there, and how long batches take; the first within `first_s`. Raises Misfit."""
        lane = seen.lane
        lane.accepted = await self._accepted(seen, first_s)
        curve: list[tuple[int, float]] = []
        outcome = await self._infer(lane, 1, first_s)  # the first may have to load the model
        for rows in sizes(lane.spec.batch):
            if outcome.verdict is not Verdict.ANSWERED:
                return outcome
            tried = await self._infer(lane, rows, MEASURE_TIMEOUT_S)
            if tried.verdict is Verdict.HEARD and curve:
                log.info(
                    "model %s: the upstream takes at most %d rows: %s",
                    lane.spec.name,
                    curve[-1][0],
                    tried.result.detail,
                )
                break
            outcome = tried
            curve.append((rows, outcome.took_s))
        outcome.took_s = curve[0][1]
        if outcome.verdict is Verdict.ANSWERED:
            seen.measured = True
            self._grant(seen, curve)
        return outcome

    async def _accepted(self, seen: _Seen, timeout_s: float) -> tuple[tuple[TensorSpec, ...], ...]:
        lane, options = seen.lane, self._options
        try:
            reply = await self._client.get(lane.path, timeout_s, MAX_METADATA_BYTES)
        except Unreachable as error:
            raise Misfit(str(error)) from None
        except TimeoutError:
            raise Misfit("no answer about its metadata") from None
        if reply.status != 200:
            raise Misfit(f"its metadata cannot be read: it answers {reply.status}")
        return accepted_there(lane.spec, reply.body, options.versions.get(lane.spec.name, ""))

    async def _infer(self, lane: UpstreamLane, rows: int, timeout_s: float) -> Outcome:
        sent = as_tensors(filled(lane.accepted[-1], batch=rows))
        return await lane.ask(f"probe-{lane.spec.name}", sent, rows, (), timeout_s)

    def _stretch(self, seen: _Seen, ratio: float) -> None:
        self._grant(seen, [(rows, seconds * ratio) for rows, seconds in seen.grant.curve])

    def _grant(self, seen: _Seen, curve: list[tuple[int, float]]) -> None:
        seen.grant = msgspec.structs.replace(seen.grant, max_rows=curve[-1][0], curve=curve)
        seen.lane.curve = tuple(curve)
        self._server.regrant(seen.grant)


def _not_ready(reply: Reply) -> str:
    if reply.status == 200:
        try:
            said = json.loads(reply.body or b"{}")
        except (ValueError, RecursionError):
            return ""
        return "it says that it is not ready" if isinstance(said, dict) and said.get("ready") is False else ""
    return "" if reply.status in SAYS_NOTHING else f"its readiness answers {reply.status}"
