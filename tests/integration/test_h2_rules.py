"""What RFC 9113 demands of a server, frame by frame: what ends a connection, what a stream, and what neither."""

from __future__ import annotations

import struct

import pytest
from grpc_rig import Rig, numbers, until
from h2_rig import GREETING, PATH, block, call, connect, data, head, message, split, wire

from router.protocol import h2_frames as h2
from router.protocol.h2_frames import field, fields, frame
from router.protocol.h2_sending import MAX_FRAME_BYTES
from router.protocol.proto import open_inference_pb2 as pb

OPEN = head(1)


def setting(key: int, value: int) -> bytes:
    """SETTINGS of one."""
    return h2.settings({key: value})


ENDS_THE_CONNECTION = {
    "3.5 a preface that is none": (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", None),
    "3.4 settings do not come first": (h2.PREFACE + frame(h2.PING, 0, 0, bytes(8)), h2.PROTOCOL_ERROR),
    "4.2 a frame over the size": (frame(h2.DATA, 0, 1, bytes(MAX_FRAME_BYTES + 1)), h2.FRAME_SIZE_ERROR),
    "4.3 a block that cannot be decoded": (frame(h2.HEADERS, 4, 1, b"\xff\xff\xff"), h2.COMPRESSION_ERROR),
    "4.3 an index of nothing": (frame(h2.HEADERS, 4, 1, b"\xbf"), h2.COMPRESSION_ERROR),
    "5.1 data on an idle stream": (data(3, b""), h2.PROTOCOL_ERROR),
    "5.1 a reset of an idle stream": (h2.rst_stream(3, h2.CANCEL), h2.PROTOCOL_ERROR),
    "5.1 a window of an idle stream": (h2.window_update(3, 1), h2.PROTOCOL_ERROR),
    "5.1 data on a closed stream": (OPEN + h2.rst_stream(1, h2.CANCEL) + data(1, b""), h2.STREAM_CLOSED),
    "5.1 headers on a closed stream": (OPEN + h2.rst_stream(1, h2.CANCEL) + OPEN, h2.STREAM_CLOSED),
    "5.1.1 an even stream": (head(2), h2.PROTOCOL_ERROR),
    "5.1.1 a stream below the last": (head(5) + head(3), h2.STREAM_CLOSED),
    "6.1 data on no stream": (data(0, b"x"), h2.PROTOCOL_ERROR),
    "6.1 padding longer than its frame": (OPEN + frame(h2.DATA, h2.PADDED, 1, b"\x05abcd"), h2.PROTOCOL_ERROR),
    "6.1 padding without a length": (OPEN + frame(h2.DATA, h2.PADDED, 1, b""), h2.FRAME_SIZE_ERROR),
    "6.2 headers on no stream": (head(0), h2.PROTOCOL_ERROR),
    "6.2 headers padded too long": (frame(h2.HEADERS, 0xC, 1, b"\xff" + block()), h2.PROTOCOL_ERROR),
    "6.2 headers too short for a priority": (frame(h2.HEADERS, 0x24, 1, b"abc"), h2.FRAME_SIZE_ERROR),
    "6.3 a priority of no stream": (frame(h2.PRIORITY, 0, 0, bytes(5)), h2.PROTOCOL_ERROR),
    "6.3 a priority of a wrong size": (frame(h2.PRIORITY, 0, 1, bytes(4)), h2.FRAME_SIZE_ERROR),
    "6.4 a reset of no stream": (h2.rst_stream(0, h2.CANCEL), h2.PROTOCOL_ERROR),
    "6.4 a reset of a wrong size": (OPEN + frame(h2.RST_STREAM, 0, 1, bytes(3)), h2.FRAME_SIZE_ERROR),
    "6.5 settings of a stream": (frame(h2.SETTINGS, 0, 1), h2.PROTOCOL_ERROR),
    "6.5 an acknowledgement that says more": (frame(h2.SETTINGS, h2.ACK, 0, bytes(6)), h2.FRAME_SIZE_ERROR),
    "6.5 settings of a wrong size": (frame(h2.SETTINGS, 0, 0, bytes(5)), h2.FRAME_SIZE_ERROR),
    "6.5.2 push neither on nor off": (setting(h2.ENABLE_PUSH, 2), h2.PROTOCOL_ERROR),
    "6.5.2 a window too large": (setting(h2.INITIAL_WINDOW_SIZE, 1 << 31), h2.FLOW_CONTROL_ERROR),
    "6.5.2 frames too small": (setting(h2.MAX_FRAME_SIZE, 16_383), h2.PROTOCOL_ERROR),
    "6.5.2 frames too large": (setting(h2.MAX_FRAME_SIZE, 1 << 24), h2.PROTOCOL_ERROR),
    "6.6 a promise of a client": (frame(h2.PUSH_PROMISE, 4, 1, bytes(4)), h2.PROTOCOL_ERROR),
    "6.7 a ping of a stream": (frame(h2.PING, 0, 1, bytes(8)), h2.PROTOCOL_ERROR),
    "6.7 a ping of a wrong size": (frame(h2.PING, 0, 0, bytes(7)), h2.FRAME_SIZE_ERROR),
    "6.8 goaway of a stream": (frame(h2.GOAWAY, 0, 1, bytes(8)), h2.PROTOCOL_ERROR),
    "6.9 a window opened by nothing": (h2.window_update(0, 0), h2.PROTOCOL_ERROR),
    "6.9 a window of a wrong size": (frame(h2.WINDOW_UPDATE, 0, 0, bytes(3)), h2.FRAME_SIZE_ERROR),
    "6.9.1 a window too large": (h2.window_update(0, h2.LARGEST_WINDOW), h2.FLOW_CONTROL_ERROR),
    "6.9.2 all windows too large": (
        OPEN + h2.window_update(1, h2.LARGEST_WINDOW - 65_535) + setting(h2.INITIAL_WINDOW_SIZE, 65_536),
        h2.FLOW_CONTROL_ERROR,
    ),
    "6.10 a continuation of nothing": (frame(h2.CONTINUATION, 4, 1, b""), h2.PROTOCOL_ERROR),
    "6.10 a block interrupted": (head(1, flags=0) + frame(h2.PING, 0, 0, bytes(8)), h2.PROTOCOL_ERROR),
    "6.10 a block continued elsewhere": (head(1, flags=0) + frame(h2.CONTINUATION, 4, 3, b""), h2.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("case", ENDS_THE_CONNECTION)
async def test_what_ends_the_connection(case):
    """With the code that the RFC names; the broken connection is recorded."""
    sent, code = ENDS_THE_CONNECTION[case]
    rig = Rig()
    async with wire(rig, greet=False) as peer:
        peer.send(sent if sent.startswith(b"PRI") else GREETING + sent)
        if code is None:
            assert b"505" in await peer.reader.read()
        else:
            assert await peer.goaway() == code
    assert "malformed" in [record.outcome for record in rig.records]


def raw(*headers: tuple[bytes, bytes]) -> bytes:
    """A call with these headers alone."""
    return frame(h2.HEADERS, h2.END_HEADERS, 1, fields(headers))


GOOD = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", PATH), (b"content-type", b"application/grpc"))
ENDS_THE_STREAM = {
    "5.1 data after the end": (call(1) + data(1, b"x"), h2.STREAM_CLOSED),
    "5.1 headers after the end": (call(1) + head(1, flags=5), h2.STREAM_CLOSED),
    "6.9 a window opened by nothing": (OPEN + h2.window_update(1, 0), h2.PROTOCOL_ERROR),
    "6.9.1 a window too large": (OPEN + h2.window_update(1, h2.LARGEST_WINDOW), h2.FLOW_CONTROL_ERROR),
    "8.1 trailers that do not end": (OPEN + head(1), h2.PROTOCOL_ERROR),
    "8.2 a capital": (raw(*GOOD, (b"X-a", b"b")), h2.PROTOCOL_ERROR),
    "8.2 a space in a name": (raw(*GOOD, (b"x a", b"b")), h2.PROTOCOL_ERROR),
    "8.2.1 a line break": (raw(*GOOD, (b"x", b"a\r\nb")), h2.PROTOCOL_ERROR),
    "8.2.1 a nul": (raw(*GOOD, (b"x", b"a\0b")), h2.PROTOCOL_ERROR),
    "8.2.1 space around": (raw(*GOOD, (b"x", b" a")), h2.PROTOCOL_ERROR),
    "8.2.2 connection": (raw(*GOOD, (b"connection", b"close")), h2.PROTOCOL_ERROR),
    "8.2.2 transfer-encoding": (raw(*GOOD, (b"transfer-encoding", b"chunked")), h2.PROTOCOL_ERROR),
    "8.2.2 te": (raw(*GOOD, (b"te", b"gzip")), h2.PROTOCOL_ERROR),
    "8.3 an unknown pseudo-header": (raw(*GOOD[:3], (b":a", b"b"), GOOD[3]), h2.PROTOCOL_ERROR),
    "8.3 one of answers": (raw(*GOOD[:3], (b":status", b"200"), GOOD[3]), h2.PROTOCOL_ERROR),
    "8.3 a late pseudo-header": (raw(*GOOD[:2], GOOD[3], GOOD[2]), h2.PROTOCOL_ERROR),
    "8.3.1 no method": (raw(*GOOD[1:]), h2.PROTOCOL_ERROR),
    "8.3.1 no scheme": (raw(GOOD[0], *GOOD[2:]), h2.PROTOCOL_ERROR),
    "8.3.1 no path": (raw(*GOOD[:2], GOOD[3]), h2.PROTOCOL_ERROR),
    "8.3.1 an empty path": (raw(*GOOD[:2], (b":path", b""), GOOD[3]), h2.PROTOCOL_ERROR),
    "8.3.1 a path twice": (raw(*GOOD[:3], GOOD[2], GOOD[3]), h2.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("case", ENDS_THE_STREAM)
async def test_what_ends_the_stream(case):
    """The connection serves on."""
    sent, code = ENDS_THE_STREAM[case]
    rig = Rig()
    rig.hold = True
    async with wire(rig) as peer:
        peer.send(sent)
        assert (await peer.next(h2.RST_STREAM)).code == code
        assert rig.plane.held_bytes == 0
        assert all(ticket.cancelled for ticket in rig.held)
        rig.hold = False
        await peer.serves(3)


PASSED_OVER = {
    "4.1 a kind that is unknown": frame(99, 255, 7, b"anything"),
    "5.5 a setting that is unknown": setting(99, 1),
    "6.3 priorities": frame(h2.PRIORITY, 0, 1, bytes(5)) + frame(h2.PRIORITY, 0, 9, struct.pack(">IB", 9, 1)),
    "6.9 a window of a stream that has ended": call(1) + h2.rst_stream(1, 0) + h2.window_update(1, 5),
    "6.4 a reset of a stream that has ended": call(1) + h2.rst_stream(1, 0) + h2.rst_stream(1, 0),
}


@pytest.mark.parametrize("case", PASSED_OVER)
async def test_what_is_passed_over(case):
    """As if it had not come."""
    async with wire(Rig()) as peer:
        peer.send(PASSED_OVER[case])
        await peer.serves(3)


async def test_settings_and_pings_are_acknowledged():
    """Each, in order, with what it said."""
    async with wire(Rig()) as peer:
        peer.send(frame(h2.PING, 0, 0, b"12345678"))
        assert (await peer.next(h2.SETTINGS)).flags == 0
        assert (await peer.next(h2.SETTINGS)).flags == h2.ACK
        ping = await peer.next(h2.PING)
        assert (ping.flags, ping.body) == (h2.ACK, b"12345678")


async def test_a_call_may_come_in_any_pieces():
    """Headers padded, prioritised and continued, the message over many frames, padded, each byte by itself."""
    given = block()
    first = b"\x03" + bytes(5) + given[:10] + bytes(3)
    sent = frame(h2.HEADERS, h2.PADDED | h2.PRIORITIZED, 1, first)
    sent += b"".join(frame(h2.CONTINUATION, 0, 1, part) for part in split(given[10:], 20))
    sent += frame(h2.CONTINUATION, h2.END_HEADERS, 1)
    sent += b"".join(frame(h2.DATA, h2.PADDED, 1, b"\x02" + part + b"\0\0") for part in split(message(), 7))
    async with wire(Rig(), greet=False) as peer:
        for byte in GREETING + sent + data(1, b""):
            peer.send(bytes((byte,)))
            await peer.writer.drain()
        said, body = await peer.answer(1)
        assert said["grpc-status"] == "0"
        assert numbers(pb.ModelInferResponse.FromString(body[5:])) == [1, 2]


async def test_trailers_end_a_request():
    """What they say means nothing."""
    async with wire(Rig()) as peer:
        end = frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 1, field(b"x", b"y"))
        peer.send(head(1), data(1, message(), ended=False), end)
        assert (await peer.answer(1))[0]["grpc-status"] == "0"


async def test_a_header_table_is_kept_in_step():
    """Indexed once, referred to later; a block that is known means what the table holds by then."""
    names = [b":method", b":scheme", b":path", b"content-type"]
    values = [b"POST", b"http", PATH, b"application/grpc"]
    indexed = b"".join(
        b"\x40" + field(name, value)[1:] for name, value in [*zip(names, values, strict=True), (b"x-api-key", b"key")]
    )
    again = bytes(0x80 | index for index in (66, 65, 64, 63, 62))  # the newest entry is 62
    other = b"\x40" + field(b"x-api-key", b"wrong")[1:]
    async with wire(Rig()) as peer:
        for number, sent, status in ((1, indexed, "0"), (3, again, "0"), (5, again, "0")):
            peer.send(frame(h2.HEADERS, 4, number, sent), data(number, message()))
            assert (await peer.answer(number))[0]["grpc-status"] == status
        # The wrong key enters the table: the same bytes now mean other headers.
        moved = bytes(0x80 | index for index in (67, 66, 65, 64))
        peer.send(frame(h2.HEADERS, 4, 7, again[:4] + other), data(7, message()))
        assert (await peer.answer(7))[0]["grpc-status"] == "16"
        peer.send(frame(h2.HEADERS, 4, 9, again))
        while (reset := await peer.next(h2.RST_STREAM)).stream != 9:
            assert reset.code == h2.NO_ERROR  # a stranger's calls are not read to their end
        assert reset.code == h2.PROTOCOL_ERROR
        peer.send(frame(h2.HEADERS, 4, 11, moved + b"\xbe"), data(11, message()))
        assert (await peer.answer(11))[0]["grpc-status"] == "16"


async def test_a_client_without_a_header_table_is_told_that_we_use_none():
    """Once, in front of the first block after its setting."""
    async with wire(Rig()) as peer:
        peer.send(setting(h2.HEADER_TABLE_SIZE, 0), call(1), call(3))
        heads = [(await peer.next(h2.HEADERS)).body for _ in range(4)]
        assert [body[:1] == h2.RESIZE_TABLE for body in heads] == [True, False, False, False]


async def test_who_speaks_http_1_is_told_so():
    """In HTTP/1.1."""
    async with wire(Rig(), greet=False) as peer:
        peer.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await peer.reader.read()).startswith(b"HTTP/1.1 505")


async def test_what_is_not_grpc_is_refused():
    """By the status of HTTP; a method that nobody knows by gRPC's."""
    json = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", PATH), (b"content-type", b"application/json"))
    get = ((b":method", b"GET"), (b":scheme", b"http"), (b":path", PATH), (b"content-type", b"application/grpc"))
    web = (*json[:3], (b"content-type", b"application/grpc-web"))
    for given, status in ((json, "415"), (get, "405"), (web, "415")):
        async with wire(Rig()) as peer:
            peer.send(frame(h2.HEADERS, 5, 1, fields(given)))
            assert (await peer.answer(1))[0][":status"] == status
    async with wire(Rig()) as peer:
        peer.send(call(1, path=b"/inference.GRPCInferenceService/Other"))
        assert (await peer.answer(1))[0]["grpc-status"] == "12"


async def test_goaway_of_a_client_ends_the_connection_once_all_is_answered():
    """Not before."""
    rig = Rig()
    rig.hold = True
    async with wire(rig) as peer:
        peer.send(call(1), h2.goaway(0, 0))
        await until(lambda: rig.held)
        rig.held[0].answer()
        assert (await peer.answer(1))[0]["grpc-status"] == "0"
        assert await peer.frames() == []
        again = await connect(rig.port)
        again.send(GREETING)
        rig.hold = False
        await again.serves(1)
        again.writer.close()
