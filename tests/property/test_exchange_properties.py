"""Every request ends exactly once and gives everything back, whatever replicas, clients and the clock do."""

from __future__ import annotations

import random

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.spec import BatchRule, ModelSpec, TensorSpec
from router.core.eligibility import EligibilityRow, Verdict
from router.core.facts import AcceleratorFacts, PoolFacts, TenantFacts
from router.core.profile import default_profile
from router.policy.credentials import Credentials, digest
from router.protocol.codec import ParseLimits
from router.protocol.link import Answer, ModelGrant, Tensor
from router.service.cycle import Cycle
from router.service.handler import Handler
from router.service.head import Head, ModelDefaults
from router.service.reply import badge
from router.state.fleet_view import FleetView
from router.state.inflight import Ledger

POOLS = ("a", "b")
SPEC = ModelSpec(
    "m", "1", (TensorSpec("x", "FP32", ("batch", 2)),), (TensorSpec("y", "FP32", ("batch", 2)),), BatchRule(8), ()
)
BODY = orjson.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]})


class Rig:
    """A handler over two pools of two replicas each; the test answers what it sends. Time stands still."""

    def __init__(self) -> None:
        facts = [PoolFacts(p, AcceleratorFacts("x86-cpu"), "here", "cpu", False, {}, 1.0, ("m",)) for p in POOLS]
        self.ledger, self.time_s = Ledger(), 100.0
        self.fleet = FleetView(facts, self.ledger, queue_items=8)
        for pool in POOLS:
            for replica in ("r1", "r2"):
                self.fleet.replica_up(
                    pool, pool + replica, [ModelGrant("m", "1", 8, 8, 1 << 20, [(1, 0.001), (8, 0.002)])]
                )
        self.sent, self.timers, self.records, self.replies = [], {}, [], []
        self.full = False
        tenant = TenantFacts("t", (digest("key"),), 0, {})
        self.handler = Handler(
            specs={"m": {"1": SPEC}}, defaults={"m": ModelDefaults(0.1, 2.0, 60.0)}, credentials=Credentials([tenant]),
            policy=self, cycle=Cycle(self.fleet, self.ledger, default_profile(), random.Random(1)), timers=self,
            clock=self, record=self.records.append, badges={p: badge(p, "x86-cpu", False) for p in POOLS},
            limits=ParseLimits(100, 10_000), dispatcher=self,
        )  # fmt: skip

    # the handler's ports
    def now_s(self) -> float:
        return self.time_s

    def unix_s(self) -> float:
        return 0.0

    def lookup(self, *_: object) -> EligibilityRow:
        return EligibilityRow("v", {p: Verdict(True, "all", "") for p in POOLS})

    def call_later(self, delay_s, callback):
        key = object()
        self.timers[key] = callback
        return lambda: self.timers.pop(key, None)

    def send(self, pool, item, nbytes, deadline_s, on_answer, without=()):
        if self.full:
            return None
        left = [name for name in (pool + "r1", pool + "r2") if name not in without]
        assert left, "a pool whose replicas have all failed is tried no more"
        ticket = Ticket(pool, left[0], on_answer)
        self.sent.append(ticket)
        return ticket

    def held(self) -> int:
        return sum(self.ledger.held(pool).requests for pool in POOLS)

    def start(self):
        return self.handler.start(Head("m", "", "r", "key"), BODY, self.replies.append)


class Ticket:
    def __init__(self, pool, replica, on_answer) -> None:
        self.pool, self.replica, self.on_answer, self.cancelled = pool, replica, on_answer, False

    waited_s = 0.0

    def cancel(self) -> None:
        self.cancelled = True


def answer(values=(1.0, 2.0), reason: str = "", dispatched: bool = True) -> Answer:
    data = memoryview(np.array(values, "<f4").tobytes())
    tensors = [] if reason else [Tensor("y", "FP32", [1, 2], data)]
    return Answer(1, reason, "words", dispatched, 1, 1, 1, 1, tensors, "" if reason else "1")


ANSWERS = {
    "good": answer(),
    "nan": answer((float("nan"), 1.0)),
    "short": Answer(1, "", "", True, 1, 1, 1, 1, [Tensor("y", "FP32", [1, 2], memoryview(b"123"))], "1"),
    "failed": answer(reason="backend_failed"),
    "lost": answer(reason="backend_lost"),
    "full": answer(reason="queue_full", dispatched=False),
    "draining": answer(reason="draining", dispatched=False),
    "expired": answer(reason="expired", dispatched=False),
    "malformed": answer(reason="malformed"),
    "nonsense": answer(reason="a word nobody knows"),
}


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from([*ANSWERS, "deadline", "gone", "no room"]), min_size=1, max_size=6))
def test_a_request_ends_once_and_holds_nothing_after(events):
    """One record and one reply (none for a client that has gone), no lease, no timer, in any order of events."""
    rig = Rig()
    rig.full = events[0] == "no room"
    exchange = rig.start()
    for event in events:
        rig.full = event == "no room"
        if event == "gone":
            exchange.cancel()
        elif event == "deadline":
            for callback in list(rig.timers.values()):
                callback()
        elif event in ANSWERS and rig.sent and not rig.sent[-1].cancelled:
            ticket = rig.sent.pop()
            ticket.on_answer(ANSWERS[event])
    if not rig.records:
        exchange.cancel()
    assert len(rig.records) == 1
    assert len(rig.replies) == (0 if rig.records[0].outcome == "client_gone" else 1)
    assert rig.held() == 0
    assert not rig.timers
    assert rig.handler.open_exchanges == 0


def test_an_answer_that_json_cannot_carry_costs_no_capacity():
    """NaN is a 502, and the pool is as free as before."""
    rig = Rig()
    for _ in range(50):
        rig.start()
        rig.sent.pop().on_answer(ANSWERS["nan"])
    assert {reply.status for reply in rig.replies} == {502}
    assert rig.held() == 0


def test_a_retry_goes_to_a_replica_that_has_not_failed_it():
    """First the other replica of the pool, then the other pool."""
    rig = Rig()
    rig.start()
    seen = []
    for _ in range(3):
        ticket = rig.sent.pop()
        seen.append((ticket.pool, ticket.replica))
        ticket.on_answer(ANSWERS["failed"])
    assert len(set(seen)) == 3
    assert rig.replies[0].status == 502


def test_a_retry_goes_by_the_rules_in_force_then():
    """A rule that comes between two attempts keeps the second one off the pool it forbids."""
    rig = Rig()
    rig.start()
    first = rig.sent.pop()
    rig.lookup = lambda *_: EligibilityRow("v2", {p: Verdict(p != first.pool, "new", "") for p in POOLS})
    first.on_answer(ANSWERS["failed"])
    assert rig.sent.pop().pool != first.pool


HALF = ModelSpec(
    "m", "1", (TensorSpec("x", "FP32", ("batch", 2)),),
    (TensorSpec("y", "FP32", ("batch", 2)), TensorSpec("h", "FP16", ("batch",)), TensorSpec("b", "BF16", ("batch",))),
    BatchRule(8), (),
)  # fmt: skip


def asking(outputs=None, **parameters):
    """A request for HALF."""
    return orjson.dumps(orjson.loads(BODY) | {"outputs": outputs, "parameters": parameters})


def flagged(name, binary):
    """An output for which the client says how it is to come."""
    return {"name": name, "parameters": {"binary_data": binary}}


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        (asking(), "output 'h': FP16"),
        (asking([{"name": "y"}, {"name": "b"}]), "output 'b': BF16"),
        (asking([flagged("h", True), {"name": "b"}]), "output 'b': BF16"),
        (asking([flagged("h", False)], binary_data_output=True), "output 'h': FP16"),
        (asking([{"name": "y"}]), ""),
        (asking([flagged("h", True), {"name": "y"}]), ""),
        (asking([flagged("y", False), {"name": "b"}], binary_data_output=True), ""),
        (asking(binary_data_output=True), ""),
    ],
)
def test_an_output_without_a_json_form_is_refused_as_json_before_anything_runs(body, refused):
    """And is let through where it is asked for as binary data."""
    rig = Rig()
    rig.handler.specs = {"m": {"1": HALF}}
    rig.handler.start(Head("m", "", "r", "key"), body, rig.replies.append)
    assert bool(rig.sent) == (not refused)
    if refused:
        (reply,) = rig.replies
        assert reply.status == 400
        assert f"{refused} has no JSON form, ask for it as binary data" in orjson.loads(reply.body)["error"]


def test_the_replicas_bytes_leave_as_they_came():
    """A binary answer is not copied on its way out, and NaN is no trouble to it."""
    rig = Rig()
    rig.handler.start(Head("m", "", "r", "key"), asking(binary_data_output=True), rig.replies.append)
    given = ANSWERS["nan"]
    rig.sent.pop().on_answer(given)
    (reply,) = rig.replies
    assert reply.status == 200
    assert reply.more[0] is given.tensors[0].data
    headers = dict(reply.headers())
    assert headers["content-type"] == "application/octet-stream"
    assert headers["inference-header-content-length"] == str(len(reply.body))


def test_a_timeout_beyond_all_numbers_is_refused():
    """It would overflow a float."""
    rig = Rig()
    rig.handler.start(
        Head("m", "", "r", "key"), asking(timeout=5).replace(b"5}", b"9" * 400 + b"}"), rig.replies.append
    )
    assert rig.replies[0].status == 400
