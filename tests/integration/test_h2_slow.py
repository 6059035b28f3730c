"""Clients of the gRPC listener that take their time, and how a connection ends."""

from __future__ import annotations

import asyncio
import socket

import msgspec
import pytest
from grpc_rig import HTTP, Rig, infer, until
from h2_rig import GREETING, PATH, call, data, head, message, wire

from router.api import h2_connection
from router.protocol import h2_frames as h2
from router.protocol.h2_frames import frame

STREAM = PATH.replace(b"ModelInfer", b"ModelStreamInfer")
SLOW = msgspec.structs.replace(HTTP, head_timeout_s=0.2, body_timeout_s=0.4, idle_timeout_s=0.8)


@pytest.mark.parametrize(
    "said", [b"", h2.PREFACE[:10], GREETING + frame(h2.PING, 0, 0, bytes(8))[:12], GREETING + head(1, flags=0)]
)
async def test_who_does_not_finish_what_was_begun_is_closed(said):
    """A preface, a frame, a block of headers."""
    rig = Rig(SLOW)
    async with wire(rig, greet=False) as peer:
        peer.send(said)
        async with asyncio.timeout(0.7):  # before it would be closed for being idle
            await peer.frames()


async def test_who_sends_no_message_loses_the_call():
    """In words, after the time for a body; by pieces or not at all, on a call and on a stream."""
    rig = Rig(SLOW)
    async with wire(rig) as peer:
        peer.send(head(1), head(3), data(3, message()[:8], ended=False))
        peer.send(head(5, path=STREAM), data(5, message()[:8], ended=False), head(7, path=STREAM))
        for number in (1, 3, 5):
            said, _ = await peer.answer(number)
            assert (said["grpc-status"], said["x-pointsman-reason"]) == ("4", "request_timeout")
        assert rig.listener.servicer.calls == 1  # a stream without a word lasts
        await peer.serves(9)


async def test_who_gives_no_window_loses_the_answer():
    """It is kept no longer than a body is waited for."""
    rig = Rig(SLOW)
    async with wire(rig, greet=False) as peer:
        peer.send(
            h2.PREFACE + h2.settings({h2.INITIAL_WINDOW_SIZE: 0}), call(1, infer(id="i" * 9000).SerializeToString())
        )
        await peer.next(h2.HEADERS)
        assert rig.plane.held_bytes > 9000
        assert (await peer.next(h2.RST_STREAM)).code == h2.CANCEL
        assert rig.plane.held_bytes == 0
        await until(lambda: not rig.listener.servicer.calls)


async def test_who_does_not_read_is_closed():
    """Its answers are kept for a bounded time, its calls are read no further than what it leaves unread."""
    rig = Rig(SLOW, body_bytes=1 << 26)
    async with wire(rig) as first:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", rig.port))
        _, writer = await asyncio.open_connection(sock=sock, limit=4096)
        text = infer(id="i" * 60_000).SerializeToString()
        writer.write(GREETING + h2.window_update(0, 1 << 30) + h2.settings({h2.INITIAL_WINDOW_SIZE: 1 << 30}))
        writer.write(b"".join(call(number, text) for number in range(1, 401, 2)))
        await until(lambda: len(rig.listener.gate.connections) == 2)
        await until(lambda: any(connection.core.stopped for connection in rig.listener.gate.connections))
        await until(lambda: len(rig.listener.gate.connections) == 1)
        assert rig.plane.held_bytes == 0
        await first.serves(1)
        writer.transport.abort()


async def test_an_idle_connection_is_told_to_go():
    """Twice: what it sends before it knows is served."""
    async with wire(Rig(SLOW)) as peer:
        await peer.serves(1)
        first = await peer.next(h2.GOAWAY)
        assert (first.code, int.from_bytes(first.body[:4], "big")) == (h2.NO_ERROR, h2.LAST_STREAM)
        ping = await peer.next(h2.PING)
        peer.send(call(3), frame(h2.PING, h2.ACK, 0, ping.body))
        rest = await peer.frames()
        (last,) = (one for one in rest if one.kind == h2.GOAWAY)
        assert int.from_bytes(last.body[:4], "big") == 3
        assert [one.stream for one in rest if one.flags & h2.END_STREAM and one.kind == h2.HEADERS] == [3]


async def test_leaving_names_the_last_stream():
    """Calls sent before the client answers the first word are served, later ones are not begun."""
    rig = Rig()
    rig.hold = True
    async with wire(rig) as peer:
        peer.send(call(1))
        await until(lambda: rig.held)
        leaving = asyncio.create_task(rig.listener.leave(0.0, 5.0))
        await peer.next(h2.GOAWAY)
        ping = await peer.next(h2.PING)
        peer.send(call(3), frame(h2.PING, h2.ACK, 0, ping.body))
        last = await peer.next(h2.GOAWAY)
        assert int.from_bytes(last.body[:4], "big") == 3
        peer.send(call(5))
        await until(lambda: len(rig.held) == 2)
        for ticket in rig.held:
            ticket.answer()
        for number in (1, 3):
            assert (await peer.answer(number))[0]["grpc-status"] == "0"
        assert await peer.frames() == []
        peer.writer.close()
        await asyncio.wait_for(leaving, 2.0)
    assert len(rig.records) == 2


async def test_a_silent_client_is_asked_for_a_sign_of_life(monkeypatch):
    """Who answers stays, who does not is closed, whatever is under way."""
    monkeypatch.setattr(h2_connection, "PING_S", 0.3)
    monkeypatch.setattr(h2_connection, "PONG_S", 0.3)
    rig = Rig(msgspec.structs.replace(HTTP, head_timeout_s=0.4))
    rig.hold = True
    async with wire(rig) as peer:
        peer.send(call(1))
        for _ in range(2):
            ping = await peer.next(h2.PING)
            peer.send(frame(h2.PING, h2.ACK, 0, ping.body))
        assert not rig.held[0].cancelled
        await peer.next(h2.PING)
        await peer.frames()
        await until(lambda: rig.held[0].cancelled)
    assert rig.records[0].outcome == "client_gone"
