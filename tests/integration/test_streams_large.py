"""Large items and answers between a router and a replica that does what the test says, over real sockets.

Each is answered once, ends alone where it must end, and neither holds up what is small nor fills anyone's memory.
"""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest
import uvloop
from stream_rig import FACTS, KEY, Router, rows, until

from deployments import link_replica, stream
from deployments.link_replica import ReplicaEnd
from deployments.link_router import RouterEnd
from deployments.pool_links import LinkTicket
from router.protocol.link import FRAGMENT_BYTES, WINDOW_BYTES, Answer, Item, Load, ModelGrant, Tensor, Welcome

MIB = 1 << 20
KIB_ROWS = 1024
"""Rows of 256 floats in a MiB."""
GRANT_BYTES = 64 * MIB
TRANSPORT_BYTES = 64 * 1024
"""What a transport holds before it asks to pause."""


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """Both loops: they differ in what they do with buffers."""
    return request.param()


class Far:
    """A replica whose items wait for the test, or are echoed. Implements link_replica.ReplicaListener."""

    def __init__(self, echo: bool) -> None:
        self.echo = echo
        self.items: dict[int, Item] = {}
        self.seen: list[tuple[str, int]] = []
        """Items and cancels, in the order they came."""
        self.streams: list[ReplicaEnd] = []

    async def listen(self) -> Far:
        """Accept one router."""
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: ReplicaEnd(KEY, self, loop), "127.0.0.1", 0)
        self.address = self.server.sockets[0].getsockname()
        return self

    @property
    def stream(self) -> ReplicaEnd:
        """The one stream."""
        return self.streams[-1]

    def answer(self, number: int, tensors: list[Tensor], detail: str = "") -> None:
        """Answer an item by hand."""
        self.stream.answer(Answer(number, "", detail, True, 0, 0, 0, 1, tensors))

    def on_open(self, stream: ReplicaEnd) -> None:
        """Greet."""
        self.streams.append(stream)
        grant = ModelGrant("mlp", "1", 1 << 20, 1 << 16, GRANT_BYTES, [(1, 0.001)])
        stream.send(Welcome(1, "cpu", "r1", "x86-cpu", "none", False, [grant], FACTS))

    def on_items(self, stream: ReplicaEnd, items: list[Item]) -> None:
        """Keep or echo."""
        for item in items:
            self.seen.append(("item", item.id))
            self.items[item.id] = item
            if self.echo:
                self.answer(item.id, self.items.pop(item.id).tensors)

    def on_cancel(self, stream: ReplicaEnd, ids: list[int]) -> None:
        """What is not answered yet ends here."""
        for number in ids:
            self.seen.append(("cancel", number))
            if self.items.pop(number, None) is not None:
                stream.answer(Answer(number, "cancelled", "", False, 0, 0, 0, 0, []))

    def on_lost(self, stream: ReplicaEnd, why: str) -> None:
        """The test is over, or has failed."""

    def load(self) -> Load:
        """None."""
        return Load({}, False, 0)


Join = Callable[..., "asyncio.Future[tuple[Router, Far]]"]


@pytest.fixture
async def join() -> AsyncIterator[Join]:
    """Joins a router and a replica, and ends both."""
    made: list[tuple[Router, Far]] = []

    async def make(*, echo: bool = True, waiting: int = 1024) -> tuple[Router, Far]:
        far = await Far(echo).listen()
        near = Router("cpu", waiting=waiting)
        made.append((near, far))
        near.links.set_members("cpu", {"r1": far.address})
        await until(near.ready)
        return near, far

    yield make
    for near, far in made:
        await near.links.close()
        far.server.close()


def near_end(near: Router) -> RouterEnd:
    """The router's end of the one stream."""
    (end,) = near.links._pools["cpu"].streams.values()
    return end


def numbers(mib: float) -> np.ndarray:
    """So many MiB of input."""
    return rows(1, max(1, int(mib * KIB_ROWS)))


def same_bytes(near: Router, number: int, x: np.ndarray) -> None:
    """The item was echoed whole."""
    np.testing.assert_array_equal(near.output(number), x)


def all_free(near: Router) -> bool:
    """No entry is open and every credit is back."""
    (credit,) = near.queues["cpu"]._credits.values()
    return not near.links._pools["cpu"].open and not credit.open_bytes["mlp"] and not credit.open_items["mlp"]


async def still_passes(near: Router, number: int = 1000) -> None:
    """Small and large items are answered on the stream that was there."""
    before = near_end(near)
    near.send(number, numbers(2))
    near.send(number + 1, rows(2))
    await until(lambda: near.answers[number] and near.answers[number + 1])
    same_bytes(near, number, numbers(2))
    assert near_end(near) is before


@pytest.mark.parametrize("begun", [False, True], ids=["waiting", "half sent"])
async def test_a_large_item_that_nobody_wants_stops_where_it_is(begun: bool, join: Join) -> None:
    """The replica never hears of it, forgets what it has of it, and the credit is free at once."""
    near, far = await join()
    far.stream._transport.pause_reading()
    tickets: list[LinkTicket] = [near.send(number, numbers(8)) for number in range(3)]
    if begun:
        await until(lambda: near_end(near)._in_flight_bytes)
    for ticket in tickets:
        ticket.cancel()
    assert all_free(near)
    assert not near_end(near)._large
    far.stream._transport.resume_reading()
    await still_passes(near)
    assert [number for _, number in far.seen] == [1001, 1000]
    assert not far.stream._reader.gathering
    assert not any(near.answers[number] for number in range(3))


async def test_a_cancel_never_comes_before_its_item(join: Join) -> None:
    """Once all of a large item has left, the cancel follows it, and the replica's answer gives the credit back."""
    near, far = await join(echo=False)
    far.stream._transport.pause_reading()
    ticket = near.send(1, numbers(0.5))
    await until(lambda: near_end(near)._in_flight_bytes and not near_end(near)._large)
    ticket.cancel()
    far.stream._transport.resume_reading()
    await until(lambda: far.seen)
    await until(lambda: all_free(near))
    assert far.seen == [("item", 1), ("cancel", 1)]
    assert not near.answers[1]


async def test_an_answer_that_nobody_wants_stops_where_it_is(join: Join) -> None:
    """A cancel of an item whose answer is half sent: a short answer takes its place, once."""
    near, far = await join(echo=False)
    ticket = near.send(1, rows(1))
    await until(lambda: far.items)
    near_end(near)._transport.pause_reading()
    far.answer(1, [Tensor("y", "UINT8", [8 * MIB], memoryview(bytes(8 * MIB)))])
    await until(lambda: far.stream._in_flight_bytes)
    ticket.cancel()
    await until(lambda: ("cancel", 1) in far.seen)
    assert not far.stream._large
    near_end(near)._transport.resume_reading()
    await until(lambda: all_free(near))
    far.echo = True
    await still_passes(near)
    assert not near_end(near)._reader.gathering


async def test_an_item_too_large_to_be_sent_ends_alone(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    """It never left; the reason is one that clients know, and everything else goes on."""
    monkeypatch.setattr(stream, "MAX_MESSAGE_BYTES", 4 * MIB)
    near, far = await join()
    for number in range(12):  # more than leave at once
        near.send(number, numbers(8) if number == 5 else rows(number))
    await until(lambda: sum(map(len, near.answers.values())) == 12)
    (answer,) = near.answers[5]
    assert (answer.reason, answer.dispatched) == ("too_large", False)
    assert "at most 4194304" in answer.detail
    assert ("item", 5) not in far.seen
    await still_passes(near)
    assert all_free(near)


async def test_an_answer_too_large_to_be_sent_ends_alone(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model ran, so the item is not tried elsewhere; the stream and what is on it go on."""
    near, far = await join(echo=False)
    for number in range(3):
        near.send(number, rows(number))
    await until(lambda: len(far.items) == 3)
    monkeypatch.setattr(stream, "MAX_MESSAGE_BYTES", 4 * MIB)
    for number in range(3):
        nbytes = 8 * MIB if number == 1 else 8
        far.answer(number, [Tensor("y", "UINT8", [nbytes], memoryview(bytes(nbytes)))])
    await until(lambda: all(near.answers[number] for number in range(3)))
    (answer,) = near.answers[1]
    assert (answer.reason, answer.dispatched, answer.tensors) == ("too_large", True, [])
    assert near.reasons() == {"", "too_large"}
    far.echo = True
    await still_passes(near)


HOLES = np.zeros((4 * MIB, 2), np.uint8)[:, 0].data


@pytest.mark.parametrize("tensor", ["a lone surrogate", "small holes", "large holes"])
async def test_an_answer_that_cannot_be_encoded_ends_alone(tensor: str, join: Join) -> None:
    """Whatever a backend has put there: its neighbours in the frame are answered as if it were not there."""
    near, far = await join(echo=False)
    for number in range(5):
        near.send(number, rows(number))
    await until(lambda: len(far.items) == 5)
    bad = {
        "a lone surrogate": Tensor("\ud800", "UINT8", [1], memoryview(b"x")),
        "small holes": Tensor("y", "UINT8", [4], HOLES[:4]),
        "large holes": Tensor("y", "UINT8", [4 * MIB], HOLES),
    }[tensor]
    for number in range(5):
        far.answer(number, [bad if number == 2 else Tensor("y", "UINT8", [1], memoryview(b"x"))])
    await until(lambda: all(near.answers[number] for number in range(5)))
    assert [len(near.answers[number]) for number in range(5)] == [1] * 5
    assert near.answers[2][0].reason == "backend_failed"
    assert near.reasons() == {"", "backend_failed"}
    far.echo = True
    await still_passes(near)
    assert all_free(near)


@pytest.mark.parametrize("mib", [0, 1], ids=["small", "large"])
async def test_an_item_that_cannot_be_encoded_ends_alone(mib: int, join: Join) -> None:
    """A fault of the router's, told as such."""
    near, _ = await join()
    pool = near.links._pools["cpu"]
    for number in range(3):
        near.send(number, numbers(mib))
        pool.open[number].item.tenant = "\ud800" if number == 1 else "someone"
    await until(lambda: all(near.answers[number] for number in range(3)))
    assert [near.answers[number][0].reason for number in range(3)] == ["", "internal", ""]
    await still_passes(near)
    assert all_free(near)


async def test_a_small_item_passes_a_large_one_on_its_way(join: Join) -> None:
    """So does one a little too large for a frame: large ones take turns."""
    near, far = await join()
    near.send(1, numbers(16))
    await until(lambda: near_end(near)._in_flight_bytes)
    near.send(2, numbers(0.4))
    near.send(3, rows(3))
    await until(lambda: near.answers[1])
    assert [number for _, number in far.seen] == [3, 2, 1]
    same_bytes(near, 1, numbers(16))


@pytest.mark.parametrize("rows_each", [1, 200], ids=["1 KiB", "200 KiB"])
async def test_a_flood_of_small_items_does_not_stop_a_large_one(rows_each: int, join: Join) -> None:
    """Each small one that is answered is followed by another, 64 at a time, until the large one is there."""
    near, _ = await join()
    near.send(0, numbers(16))
    sent, x = 0, rows(7, rows_each)
    async with asyncio.timeout(30):
        while not near.answers[0]:
            while len(near.links._pools["cpu"].open) < 64:
                sent += 1
                near.send(sent, x)
            await asyncio.sleep(0)
    await until(lambda: all_free(near))
    same_bytes(near, 0, numbers(16))
    assert near.reasons() == {""}


async def test_large_items_are_not_copied_on_their_way(join: Join) -> None:
    """Both ends are this process: an item is where it was, once at the replica, and its echo once at the router."""
    near, _ = await join()
    x = numbers(32)
    await still_passes(near)
    near.answers.clear()
    tracemalloc.start()
    try:
        near.send(1, x)
        await until(lambda: near.answers[1])
        assert tracemalloc.get_traced_memory()[1] < 2 * x.nbytes + 4 * MIB
    finally:
        tracemalloc.stop()
    same_bytes(near, 1, x)


@pytest.mark.parametrize("mib", [0.15, 2])
async def test_what_a_frozen_replica_makes_a_router_hold_is_bounded(mib: float, join: Join) -> None:
    """By its grant and the pool's queue, in items as they came: nothing is encoded before it can leave."""
    near, far = await join()
    far.stream._transport.pause_reading()
    x = numbers(mib)
    tracemalloc.start()
    try:
        number = 0
        while near.send(number, x) is not None:
            number += 1
            await asyncio.sleep(0)
        assert number * x.nbytes <= GRANT_BYTES + near.queues["cpu"].max_waiting_bytes
        assert near_end(near)._transport.get_write_buffer_size() <= TRANSPORT_BYTES + 2 * FRAGMENT_BYTES
        assert near_end(near)._in_flight_bytes <= WINDOW_BYTES
        assert tracemalloc.get_traced_memory()[0] < 8 * MIB  # x is not counted: there is one, made before
    finally:
        tracemalloc.stop()
    far.stream._transport.resume_reading()
    await until(lambda: all(near.answers[each] for each in range(number)))
    assert near.reasons() == {""}


@pytest.mark.parametrize("mib", [0.15, 2])
async def test_what_a_slow_router_makes_a_replica_hold_is_bounded(
    mib: float, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound answers lose their tensors; every item is still answered once, and the stream goes on."""
    monkeypatch.setattr(link_replica, "MAX_UNSENT_BYTES", 16 * MIB)
    near, far = await join(echo=False)
    count = int(48 / mib)
    for number in range(count):
        near.send(number, rows(number))
    await until(lambda: len(far.items) == count)
    near_end(near)._transport.pause_reading()
    held = 0
    for number in range(count):
        far.answer(number, [Tensor("y", "UINT8", [1], memoryview(bytes(int(mib * MIB))))])
        await asyncio.sleep(0)
        held = max(held, far.stream.unsent_bytes)
    assert 15 * MIB < held <= 16 * MIB + count * link_replica.ANSWER_BYTES
    assert far.stream._transport.get_write_buffer_size() <= TRANSPORT_BYTES + 2 * FRAGMENT_BYTES
    near_end(near)._transport.resume_reading()
    await until(lambda: sum(map(len, near.answers.values())) == count)
    given = [near.answers[number][0] for number in range(count)]
    assert {answer.reason for answer in given} == {"", "backend_failed"}
    assert sum(answer.tensors[0].data.nbytes for answer in given if answer.tensors) >= 16 * MIB * 0.9
    far.echo = True
    await still_passes(near, 10_000)
    assert all_free(near)


async def test_a_router_that_only_sends_is_cut_off(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps no credit and reads nothing: what is kept for it has an end."""
    monkeypatch.setattr(link_replica, "MAX_UNSENT_BYTES", MIB)
    monkeypatch.setattr(link_replica, "MAX_FLOOD_BYTES", MIB)
    near, far = await join(echo=False)
    near_end(near)._transport.pause_reading()
    far.stream._paused = True  # as it is once the socket's buffers are full
    most = 0
    for number in range(100_000):
        far.answer(number, [])
        most = max(most, far.stream.unsent_bytes)
    assert not far.stream.is_open
    assert most <= 2 * MIB + link_replica.ANSWER_BYTES
    await until(lambda: far.stream.unsent_bytes == 0)


async def test_a_leaving_replica_is_let_go_once_its_last_item_is_taken_back(join: Join) -> None:
    """Nothing is open there any more, though no answer came."""
    near, far = await join()
    far.stream._transport.pause_reading()
    ticket = near.send(1, numbers(8))
    await until(lambda: near_end(near)._in_flight_bytes)
    end = near_end(near)
    near.links.on_drain(end)
    assert end.is_open
    ticket.cancel()
    assert not end.is_open


@pytest.mark.parametrize("kib", [0.0625, 1, 200])
async def test_many_small_items_leave_in_frames_of_bounded_size(kib: float, join: Join) -> None:
    """However many there are at once: 12 MiB of them, or 4000, neither break the stream nor leave as one message."""
    near, far = await join(waiting=8192)
    count = min(4000, int(12 * 1024 / kib))
    x = rows(1, max(1, int(kib)))[:, : int(kib * 256) or 256]
    for number in range(count):
        near.send(number, x)
    await until(lambda: sum(map(len, near.answers.values())) == count)
    assert near.reasons() == {""}
    await still_passes(near, 10_000)
    assert near_end(near)._in_flight_bytes == far.stream._in_flight_bytes == 0
