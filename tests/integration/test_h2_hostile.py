"""What strangers and broken clients may do to the gRPC listener in HTTP/2: the known floods, and taking their time."""

from __future__ import annotations

import msgspec
import pytest
from grpc_rig import HTTP, Rig, infer, until
from h2_rig import GREETING, PATH, call, connect, data, head, message, wire

from router.api import grpc_listener, grpc_servicer
from router.protocol import h2_control
from router.protocol import h2_frames as h2
from router.protocol.h2_control import IDLE_FRAMES, RESETS
from router.protocol.h2_fields import MAX_LIST_BYTES
from router.protocol.h2_frames import fields, frame

STREAM = PATH.replace(b"ModelInfer", b"ModelStreamInfer")
FLOODS = {
    "pings": frame(h2.PING, 0, 0, bytes(8)),
    "settings": h2.settings({h2.INITIAL_WINDOW_SIZE: 1}),
    "empty data": data(1, b"", ended=False),
    "padding": frame(h2.DATA, h2.PADDED, 1, b"\x05" + bytes(5)),
    "data by the byte": data(1, b"\0", ended=False),
    "priorities": frame(h2.PRIORITY, 0, 1, bytes(5)),
    "windows": h2.window_update(0, 1),
    "unknown frames": frame(77, 0, 0, b"x"),
    "acknowledgements": frame(h2.SETTINGS, h2.ACK, 0),
    "trailing resets": h2.rst_stream(1, h2.CANCEL),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_floods_end_the_connection(flood, monkeypatch):
    """Frames that bring nothing further, more of them than a client has any use for."""
    monkeypatch.setattr(h2_control, "FAR_RESETS", 100)
    rig = Rig(msgspec.structs.replace(HTTP, max_body_bytes=1 << 20))
    async with wire(rig) as peer:
        peer.send(head(1), FLOODS[flood] * (IDLE_FRAMES + 100))
        assert await peer.goaway() == h2.ENHANCE_YOUR_CALM
    assert "malformed" in [record.outcome for record in rig.records]


async def test_rapid_resets_end_the_connection(monkeypatch):
    """Calls begun and cancelled at once: each is cancelled down to the pool, and they do not go on for ever."""
    monkeypatch.setattr(h2_control, "FAR_RESETS", 100)
    rig = Rig()
    rig.hold = True
    async with wire(rig) as peer:
        last = 2 * RESETS + 2001
        peer.send(*(call(number) + h2.rst_stream(number, h2.CANCEL) for number in range(1, last, 2)))
        assert await peer.goaway() == h2.ENHANCE_YOUR_CALM
        assert len(rig.held) <= RESETS + 1
        assert all(ticket.cancelled for ticket in rig.held)
    assert rig.ledger.held("cpu").requests == 0


async def test_resets_that_we_are_made_to_send_count_too(monkeypatch):
    """Streams broken one after the other, each by a rule of its own."""
    monkeypatch.setattr(h2_control, "FAR_RESETS", 100)
    async with wire(Rig()) as peer:
        peer.send(*(head(n) + h2.window_update(n, 0) for n in range(1, 2 * RESETS + 2001, 2)))
        assert await peer.goaway() == h2.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("part", [b"", b"\x88" * 1000])
async def test_a_header_block_ends(part):
    """CONTINUATION frames without end, empty or not."""
    async with wire(Rig()) as peer:
        peer.send(frame(h2.HEADERS, 0, 1, b"\x83"), frame(h2.CONTINUATION, 0, 1, part) * 500)
        assert await peer.goaway() == h2.ENHANCE_YOUR_CALM


async def test_a_header_bomb_ends_the_connection():
    """One entry of the table, named again and again: not decoded to the end."""
    async with wire(Rig()) as peer:
        entry = b"\x40\x01x" + h2.integer(4000, 7) + b"a" * 4000
        peer.send(frame(h2.HEADERS, 4, 1, entry + b"\xbe" * 250))
        assert await peer.goaway() in (h2.ENHANCE_YOUR_CALM, h2.COMPRESSION_ERROR)


async def test_large_headers_are_not_sent_for_ever():
    """Decoding them takes time; a client with no other use for the connection is sent away."""
    async with wire(Rig()) as peer:
        block = b"\x00\x01x" + h2.integer(48_000, 7, 0x80) + b"\x18" * 48_000  # packed as HPACK packs text
        peer.send(*(frame(h2.HEADERS, 5, number, b"\x83" + block) for number in range(1, 201, 2)))
        assert await peer.goaway() == h2.ENHANCE_YOUR_CALM


async def test_many_headers_end_the_connection_or_the_call():
    """Too many to be decoded; too many, or too large, to be read: recorded, and the next call is served."""
    async with wire(Rig()) as peer:
        peer.send(frame(h2.HEADERS, 4, 1, b"\x83" * 1000))
        assert await peer.goaway() == h2.ENHANCE_YOUR_CALM
    rig = Rig()
    async with wire(rig) as peer:
        peer.send(head(1, *((b"x-%d" % n, b"") for n in range(120)), flags=5))
        large = head(3, (b"x", b"v" * MAX_LIST_BYTES), flags=5)
        peer.send(frame(h2.HEADERS, 1, 3, large[9:50_000]), frame(h2.CONTINUATION, 4, 3, large[50_000:]))
        for number in (1, 3):
            said, _ = await peer.answer(number)
            assert (said["grpc-status"], said["x-pointsman-reason"]) == ("8", "headers_too_large")
        await peer.serves(5)
    assert [record.outcome for record in rig.records] == ["headers_too_large"] * 2 + ["answered"]


async def test_one_call_too_many_is_turned_away(monkeypatch):
    """On its connection so that the client may send it again, over all connections in words; both are recorded."""
    monkeypatch.setattr(grpc_listener, "CALLS_PER_CONNECTION", 2)
    monkeypatch.setattr(grpc_servicer, "CALLS", 3)
    rig = Rig()
    rig.hold = True
    async with wire(rig) as peer:
        peer.send(call(1), call(3), call(5))
        refused = await peer.next(h2.RST_STREAM)
        assert (refused.stream, refused.code) == (5, h2.REFUSED_STREAM)
        other = await connect(rig.port)
        other.send(GREETING, call(1), call(3))
        said, _ = await other.answer(3)
        assert (said["grpc-status"], said["retry-after"]) == ("8", "1")
        assert [record.outcome for record in rig.records] == ["saturated"] * 2
        for ticket in rig.held:
            ticket.answer()
        assert (await other.answer(1))[0]["grpc-status"] == "0"
        other.writer.close()


async def test_streams_leave_room_for_calls(monkeypatch):
    """One too many is refused."""
    monkeypatch.setattr(grpc_servicer, "STREAMS", 1)
    async with wire(Rig()) as peer:
        peer.send(head(1, path=STREAM), head(3, path=STREAM))
        assert (await peer.answer(3))[0]["grpc-status"] == "8"
        await peer.serves(5)


async def test_a_stranger_is_refused_before_the_message():
    """By the headers alone: nothing of what follows is kept."""
    rig = Rig()
    async with wire(rig) as peer:
        peer.send(head(1, key=False))
        said, _ = await peer.answer(1)
        assert (said["grpc-status"], said["x-pointsman-reason"]) == ("16", "unauthenticated")
        assert (await peer.next(h2.RST_STREAM)).code == h2.NO_ERROR
        peer.send(*(data(1, bytes(10_000), ended=False) for _ in range(20)), h2.rst_stream(1, h2.CANCEL))
        await peer.serves(3)
        assert rig.plane.held_bytes == 0
    assert [record.outcome for record in rig.records] == ["unauthenticated", "answered"]


async def test_a_message_is_refused_by_its_length_alone():
    """Before it comes: one too long, and one that all together have no room for."""
    rig = Rig(msgspec.structs.replace(HTTP, max_body_bytes=1 << 20), body_bytes=1 << 19)
    async with wire(rig) as peer:
        for number, length, reason in ((1, 1 << 24, "too_large"), (3, (1 << 19) + 1, "saturated")):
            peer.send(head(number), data(number, b"\0" + length.to_bytes(4, "big"), ended=False))
            assert (await peer.answer(number))[0]["x-pointsman-reason"] == reason
        await peer.serves(5)


async def test_a_stream_holds_no_more_than_all_may():
    """Messages that do not end, on one stream."""
    rig = Rig(msgspec.structs.replace(HTTP, max_body_bytes=1 << 20), body_bytes=1 << 18)
    async with wire(rig) as peer:
        peer.send(head(1, path=STREAM), data(1, b"\0" + (1 << 20).to_bytes(4, "big"), ended=False))
        peer.send(*(data(1, bytes(16_000), ended=False) for _ in range(17)))
        assert (await peer.answer(1))[0]["x-pointsman-reason"] == "saturated"


async def test_compressed_messages_are_bounded_and_understood():
    """Unknown codings, a flag without one, and what is no such stream; each in gRPC's status for it."""
    async with wire(Rig()) as peer:
        for number, coding, status in ((1, b"br", "12"), (3, b"identity", "13"), (5, b"gzip", "3")):
            peer.send(head(number, (b"grpc-encoding", coding)), data(number, b"\1" + message()[1:]))
            assert (await peer.answer(number))[0]["grpc-status"] == status


async def test_who_opens_the_window_by_the_byte_is_sent_away():
    """Frames of one byte cost as much as others."""
    async with wire(Rig(), greet=False) as peer:
        peer.send(h2.PREFACE + h2.settings({h2.INITIAL_WINDOW_SIZE: 0}))
        peer.send(call(1, infer(id="i" * 60_000).SerializeToString()), h2.window_update(1, 1) * (IDLE_FRAMES + 10))
        assert await peer.goaway() == h2.ENHANCE_YOUR_CALM


async def test_connections_are_bounded():
    """One too many is told so, recorded, and closed; who comes once there is room is served."""
    rig = Rig(msgspec.structs.replace(HTTP, max_connections=1))
    async with wire(rig) as peer:
        await peer.serves(1)
        other = await connect(rig.port)
        assert await other.goaway() == h2.ENHANCE_YOUR_CALM
        assert rig.records[-1].outcome == "too_many_connections"
        peer.writer.close()
        await until(lambda: not rig.listener.gate.connections)
        again = await connect(rig.port)
        again.send(GREETING)
        await again.serves(1)
        again.writer.close()


async def test_what_one_connection_sends_at_once_holds_up_nobody():
    """Much is read over several turns of the loop; another connection is served between."""
    rig = Rig(body_bytes=1 << 26)
    async with wire(rig) as peer:
        other = await connect(rig.port)
        other.send(GREETING)
        await other.serves(1)
        count = 800
        peer.send(*(call(number) for number in range(1, 2 * count, 2)))
        await other.serves(3)
        assert len(rig.records) < count
        await until(lambda: len(rig.records) == count + 2)
        other.writer.close()


async def test_keys_do_not_enter_the_log(caplog):
    """Not even where everything is logged."""
    with caplog.at_level(1):
        async with wire(Rig()) as peer:
            peer.send(frame(h2.HEADERS, 4, 1, b"\x40" + fields([(b"x-api-key", b"secret-key")])[1:]))
            await peer.next(h2.RST_STREAM)
    assert "secret-key" not in caplog.text
