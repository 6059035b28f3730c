"""What a stream makes each end hold while the other is slow, frozen or fast: once what travels, and bounded."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest
import uvloop
from far_rig import GRANT_BYTES, MIB, Join, all_free, near_end, numbers, same_bytes, still_passes
from stream_rig import rows, until

from deployments import link_replica
from router.protocol.link import FRAGMENT_BYTES, WINDOW_BYTES, Tensor

TRANSPORT_BYTES = 64 * 1024
"""What a transport holds before it asks to pause."""


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """Both loops: they differ in what they do with buffers."""
    return request.param()


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
