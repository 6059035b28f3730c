"""One inference request from bytes to reply, driven by callbacks: no coroutine, no future, no I/O of its own.

Every exchange ends exactly once: with a reply, or because its client left. The order of the steps of a decision is
cycle.py's; what this file adds is who, parse, deadline, and the end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from models import tensors
from models.spec import ModelSpec
from router.core.decision import Decision
from router.core.errors import CapacityError, RequestError, RouterError, UpstreamError
from router.core.outcome import no_pool_error
from router.core.record import RequestRecord
from router.core.request import RequestFacts
from router.protocol.codec import BINARY_ONLY, Body, Encoded, ParsedInfer
from router.protocol.link import Answer, Item, Tensor
from router.protocol.problem import client_reason, problem
from router.service.cycle import Attempt
from router.service.head import Head
from router.service.ports import Ticket
from router.service.reply import NO_POOL, Reply, Stages, answered, failed

if TYPE_CHECKING:
    from router.service.handler import Handler

log = logging.getLogger("pointsman.request")

OnEnd = Callable[[Reply], None]
_CLIENT_FAULTS = frozenset({"malformed", "shape_mismatch", "too_large"})


class Exchange:
    """One request on its way. `cancel` when the client has gone; otherwise `on_end` gets the reply."""

    __slots__ = (
        "_attempt", "_body", "_cancel_timer", "_decision", "_ended", "_facts", "_failed", "_h", "_head", "_item",
        "_last_error", "_late", "_on_end", "_parsed", "_stages", "_started_s", "_tenant", "_ticket", "_version",
        "counted",
    )  # fmt: skip

    def __init__(self, handler: Handler, head: Head, on_end: OnEnd) -> None:
        self._h = handler
        self._head = head
        self._on_end = on_end
        self._started_s = handler.clock.now_s()
        self._stages = Stages()
        self._tenant = ""
        self._version = ""
        self._parsed: ParsedInfer | None = None
        self._facts: RequestFacts | None = None
        self._item: Item | None = None
        self._decision: Decision | None = None
        self._attempt: Attempt | None = None
        self._ticket: Ticket | None = None
        self._cancel_timer: Callable[[], None] | None = None
        self._last_error: RouterError | None = None
        self._failed: tuple[tuple[str, str], ...] = ()
        self.counted = ""
        """Tenant that it counts for as under way."""
        self._body: Body = b""
        """While it waits for its turn to be parsed."""
        self._late = False
        self._ended = False

    def run(self, body: Body) -> None:
        """Who, parse, then decide and send; every error becomes a reply."""
        try:
            self._parse(body)
            self._dispatch()
        except RouterError as error:
            self._fail(error)
        except Exception:
            self._internal()

    def wait(self, body: Body) -> None:
        """Keep the body until `run_late`, or until the request is over."""
        self._body = body

    def run_late(self) -> None:
        """Run for one that had to wait for its turn: it may be over by now, or out of time."""
        if not self._ended:
            self._late = True
            body, self._body = self._body, b""
            self.run(body)

    def refuse(self, error: RouterError) -> None:
        """End a request before its body is looked at."""
        self._tenant = self.counted
        self._fail(error)

    def cancel(self) -> None:
        """The client has gone: give back what is held and record it."""
        if not self._ended:
            self._end("client_gone", problem("client_gone").status)

    def _parse(self, body: Body) -> None:
        h, head = self._h, self._head
        terms = head.terms
        if terms is None or terms.generation is not h.generation:
            proven = h.authenticate(head)
            self._tenant = proven.id
            terms = h.terms(head, proven)
        tenant, spec = terms.tenant, terms.spec
        self._tenant, self._version = tenant.id, spec.version
        if self._late and h.clock.now_s() - self._started_s > terms.times.timeout_s:
            raise CapacityError("deadline_unmeetable", "the deadline passed before the body was parsed")
        parsed = self._parsed = head.codec.parse(body, h.limits)
        times = terms.times.narrowed(parsed.parameters)
        try:
            rows = tensors.check(terms.accepted, parsed.inputs)
        except tensors.TensorError as error:
            raise RequestError(error.reason, str(error)) from error
        _check_outputs(spec, parsed)
        sent = []
        nbytes = 0
        for name, array in parsed.inputs.items():
            datatype = tensors.datatype_of(array)
            data = tensors.to_wire(array, datatype)
            nbytes += data.nbytes
            sent.append(Tensor(name, datatype, list(array.shape), data))
        facts = self._facts = h.facts(head, tenant, times, rows, nbytes, self._started_s)
        facts.only = terms.only
        self._item = Item(
            0, head.model, head.version, 0, times.priority, tenant.id, facts.eligible.version, head.request_id, rows,
            list(parsed.outputs), sent, terms.hops,
        )  # fmt: skip
        now_s = h.clock.now_s()
        self._stages.parse_s = now_s - self._started_s
        self._cancel_timer = h.timers.call_later(max(0.0, facts.deadline_s - now_s), self._on_deadline)

    def _dispatch(self) -> None:
        """Decide and send; where a pool's queue turns out full, decide again without it."""
        h, facts, item = self._h, self._facts, self._item
        assert facts is not None
        assert item is not None
        while True:
            now_s = h.clock.now_s()
            decision = self._decision = h.cycle.decide(facts, now_s)
            self._stages.decide_s += h.clock.now_s() - now_s
            if not decision.pool:
                raise no_pool_error(decision, facts, self._last_error)
            attempt = self._attempt = h.cycle.dispatch(decision, facts, now_s)
            item.id = h.new_item_id()
            self._ticket = h.dispatcher.send(
                decision.pool, item, facts.nbytes, facts.deadline_s, self._on_answer, facts.tried_replicas
            )
            if self._ticket is not None:
                return
            self._attempt = None
            self._last_error = h.cycle.on_refused(attempt)

    def _on_answer(self, answer: Answer) -> None:
        if self._ended:
            return
        try:
            self._settle(answer)
        except RouterError as error:
            self._fail(error)
        except Exception:
            self._internal()

    def _settle(self, answer: Answer) -> None:
        """An attempt has ended: reply, try again, or raise what ends the request."""
        h, attempt, ticket = self._h, self._attempt, self._ticket
        assert attempt is not None
        assert ticket is not None
        now_s = h.clock.now_s()
        # Whatever the answer holds, it has come: the cycle releases the lease, and nothing is left to give back.
        self._attempt = self._ticket = None
        if not answer.reason:
            h.cycle.on_answer(attempt, answer, now_s)
            version = answer.version or self._version
            assert self._parsed is not None
            body = self._head.codec.encode(self._head.model, version, self._parsed, answer.tensors)
            self._succeed(answer, attempt, ticket.waited_s + answer.queue_us * 1e-6, body, now_s)
            return
        attempt.replica = ticket.replica
        error = self._last_error = _error_of(answer, h.reveal_pools, attempt.predicted_s)
        self._failed += ((attempt.lease.pool, error.reason),)
        # Inference has no side effects, so what failed for any reason of the replica's may run again elsewhere.
        again = h.cycle.on_failure(attempt, not isinstance(error, RequestError), now_s)
        log.info(
            "request %s: attempt on %s: %s: %s", self._head.request_id, attempt.lease.pool, answer.reason, answer.detail
        )
        if not again:
            raise error
        self._ask_policy_again()
        self._dispatch()

    def _ask_policy_again(self) -> None:
        """Rules may have changed since the last attempt; the next one goes by those in force now."""
        facts, item = self._facts, self._item
        assert facts is not None
        assert item is not None
        facts.eligible = self._h.policy.lookup(facts.tenant, facts.model, facts.version, facts.priority)
        item.policy_version = facts.eligible.version

    def _on_deadline(self) -> None:
        """The budget is spent: whatever is under way is of no use any more."""
        if self._ended:
            return
        if self._ticket is not None and self._ticket.replica:
            self._fail(UpstreamError("backend_timeout", "the deadline passed before the pool answered"))
        else:
            self._fail(CapacityError("deadline_unmeetable", "the deadline passed while waiting for a replica"))

    def _give_back(self) -> None:
        """The one place where an end gives up what is still under way."""
        ticket, attempt = self._ticket, self._attempt
        self._ticket = self._attempt = None
        if ticket is not None:
            ticket.cancel()
        if attempt is not None:
            self._h.cycle.on_dropped(attempt, self._h.clock.now_s())

    def _succeed(self, answer: Answer, attempt: Attempt, queue_s: float, body: Encoded, now_s: float) -> None:
        h, request, pool = self._h, attempt.request, attempt.lease.pool
        badge = h.badges[pool]
        total_s = now_s - self._started_s
        stages = self._stages
        stages.queue_s = queue_s
        record = RequestRecord(
            self._head.request_id, self._tenant, self._head.model, "answered", 200, pool, badge.accelerator,
            badge.emulated, request.attempts, stages.parse_s, stages.decide_s, queue_s,
            answer.batch_us * 1e-6, answer.run_us * 1e-6, total_s, answer.batch_rows, attempt.predicted_s,
            now_s - attempt.sent_s, now_s <= request.deadline_s, total_s <= request.target_s, rows=request.rows,
            failed=self._failed,
        )  # fmt: skip
        self._finish(record)
        self._on_end(answered(self._head.request_id, badge, stages, answer, total_s, body))

    def _fail(self, error: RouterError) -> None:
        self._end(error.reason, problem(error.reason).status)
        log.info("request %s: %s: %s", self._head.request_id, error.reason, error.detail)
        self._on_end(failed(error, self._head.request_id))

    def _internal(self) -> None:
        """A fault of ours must not leave a request without an end."""
        log.exception("request %s: internal error", self._head.request_id)
        if not self._ended:
            self._fail(RouterError("internal", "internal error; the router's log has the details"))

    def _end(self, outcome: str, status: int) -> None:
        """The record of a request that ends without an answer."""
        h, decision, facts = self._h, self._decision, self._facts
        pool = decision.pool if decision else ""
        rejected = tuple((r.pool, r.reason.value) for r in decision.rejected) if decision and not pool else ()
        badge = h.badges.get(pool, NO_POOL)
        model = self._head.model if self._tenant and self._head.model in h.specs else ""
        total_s = h.clock.now_s() - self._started_s
        self._finish(
            RequestRecord(
                self._head.request_id, self._tenant, model, outcome, status, pool, badge.accelerator, badge.emulated,
                facts.attempts if facts else 0, self._stages.parse_s, self._stages.decide_s, total_s=total_s,
                rejected=rejected, failed=self._failed,
            )
        )  # fmt: skip

    def _finish(self, record: RequestRecord) -> None:
        self._ended = True
        self._body = b""
        self._give_back()
        if self._cancel_timer is not None:
            self._cancel_timer()
        self._h.ended(record, self.counted)


def _check_outputs(spec: ModelSpec, asked: ParsedInfer) -> None:
    """Before anything runs: outputs that the model has, in a form that they have. Raises RequestError."""
    for name in asked.outputs:
        if all(name != output.name for output in spec.outputs):
            known = ", ".join(output.name for output in spec.outputs)
            raise RequestError("shape_mismatch", f"unknown output {name!r}; {spec.name} gives {known}")
    for output in spec.outputs:
        if output.datatype not in BINARY_ONLY or asked.wants_binary(output.name):
            continue
        if not asked.outputs or output.name in asked.outputs:
            detail = f"output {output.name!r}: {output.datatype} has no JSON form, ask for it as binary data"
            raise RequestError("malformed", detail)


def _error_of(answer: Answer, reveal_pools: bool, predicted_s: float) -> RouterError:
    """The error that ends the request if it may not be tried again; what waiting helps says how long was predicted."""
    reason = client_reason(answer.reason, answer.dispatched)
    if reason in _CLIENT_FAULTS:
        return RequestError(reason, answer.detail)
    # A runtime's own words name its provider, its device, its host.
    detail = answer.detail if reveal_pools else f"{problem(reason).title.lower()}; the router's log has the details"
    if reason == "backend_lost":
        return CapacityError("no_ready_pool", f"{detail}; no other pool that may serve this is ready")
    if not answer.dispatched:
        return CapacityError(reason, detail, retry_after_s=predicted_s if reason == "saturated" else None)
    return UpstreamError(reason, detail)
