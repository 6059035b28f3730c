"""Large items and answers over real sockets: each is answered once, alone where it must end, and holds up nobody."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import uvloop
from far_rig import MIB, Join, all_free, near_end, numbers, same_bytes, still_passes
from stream_rig import rows, until

from deployments import stream
from deployments.pool_links import LinkTicket
from router.protocol.link import Tensor


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """Both loops: they differ in what they do with buffers."""
    return request.param()


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
