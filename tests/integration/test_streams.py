"""The stream between a router and pool replicas under losses: every item is answered once, every credit comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np
import pytest
from stream_rig import KEY, WAIT_S, Replica, Router, expected, item, rows, until

from deployments.link_router import RouterEnd
from deployments.stream import PING_PERIOD_S, PING_TIMEOUT_S
from router.protocol.handshake import ServerHandshake

MakeReplica = Callable[..., Awaitable[Replica]]
MakeRouter = Callable[..., Router]


@pytest.fixture
async def replica() -> AsyncIterator[MakeReplica]:
    """Starts replicas, and closes them at the end."""
    made: list[Replica] = []

    async def make(*args: str, **options: object) -> Replica:
        made.append(await Replica(*args, **options).listen())  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        await each.server.close()


@pytest.fixture
async def router() -> AsyncIterator[MakeRouter]:
    """Starts routers, and closes them at the end."""
    made: list[Router] = []

    def make(*pools: str, **options: object) -> Router:
        made.append(Router(*pools, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        await each.links.close()


async def joined(router: Router, replica: Replica, pool: str = "cpu") -> None:
    """Tell the router of the replica and wait until it may be used."""
    router.links.set_members(pool, replica.members())
    await until(lambda: router.ready(pool))


async def test_every_item_is_answered_once_with_its_own_result(replica: MakeReplica, router: MakeRouter) -> None:
    """300 items at once, more than the credit: each gets one answer, and it is the model's for that input."""
    near = router("cpu")
    await joined(near, await replica())
    inputs = {number: rows(number) for number in range(300)}
    for number, x in inputs.items():
        assert near.send(number, x) is not None
    await until(lambda: sum(map(len, near.answers.values())) == 300)
    assert near.reasons() == {""}
    together = expected(np.concatenate(list(inputs.values())))
    for number in inputs:
        np.testing.assert_allclose(near.output(number), together[number : number + 1], atol=1e-4)


async def test_tensors_of_megabytes_travel_in_pieces(replica: MakeReplica, router: MakeRouter) -> None:
    """2 MiB in, 2 MiB out, small ones beside them: all arrive whole."""
    near = router("cpu")
    await joined(near, await replica(max_rows=2048))
    big = rows(0, 2048)
    near.send(0, big)
    for number in range(1, 20):
        near.send(number, rows(number))
    await until(lambda: sum(map(len, near.answers.values())) == 20)
    assert near.reasons() == {""}
    np.testing.assert_allclose(near.output(0), expected(big), atol=1e-3)


async def test_a_lost_replica_gives_every_item_back_once(replica: MakeReplica, router: MakeRouter) -> None:
    """What was sent is lost, what waited in the router never left: both are told apart, none is told twice."""
    near, far = router("cpu"), await replica(items=32)
    await joined(near, far)
    for number in range(100):
        near.send(number, rows(number))
    await far.server.close()
    await until(lambda: all(near.answers[number] for number in range(100)))
    assert all(len(given) == 1 for given in near.answers.values())
    assert near.reasons() <= {"", "backend_lost"}
    lost = [given[0] for given in near.answers.values() if given[0].reason]
    assert {answer.dispatched for answer in lost} == {True, False}
    assert near.ready() == 0
    assert near.send(100, rows(100)) is None


async def test_a_replica_that_returns_under_another_id_is_used(replica: MakeReplica, router: MakeRouter) -> None:
    """Serve's replacement has a new id and a new port: the router finds it, with its full credit."""
    near, first = router("cpu"), await replica("cpu", "first")
    await joined(near, first)
    await first.server.close()
    await until(lambda: not near.ready())
    await joined(near, await replica("cpu", "second"))
    near.send(1, rows(1))
    await until(lambda: near.answers[1])
    assert near.reasons() == {""}


async def test_a_broken_connection_to_a_living_replica_is_made_again(replica: MakeReplica, router: MakeRouter) -> None:
    """The replica is still a member: the router connects again by itself."""
    near, far = router("cpu"), await replica()
    await joined(near, far)
    before = dict(near.links._pools["cpu"].streams)
    for stream in list(far.server._streams):
        stream.close("cut by the test")
    await until(lambda: near.links._pools["cpu"].streams not in ({}, before))
    assert near.ready() == 1
    near.send(1, rows(1))
    await until(lambda: near.answers[1])
    assert near.reasons() == {""}


async def test_an_item_cancelled_before_it_left_never_reaches_the_replica(
    replica: MakeReplica, router: MakeRouter
) -> None:
    """Its credit is free at once: as many items as the credit allows can follow."""
    near, far = router("cpu", waiting=1), await replica(items=8)
    await joined(near, far)
    for number in range(800):
        ticket = near.send(number, rows(number))
        assert ticket is not None
        ticket.cancel()
    assert far.core.held_items == 0
    for number in range(800, 808):
        assert near.send(number, rows(number)).replica == far.name
    await until(lambda: all(near.answers[number] for number in range(800, 808)))
    assert not any(near.answers[number] for number in range(800))


async def test_an_item_cancelled_on_its_way_gives_its_credit_back(replica: MakeReplica, router: MakeRouter) -> None:
    """It is answered to nobody; the replica's own answer frees the credit."""
    near, far = router("cpu"), await replica(items=8)
    await joined(near, far)
    tickets = [near.send(number, rows(number)) for number in range(8)]
    await asyncio.sleep(0)  # the frame leaves at the end of the loop turn
    for ticket in tickets:
        ticket.cancel()
    await until(lambda: not near.links._pools["cpu"].open)
    for number in range(100, 108):
        assert near.send(number, rows(number)).replica == far.name
    await until(lambda: all(near.answers[number] for number in range(100, 108)))
    assert far.core.held_items == 0


@pytest.mark.parametrize("count", [5, 100])
async def test_a_draining_replica_answers_what_it_holds(count: int, replica: MakeReplica, router: MakeRouter) -> None:
    """Also to a router that reads slowly: neither what the kernel holds of 200 KiB answers nor the rest is dropped."""
    near, far = router("cpu"), await replica(max_rows=2048, items=256)
    await joined(near, far)
    (stream,), (far_stream,) = near.links._pools["cpu"].streams.values(), far.server._streams
    for number in range(count):
        near.send(number, rows(number, 200))
    await until(lambda: not (stream._pending or stream._unacked))
    stream._transport.pause_reading()
    drained = asyncio.create_task(far.server.drain(10.0))
    await until(lambda: far.core.drained and (far_stream._paused or not far_stream._answers))
    await asyncio.sleep(0.2)
    stream._transport.resume_reading()
    await drained
    await until(lambda: sum(map(len, near.answers.values())) == count)
    assert near.reasons() == {""}


async def test_what_waits_for_a_draining_replica_goes_back(replica: MakeReplica, router: MakeRouter) -> None:
    """Beyond its credit items wait in the router: they were never dispatched and may go to another pool."""
    near, far = router("cpu"), await replica(items=4)
    await joined(near, far)
    for number in range(50):
        near.send(number, rows(number))
    await far.server.drain(10.0)
    await until(lambda: sum(map(len, near.answers.values())) == 50)
    refused = [given[0] for given in near.answers.values() if given[0].reason]
    assert refused
    assert not any(answer.dispatched for answer in refused)


async def test_a_replica_of_another_pool_is_never_used(replica: MakeReplica, router: MakeRouter) -> None:
    """A port taken over by another pool's replica: sending there would break eligibility."""
    near, stranger = router("cpu", "other"), await replica("other", "r1")
    near.links.set_members("cpu", stranger.members())
    await joined(near, stranger, "other")
    assert near.ready("cpu") == 0
    assert near.send(1, rows(1), "cpu") is None


async def test_a_router_is_settled_once_it_has_a_stream_to_each_member(
    replica: MakeReplica, router: MakeRouter
) -> None:
    """Not before it was told of every pool, nor before the streams are open."""
    near, far = router("cpu", "other"), await replica()
    near.links.set_members("cpu", far.members())
    assert not await near.links.settle(0.05)
    near.links.set_members("other", {})
    assert await near.links.settle(10.0)
    assert near.ready("cpu") == 1


async def test_a_router_that_expects_a_pool_is_not_settled_without_one_of_its_replicas(
    replica: MakeReplica, router: MakeRouter
) -> None:
    """A pool that still starts has no members to wait for; what is expected of it is waited for all the same."""
    near = router("cpu")
    near.links.set_members("cpu", {})
    assert await near.links.settle(10.0)
    assert not await near.links.settle(0.05, ["cpu"])
    near.links.set_members("cpu", (await replica()).members())
    assert await near.links.settle(10.0, ["cpu"])


class Silent:
    """A listener of a router's end that notes why the stream ended."""

    why = ""

    def on_lost(self, stream: RouterEnd, why: str) -> None:
        """Told once."""
        self.why = why


async def test_a_peer_that_says_nothing_is_dropped_after_its_time() -> None:
    """It proved the key, then froze. A byte of life in between starts the count again."""
    opened: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shake = ServerHandshake(KEY, b"n" * 32)
        done = False
        while not done:
            reply, done, _ = shake.receive(await reader.read(4096))
            writer.write(reply)
        opened.append(writer)
        await reader.read()

    listener = Silent()
    loop = asyncio.get_running_loop()
    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        end = RouterEnd(KEY, listener, loop, loop.time)  # type: ignore[arg-type]
        await loop.create_connection(lambda: end, *server.sockets[0].getsockname())
        await until(lambda: end.is_open and opened)
        allowed = round(PING_TIMEOUT_S / PING_PERIOD_S) - 1
        for _ in range(allowed):
            end.ping()
        opened[0].write(b"\x05\x00")  # the beginning of some frame
        await until(lambda: end._silent_periods == 0)
        for _ in range(allowed):
            end.ping()
        assert end.is_open
        end.ping()
        await until(lambda: listener.why)
        assert "no sign of life" in listener.why
        server.close()


async def test_a_replica_started_with_other_facts_is_never_used(replica: MakeReplica, router: MakeRouter) -> None:
    """Policy judged the pool by the router's facts; whoever runs under others is no member of it."""
    near, far = router("cpu"), await replica(facts="another accelerator")
    near.links.set_members("cpu", {far.name: far.address})
    with pytest.raises(TimeoutError):
        await until(lambda: near.fleet.able("cpu", "mlp"), 1.0)


async def test_a_retry_goes_back_when_the_only_replica_left_for_it_drains(
    replica: MakeReplica, router: MakeRouter
) -> None:
    """It has failed at r1 and waits for r2: when r2 drains it goes back undispatched, and r1 serves on."""
    near, first, second = router("cpu"), await replica("cpu", "r1"), await replica("cpu", "r2", items=1)
    near.links.set_members("cpu", first.members() | second.members())
    await until(lambda: near.ready() == 2)
    (far_stream,) = second.server._streams
    far_stream._transport.pause_reading()  # what r2 has stays open
    for number in (1, 2):
        x = rows(number)
        near.links.send("cpu", item(number, x), x.nbytes, WAIT_S * 1e6, near.answers[number].append, ("r1",))
    assert near.queues["cpu"].waiting == 1
    near.links.on_drain(near.links._pools["cpu"].streams["r2"])
    (answer,) = near.answers[2]
    assert (answer.reason, answer.dispatched) == ("backend_lost", False)
    assert near.send(3, rows(3)).replica == "r1"
    await until(lambda: near.answers[3])
    far_stream._transport.resume_reading()
    await until(lambda: near.answers[1])
    assert [near.answers[number][0].reason for number in (1, 3)] == ["", ""]
