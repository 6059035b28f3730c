"""What a client of the gRPC listener may do for as long as it likes, and what others do that must not reach it."""

from __future__ import annotations

import asyncio
import gc
import socket
import traceback

import msgspec
import pytest
from grpc_rig import HTTP, Rig, infer, until
from h2_rig import GREETING, PATH, call, connect, data, head, message, wire

from router.api import grpc_servicer, linger
from router.protocol import h2_control
from router.protocol import h2_frames as h2
from router.protocol.h2_frames import frame
from router.protocol.link import Answer, Tensor

STREAM = PATH.replace(b"ModelInfer", b"ModelStreamInfer")
LIVE = PATH.replace(b"ModelInfer", b"ServerLive")


@pytest.fixture
def few_idle_frames(monkeypatch):
    """A budget that a test can use up at once, and that no time refills."""
    monkeypatch.setattr(h2_control, "IDLE_FRAMES", 300)
    monkeypatch.setattr(h2_control, "IDLE_FRAMES_PER_S", 0)


async def test_small_messages_of_a_stream_are_no_abuse(few_idle_frames):
    """Nor are the windows that their answers need: each is paid for by a message or an answer."""
    rig = Rig()
    async with wire(rig) as peer:
        peer.send(head(1, path=STREAM))
        one = message(infer().SerializeToString())
        for number in range(600):
            peer.send(data(1, one, False))
            seen = await peer.next(h2.DATA, h2.GOAWAY)
            assert seen.kind == h2.DATA, (number, seen)
            peer.send(h2.window_update(1, len(seen.body)), h2.window_update(0, len(seen.body)))
    assert [record.outcome for record in rig.records] == ["answered"] * 600


async def test_windows_beyond_what_was_sent_are_counted(few_idle_frames):
    """Answers pay for two windows each, and no more."""
    async with wire(Rig()) as peer:
        for number in range(1, 41, 2):
            await peer.serves(number)
        peer.send(h2.window_update(0, 1000) * 400)
        assert await peer.goaway() == h2.ENHANCE_YOUR_CALM


async def test_a_refusal_that_is_given_again_keeps_nothing_of_the_last_call():
    """The headers are remembered, and with them what is wrong; not the errors that were raised for it."""
    rig = Rig()
    asked = []
    async with wire(rig) as peer:
        admit = rig.listener.servicer._admit
        rig.listener.servicer._admit = lambda *of: (asked.append(of[0]), admit(*of))
        for number in range(1, 41, 2):
            peer.send(head(number, (b"grpc-timeout", b"bogus"), flags=5))
            assert (await peer.answer(number))[0]["x-pointsman-reason"] == "malformed"
        assert asked[0] is asked[-1]
        gc.collect()
        kept = [e for e in gc.get_objects() if isinstance(e, Exception) and "grpc-timeout" in str(e)]
        assert sum(len(traceback.extract_tb(e.__traceback__)) for e in kept) < 10


async def test_calls_without_a_key_use_up_only_their_own(monkeypatch):
    """Neither the calls nor the bytes of those who have one; their messages are small."""
    monkeypatch.setattr(grpc_servicer, "KEYLESS_CALLS", 3)
    monkeypatch.setattr(grpc_servicer, "CALLS", 2)
    rig = Rig(body_bytes=1000)
    async with wire(rig) as peer:
        other = await connect(rig.port)
        start = b"\0" + (3000).to_bytes(4, "big") + bytes(2000)
        other.send(GREETING, *(head(n, path=LIVE, key=False) + data(n, start, False) for n in (1, 3, 5, 7)))
        assert (await other.answer(7))[0]["x-pointsman-reason"] == "saturated"
        assert (rig.listener.servicer.keyless, rig.plane.held_bytes) == (3, 0)
        await peer.serves(1)
        other.send(h2.rst_stream(1, h2.CANCEL), head(9, path=LIVE, key=False), data(9, message(bytes(5000))))
        assert (await other.answer(9))[0]["x-pointsman-reason"] == "too_large"
        other.writer.close()


async def test_a_call_without_a_key_has_the_time_of_headers():
    """Not that of a body."""
    rig = Rig(msgspec.structs.replace(HTTP, head_timeout_s=0.2))
    async with wire(rig) as peer:
        peer.send(head(1, path=LIVE, key=False))
        assert (await peer.answer(1))[0]["x-pointsman-reason"] == "request_timeout"


@pytest.mark.parametrize("key", [True, False])
async def test_a_call_counts_until_its_answer_has_left(key):
    """A client that gives no window keeps no more of them than one that does not send."""
    rig = Rig()
    async with wire(rig, greet=False) as peer:
        path, text = (PATH, None) if key else (LIVE, b"")
        peer.send(h2.PREFACE + h2.settings({h2.INITIAL_WINDOW_SIZE: 0}), call(1, text, path=path, key=key))
        await peer.next(h2.HEADERS)
        servicer = rig.listener.servicer
        assert (servicer.calls, servicer.keyless) == ((1, 0) if key else (0, 1))
        peer.send(h2.window_update(1, 1000))
        await peer.next(h2.HEADERS)
        assert servicer.calls == servicer.keyless == 0


@pytest.mark.parametrize("bad", [b"\0" + (1 << 30).to_bytes(4, "big"), b"\1" + bytes(4)])
async def test_a_bad_message_of_a_stream_costs_no_other_its_answer(bad):
    """Nothing is read behind it; what was begun is answered, and the status comes last."""
    rig = Rig()
    rig.hold = True
    async with wire(rig) as peer:
        peer.send(head(1, path=STREAM), data(1, message() * 3, False))
        await until(lambda: len(rig.held) == 3)
        peer.send(data(1, bad, False), data(1, bytes(1000), False))
        await peer.roundtrip()
        for ticket in rig.held:
            ticket.answer()
        said, body = await peer.answer(1)
        assert said["grpc-status"] in ("8", "13")
        assert body.count(b"n1") == 3
        assert [record.outcome for record in rig.records if record.outcome != "too_large"] == ["answered"] * 3


@pytest.mark.parametrize("path", [PATH, STREAM])
async def test_who_goes_before_its_message_is_whole_is_recorded(path):
    """As whoever goes later; on a stream only where a message has begun."""
    rig = Rig()
    async with wire(rig) as peer:
        peer.send(head(1, path=path) + data(1, message()[:-2], False) + h2.rst_stream(1, h2.CANCEL))
        peer.send(head(3, path=STREAM) + h2.rst_stream(3, h2.CANCEL))
        await peer.serves(5)
    assert [record.outcome for record in rig.records] == ["client_gone", "answered"]


async def test_headers_of_calls_without_a_key_are_bounded_too():
    """In their number."""
    async with wire(Rig()) as peer:
        many = ((b"x-%d" % n, b"") for n in range(150))
        peer.send(head(1, *many, path=LIVE, key=False), data(1, message(b"")))
        assert (await peer.answer(1))[0]["x-pointsman-reason"] == "headers_too_large"


async def test_only_the_farewell_is_an_answer_to_the_farewell():
    """A late answer to a ping for a sign of life does not end the time for calls that are on their way."""
    rig = Rig()
    async with wire(rig) as peer:
        await peer.serves(1)
        connection = next(iter(rig.listener.gate.connections))
        connection.go_away()
        ping = await peer.next(h2.PING)
        peer.send(frame(h2.PING, h2.ACK, 0, b"pointsmn"))
        await peer.roundtrip()
        assert connection.core.closed_above is None
        peer.send(frame(h2.PING, h2.ACK, 0, ping.body))
        assert (await peer.goaway()) == h2.NO_ERROR


async def test_the_tail_of_an_answer_is_not_lost_on_leaving(monkeypatch):
    """The connection is given up only once the socket has taken all."""
    monkeypatch.setattr(linger, "LINGER_S", 0.05)
    rig = Rig(msgspec.structs.replace(HTTP, max_body_bytes=1 << 24), body_bytes=1 << 26)
    async with wire(rig):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", rig.port))
        wide = h2.settings({h2.INITIAL_WINDOW_SIZE: 1 << 30}) + h2.window_update(0, 1 << 30)
        rig.hold = True
        await loop.sock_sendall(sock, h2.PREFACE + wide + call(1))
        await until(lambda: rig.held)
        (connection,) = (one for one in rig.listener.gate.connections if one.core.last_id)
        connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        ticket = rig.held.pop()
        big = Tensor("y", "UINT8", [6_000_000], memoryview(bytes(6_000_000)))
        ticket.on_answer(Answer(ticket.item.id, "", "", True, 1, 1, 1, 1, [big], "1"))
        connection.go_away()
        connection.ponged(b"farewell")
        got = b""
        while connection.core.streams:
            got = await loop.sock_recv(sock, 4096)
        assert connection.transport.get_write_buffer_size()
        await asyncio.sleep(0.2)  # longer than who has nothing left to read is waited for
        while more := await loop.sock_recv(sock, 1 << 20):
            got = (got + more)[-1000:]
        assert b"grpc-status" in got
        sock.close()


async def test_a_connection_that_cannot_be_looked_at_keeps_no_other_from_it(caplog):
    """Nor one that was lost meanwhile."""
    rig = Rig(msgspec.structs.replace(HTTP, idle_timeout_s=0.3))
    async with wire(rig) as peer:
        await peer.serves(1)
        broken = next(iter(rig.listener.gate.connections))
        broken.check = lambda now_s: 1 / 0
        other = await connect(rig.port)
        other.send(GREETING)
        await other.serves(1)
        await other.next(h2.GOAWAY)
        other.writer.close()
        lost = await connect(rig.port)
        lost.send(GREETING)
        await lost.serves(1)
        connection = list(rig.listener.gate.connections)[-1]
        connection.abort()
        connection.check(1e9)
        lost.writer.close()
    assert "cannot be looked at" in caplog.text


async def test_a_fault_in_giving_up_one_call_gives_up_the_others():
    """All of them, with their connection."""
    rig = Rig()
    rig.hold = True
    async with wire(rig) as peer:
        peer.send(call(1), call(3))
        await until(lambda: len(rig.held) == 2)
        first = next(iter(rig.listener.gate.connections)).core.streams[1].owner
        gone = first.gone
        first.gone = lambda: (gone(), 1 / 0)
        peer.writer.transport.abort()
        await until(lambda: all(ticket.cancelled for ticket in rig.held))
