"""One model of an upstream as a replica's lane: each item becomes a request of its own, several at once.

Owns what is under way there. An item's budget goes with it, and its end, however it comes, ends the request.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from deployments.backends.base import Placement
from deployments.lane import BatchResult, Result
from deployments.upstream.client import Options, Reply, Unreachable, UpstreamClient
from deployments.upstream.outcome import Outcome, Verdict, failed, of_status, out_of_time, unreachable
from models import tensors
from models.spec import ModelSpec
from router.config.settings import UPSTREAM
from router.core.predict import Curve, service_s
from router.policy.variables import PRIORITIES
from router.protocol.link import Item, Tensor
from router.protocol.oip_binary import JSON_LENGTH
from router.protocol.oip_client import BadAnswer, Unsendable, decode_answer, encode_request, fitted, model_path
from router.service.head import MAX_HOPS
from router.state.availability import Availability, Drift

if TYPE_CHECKING:
    from models.pipeline import TextPipeline

log = logging.getLogger("pointsman.upstream")

OTHER_HARDWARE = "wrong_accelerator"
MAX_DIGITS = 18
MAX_VERSION = 64
"""Characters."""


class Declared(msgspec.Struct, frozen=True):
    """What the configuration says of the pool, and policy has judged."""

    accelerator: str
    region: str
    emulated: bool


class UpstreamLane:
    """A deployments.lane.Worker. Everything runs on one event loop."""

    forwards = True
    overruns = 0
    is_alive = True

    def __init__(
        self,
        spec: ModelSpec,
        there: tuple[str, str],
        client: UpstreamClient,
        options: Options,
        declared: Declared,
        pipeline: TextPipeline | None,
    ) -> None:
        """`there`: what the model is called there, and the version to ask for ("" for whichever)."""
        self.spec = spec
        self.accepted = spec.accepted_inputs()
        """Sets of inputs that the upstream takes."""
        self.availability = Availability(options.hung_after)
        self.placement = Placement(UPSTREAM, 0, 0, f"{there[0]} at {options.url}")
        self.path = model_path(*there)
        self.client = client
        self._version = there[1]
        self._options = options
        self._declared = declared
        self._pipeline = pipeline
        self.curve: Curve = ()
        """As last granted; empty until the model is measured."""
        self.drifted: Callable[[float], None] = lambda ratio: None
        """Told once answers take so many times what the curve says."""
        self.on_ended: Callable[[], None] = lambda: None
        """Told after each request: it may have opened or closed the model."""
        self._drift = Drift()
        self._under_way: dict[asyncio.Task[Outcome], int] = {}
        self._given_up: set[asyncio.Task[Outcome]] = set()

    @property
    def open_items(self) -> int:
        """Requests under way."""
        return len(self._under_way)

    def submit(self, items: Sequence[Item], on_done: Callable[[BatchResult], None]) -> Callable[[], None]:
        """See Worker.submit. Called on the event loop."""
        (item,) = items
        started_s = time.perf_counter()
        self.availability.sent(started_s)
        rows = sum(self._under_way.values()) + item.rows
        task = asyncio.get_running_loop().create_task(self._forward(item, started_s + item.budget_us * 1e-6))
        self._under_way[task] = item.rows
        # A callback, not the task's own last step: a task cancelled before its first step has none.
        task.add_done_callback(partial(self._ended, item, rows, on_done))
        return task.cancel

    def give_up(self) -> None:
        """End everything that is under way: it will not be answered there, and may be elsewhere."""
        for task in self._under_way.keys() - self._given_up:
            self._given_up.add(task)
            task.cancel()

    def check_health(self) -> None:
        """See Worker.check_health. An upstream that fails is closed, its replica is well."""

    def close(self) -> None:
        """See Worker.close. What is under way has no one to hear of it any more."""

    def _ended(
        self, item: Item, rows: int, on_done: Callable[[BatchResult], None], task: asyncio.Task[Outcome]
    ) -> None:
        del self._under_way[task]
        if task.cancelled():
            lost = task in self._given_up
            self._given_up.discard(task)
            words = ("backend_lost", "the upstream has stopped answering") if lost else ("cancelled", "")
            outcome = Outcome(Result(*words, []), Verdict.LEFT)
        elif (error := task.exception()) is not None:
            log.error("model %s: request %s: %r", self.spec.name, item.request_id, error)
            outcome = failed(f"internal error: {type(error).__name__}")
        else:
            outcome = task.result()
        self._tell(outcome)
        self.on_ended()
        if outcome.result.reason:
            log.info("model %s: request %s: %s", self.spec.name, item.request_id, outcome.result.detail)
        elif (ratio := self._drift.observe(outcome.took_s, service_s(self.curve, rows))) is not None:
            self.drifted(ratio)
        on_done(BatchResult([outcome.result], 0.0, outcome.took_s, rows))

    def _tell(self, outcome: Outcome) -> None:
        now_s = time.perf_counter()
        match outcome.verdict:
            case Verdict.ANSWERED:
                self.availability.answered(outcome.took_s, now_s)
            case Verdict.HEARD:
                self.availability.heard(now_s, doubtful=bool(outcome.why))
            case Verdict.FAILED:
                self.availability.failed(outcome.why, now_s)
            case Verdict.REFUSED:
                self.availability.refused(outcome.why, outcome.retry_after_s, now_s)
            case Verdict.LEFT:
                self.availability.left(now_s)

    async def _forward(self, item: Item, deadline_s: float) -> Outcome:
        if item.hops >= MAX_HOPS:
            words = f"the request has passed {item.hops} routers already: one more is not asked"
            return Outcome(Result("too_many_hops", words, [], False), Verdict.LEFT)
        try:
            sent = await self._inputs(item)
        except tensors.TensorError as error:
            return Outcome(Result(error.reason, str(error), [], False), Verdict.LEFT)
        if sent is None:
            words = "the upstream does not take this form of the model's inputs"
            return Outcome(Result("model_not_found", words, [], False), Verdict.LEFT)
        budget_s = deadline_s - time.perf_counter()
        if budget_s <= 0:
            return out_of_time()
        outcome = await self.ask(item.request_id, sent, item.rows, item.outputs, budget_s, item.priority, item.hops)
        result = outcome.result
        if item.version and not result.reason:
            if not self._version and result.version != item.version:
                words = f"the upstream answers with version {result.version!r}, {item.version!r} was asked for"
                return Outcome(Result("model_not_found", words, [], False), Verdict.HEARD)
            result.version = item.version
        return outcome

    async def _inputs(self, item: Item) -> list[Tensor] | None:
        """The item's tensors as the upstream takes them: its own, or tokenised; None where neither will do."""
        names = {tensor.name for tensor in item.tensors}
        sets = [{spec.name for spec in specs} for specs in self.accepted]
        if names in sets:
            return item.tensors
        text = self.spec.text
        if self._pipeline is None or text is None or names != {text.tensor.name}:
            return None
        (given,) = item.tensors
        array = tensors.from_wire(given.datatype, given.shape, given.data, given.name)
        encoded = await asyncio.get_running_loop().run_in_executor(None, self._pipeline.encode, array)
        return as_tensors(encoded)

    async def ask(
        self,
        request_id: str,
        sent: Sequence[Tensor],
        rows: int,
        outputs: Sequence[str],
        budget_s: float,
        priority: int = 0,
        hops: int = 0,
    ) -> Outcome:
        """One inference there, within the budget."""
        budget_us = max(1, int(budget_s * 1e6))
        parameters = {"timeout": budget_us} if self._options.timeout_parameter else {}
        binary = self._options.tensors == "binary"
        try:
            parts, headers = encode_request(request_id, sent, outputs, parameters, binary=binary)
        except Unsendable as error:
            return Outcome(Result("model_not_found", f"the upstream takes JSON only: {error}", [], False), Verdict.LEFT)
        headers |= {
            "x-request-id": request_id,
            "x-pointsman-timeout": f"{budget_us}us",
            "x-pointsman-priority": PRIORITIES[min(priority, len(PRIORITIES) - 1)],
            "x-pointsman-hops": str(hops + 1),
            "x-pointsman-only-accelerator": self._declared.accelerator,
            "x-pointsman-only-region": self._declared.region,
            "x-pointsman-only-emulated": str(self._declared.emulated).lower(),
        }
        started_s = time.perf_counter()
        try:
            reply = await self.client.post(f"{self.path}/infer", headers, parts, budget_s)
        except Unreachable as error:
            return unreachable(error)
        except TimeoutError:
            return out_of_time()
        took_s = time.perf_counter() - started_s
        outcome = of_status(reply) if reply.status != 200 else self._answer(reply, rows, outputs)
        outcome.took_s = took_s
        return outcome

    def _answer(self, reply: Reply, rows: int, outputs: Sequence[str]) -> Outcome:
        if other := self._other_hardware(reply):
            return failed(other, OTHER_HARDWARE)
        length = reply.headers.get(JSON_LENGTH)
        try:
            if length is not None and not (length.isascii() and length.isdigit() and len(length) <= MAX_DIGITS):
                raise BadAnswer(f"{JSON_LENGTH} is no number")
            version, found = decode_answer(reply.body, None if length is None else int(length))
            if self._version and version != self._version:
                raise BadAnswer(f"version {version!r} answered, {self._version!r} was asked for")
            if len(version) > MAX_VERSION:
                raise BadAnswer("its version is longer than a version is")
            fit = fitted(self.spec, found, rows, outputs)
            return Outcome(Result("", "", fit, version=version), Verdict.ANSWERED)
        except BadAnswer as error:
            return failed(str(error))

    def _other_hardware(self, reply: Reply) -> str:
        """What a Pointsman says it ran on, where that is not what the pool is declared as, which policy judged."""
        declared = self._declared
        accelerator = reply.headers.get("x-pointsman-accelerator")
        emulated = reply.headers.get("x-pointsman-emulated", "false") == "true"
        if accelerator is not None and accelerator != declared.accelerator:
            return f"it ran on {accelerator}, the pool is declared as {declared.accelerator}"
        if emulated != declared.emulated and (emulated or accelerator is not None):
            return f"it ran on {'emulated' if emulated else 'real'} hardware, the pool is declared otherwise"
        return ""


def as_tensors(arrays: tensors.Arrays) -> list[Tensor]:
    """Arrays in the form they travel in."""
    found = []
    for name, array in arrays.items():
        datatype = tensors.datatype_of(array)
        found.append(Tensor(name, datatype, list(array.shape), tensors.to_wire(array, datatype, name)))
    return found
