"""Whoever does not prove the key gets nothing from a replica's port and is gone in 2 s; the replica serves on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from stream_rig import KEY, Replica, Router, item, rows, until

from deployments.stream import HANDSHAKE_TIMEOUT_S
from router.protocol.framing import frame
from router.protocol.handshake import ClientHandshake, ServerHandshake
from router.protocol.link import Drain, Submit

NONCE = bytes(range(32))
SLACK_S = 2.0
"""A loaded machine may be late."""


@pytest.fixture
async def replica() -> AsyncIterator[Replica]:
    """One replica of the pool `cpu`."""
    made = await Replica().listen()
    yield made
    await made.server.close()


@pytest.fixture
async def router(replica: Replica) -> AsyncIterator[Router]:
    """A router with a stream to it."""
    made = Router("cpu")
    made.links.set_members("cpu", replica.members())
    await until(made.ready)
    yield made
    await made.links.close()


async def still_serves(router: Router) -> None:
    """The replica answers its router."""
    router.answers.clear()
    router.send(1, rows(1))
    await until(lambda: router.answers[1])
    assert router.reasons() == {""}


async def told(replica: Replica, *sent: bytes, pause_s: float = 0.0) -> tuple[bytes, float]:
    """What a peer that sends these bytes, and then waits, is told until it is cut off, and after how many seconds."""
    started_s = time.monotonic()
    reader, writer = await asyncio.open_connection(*replica.address)
    heard = b""
    try:
        for part in sent:
            writer.write(part)
            await asyncio.sleep(pause_s)
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S + SLACK_S):
            while data := await reader.read(65536):
                heard += data
    except ConnectionError:
        pass
    finally:
        writer.close()
    return heard, time.monotonic() - started_s


async def proof(replica: Replica, key: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """A connection on which a handshake with that key was made as far as it goes, and what the replica said last."""
    reader, writer = await asyncio.open_connection(*replica.address)
    shake = ClientHandshake(KEY, NONCE)
    opening = shake.start()
    writer.write(opening)
    challenge = await reader.readexactly(70)
    nonce_s = challenge[6:38]
    # ClientHandshake checks the replica's proof first, so a wrong key must sign on its own account.
    mac = ClientHandshake(key, NONCE)._mac(b"client", NONCE, nonce_s)
    writer.write(mac)
    return reader, writer, challenge


HTTP = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" + b" " * 70
HELLO = ClientHandshake(KEY, NONCE).start()
SILENT = ((), (HELLO[:20],), (HELLO,), (HELLO, b"\0" * 31))
"""Nothing, half a hello, a hello without a proof, a proof that never ends."""
WRONG = {
    "a request of another protocol": (HTTP,),
    "random bytes": (bytes(range(256)) * 4096,),
    "a hello of version 9": (HELLO[:4] + b"\x09\x00" + HELLO[6:],),
    "zeros for a proof": (HELLO, b"\0" * 32),
    "the hello again for a proof": (HELLO, HELLO),
    "a frame for a proof": (HELLO, frame(Submit([]))[0] + b"\0" * 64),
}


async def test_a_connection_without_a_proof_is_closed_in_time(replica: Replica, router: Router) -> None:
    """Half-open connections hold nothing for longer than the handshake may take, and are told nothing of the pool."""
    ends = asyncio.gather(*(told(replica, *sent) for sent in SILENT))
    await still_serves(router)
    for heard, took_s in await ends:
        assert took_s < HANDSHAKE_TIMEOUT_S + SLACK_S
        assert len(heard) in (0, 70)  # nothing, or the replica's half of the handshake
    await still_serves(router)


@pytest.mark.parametrize("name", WRONG)
async def test_garbage_is_closed_at_once(name: str, replica: Replica, router: Router) -> None:
    """Without an answer, before the handshake's time is up."""
    heard, took_s = await told(replica, *WRONG[name])
    assert took_s < HANDSHAKE_TIMEOUT_S
    assert len(heard) in (0, 70)
    await still_serves(router)


async def test_dripping_bytes_buy_no_time(replica: Replica, router: Router) -> None:
    """One byte at a time: the limit is for the whole handshake."""
    _, took_s = await told(replica, *(HELLO[at : at + 1] for at in range(38)), pause_s=0.1)
    assert took_s < 3.8 + SLACK_S
    assert all(stream.is_open for stream in replica.server._streams)
    await still_serves(router)


async def test_a_peer_with_another_key_never_hears_who_the_replica_is(replica: Replica, router: Router) -> None:
    """It gets the challenge and a closed connection; with the right key the Welcome follows."""
    reader, writer, _ = await proof(replica, b"another key of 32 bytes or more..")
    async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
        assert await _rest(reader) == b""
    writer.close()
    reader, writer, _ = await proof(replica, KEY)
    assert b"CPUExecutionProvider" in await reader.read(65536)
    writer.close()
    await still_serves(router)


async def test_a_router_with_another_key_gets_no_stream(replica: Replica, router: Router) -> None:
    """Its own end refuses the replica's proof, so it sends not even its own."""
    stranger = Router("cpu", key=b"another key of 32 bytes or more..")
    stranger.links.set_members("cpu", replica.members())
    await asyncio.sleep(0.5)
    assert stranger.ready() == 0
    assert len(replica.server._streams) == 1
    await stranger.links.close()
    await still_serves(router)


async def test_a_recorded_handshake_opens_nothing(replica: Replica) -> None:
    """Both nonces are new each time: yesterday's proof does not fit today's challenge."""
    shake = ClientHandshake(KEY, NONCE)
    reader, writer = await asyncio.open_connection(*replica.address)
    writer.write(shake.start())
    recorded, done, _ = shake.receive(await reader.readexactly(70))
    assert done
    writer.write(recorded)
    assert await reader.read(65536)  # the true one was let in
    writer.close()
    heard, took_s = await told(replica, HELLO, recorded, pause_s=0.2)
    assert len(heard) == 70
    assert took_s < HANDSHAKE_TIMEOUT_S


async def test_a_router_that_breaks_the_protocol_is_cut_off(replica: Replica, router: Router) -> None:
    """It proved the key and then sent what only replicas send: that stream ends, the others stay."""
    reader, writer, _ = await proof(replica, KEY)
    writer.write(frame(Drain())[0])
    async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
        await _rest(reader)
    writer.close()
    await until(lambda: len(replica.server._streams) == 1)
    await still_serves(router)


async def test_a_router_that_never_reads_holds_up_nobody(replica: Replica, router: Router) -> None:
    """Its answers wait in its own stream; it is gone when its connection is."""
    reader, writer, _ = await proof(replica, KEY)
    await reader.read(1)
    writer.transport.pause_reading()
    for first in range(0, 2000, 20):
        writer.write(frame(Submit([item(number, rows(number)) for number in range(first, first + 20)]))[0])
    await until(lambda: replica.core.held_items > 0)
    await still_serves(router)
    await until(lambda: replica.core.held_items == 0)
    writer.transport.abort()
    await until(lambda: len(replica.server._streams) == 1)
    await still_serves(router)


async def test_a_false_replica_gets_nothing_from_a_router(router: Router) -> None:
    """Something else listens on a member's address: it never sees a proof, let alone an item."""
    heard = bytearray()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.readexactly(38))
        reply, _, _ = ServerHandshake(b"not the key, but long enough....", NONCE).receive(bytes(heard[:38]))
        writer.write(reply)
        heard.extend(await reader.read(65536))

    near = Router("cpu")
    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        near.links.set_members("cpu", {"false": server.sockets[0].getsockname()})
        await until(lambda: heard)
        await asyncio.sleep(0.05)
        assert len(heard) == 38
        assert near.ready() == 0
        server.close()
        await near.links.close()


async def test_a_crowd_of_half_open_connections_passes(replica: Replica, router: Router) -> None:
    """A flood of them holds sockets for 2 s and nothing else."""
    opened = await asyncio.gather(*(asyncio.open_connection(*replica.address) for _ in range(90)))
    await still_serves(router)
    async with asyncio.timeout(HANDSHAKE_TIMEOUT_S + SLACK_S):
        assert not any(await asyncio.gather(*(_rest(reader) for reader, _ in opened)))
    for _, writer in opened:
        writer.close()
    await still_serves(router)


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""
