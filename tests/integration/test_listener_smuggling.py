"""What two servers might read differently is read by none: each try gets one answer and its connection is closed.

Behind each try stands a good request: were the try's body cut elsewhere than we say, there would be a second answer.
"""

from __future__ import annotations

import pytest
from listener_rig import INFER, KEY, listening, request

LINE = f"POST {INFER} HTTP/1.1\r\n".encode()
AUTH = b"host: a\r\nauthorization: Bearer " + KEY.encode() + b"\r\n"
START = LINE + AUTH
CHUNKED = START + b"transfer-encoding: chunked\r\n\r\n"
NEXT = request()
LAST_CHUNK = b"0\r\n\r\n"

REFUSED = {
    "length and chunks": START + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n" + LAST_CHUNK,
    "chunks and length": START + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n" + LAST_CHUNK,
    "two lengths": START + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    "the same length twice": START + b"content-length: 2\r\ncontent-length: 2\r\n\r\n{}",
    "a list of lengths": START + b"content-length: 2, 2\r\n\r\n{}",
    "a length with a sign": START + b"content-length: +2\r\n\r\n{}",
    "a negative length": START + b"content-length: -2\r\n\r\n{}",
    "a length in hex": START + b"content-length: 0x2\r\n\r\n{}",
    "a length with a space in it": START + b"content-length: 1 2\r\n\r\n{}",
    "an empty length": START + b"content-length: \r\n\r\n{}",
    "a length over 64 bits": START + b"content-length: 18446744073709551618\r\n\r\n{}",
    "chunked, identity": START + b"transfer-encoding: chunked, identity\r\n\r\n" + LAST_CHUNK,
    "identity, chunked": START + b"transfer-encoding: identity, chunked\r\n\r\n" + LAST_CHUNK,
    "gzip, chunked": START + b"transfer-encoding: gzip, chunked\r\n\r\n" + LAST_CHUNK,
    "identity": START + b"transfer-encoding: identity\r\n\r\n" + LAST_CHUNK,
    "xchunked": START + b"transfer-encoding: xchunked\r\n\r\n" + LAST_CHUNK,
    "chunkedx": START + b"transfer-encoding: chunkedx\r\n\r\n" + LAST_CHUNK,
    '"chunked"': START + b'transfer-encoding: "chunked"\r\n\r\n' + LAST_CHUNK,
    "chunked with a parameter": START + b"transfer-encoding: chunked;a=b\r\n\r\n" + LAST_CHUNK,
    "chunked behind a vertical tab": START + b"transfer-encoding: \x0bchunked\r\n\r\n" + LAST_CHUNK,
    "chunked twice": START + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n" + LAST_CHUNK,
    "an empty transfer-encoding": START + b"transfer-encoding:\r\n\r\n" + LAST_CHUNK,
    "chunks in HTTP/1.0": CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + LAST_CHUNK,
    "a space before a colon": START + b"content-length : 2\r\n\r\n{}",
    "a tab before a colon": START + b"transfer-encoding\t: chunked\r\n\r\n" + LAST_CHUNK,
    "LF alone behind a header": LINE + b"host: a\ncontent-length: 2\r\n\r\n{}",
    "LF alone behind the request line": START.replace(b"\r\n", b"\n", 1) + b"content-length: 2\r\n\r\n{}",
    "LF alone at the end of the head": START + b"content-length: 2\r\n\n{}",
    "CR alone behind a header": LINE + b"host: a\rcontent-length: 2\r\n\r\n{}",
    "a folded header": START + b"x-a: b\r\n c\r\ncontent-length: 2\r\n\r\n{}",
    "a folded transfer-encoding": START + b"transfer-encoding:\r\n chunked\r\n\r\n" + LAST_CHUNK,
    "a folded first header": LINE + b" x: y\r\n" + AUTH + b"content-length: 2\r\n\r\n{}",
    "a header hidden in a fold": START + b"x-a: b\r\n\ttransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n{}",
    "NUL in a value": START + b"x-a: b\0c\r\ncontent-length: 2\r\n\r\n{}",
    "a control byte in a value": START + b"x-a: b\x01c\r\ncontent-length: 2\r\n\r\n{}",
    "DEL in a value": START + b"x-a: b\x7fc\r\ncontent-length: 2\r\n\r\n{}",
    "a name that is no token": START + b"x(a: b\r\ncontent-length: 2\r\n\r\n{}",
    "an empty name": START + b": b\r\ncontent-length: 2\r\n\r\n{}",
    "no colon": START + b"nonsense\r\ncontent-length: 2\r\n\r\n{}",
    "a method in lower case": START.replace(b"POST", b"post") + b"content-length: 2\r\n\r\n{}",
    "an unknown method": START.replace(b"POST", b"STEAL") + b"content-length: 2\r\n\r\n{}",
    "a space before the method": b" " + START + b"content-length: 2\r\n\r\n{}",
    "tabs in the request line": START.replace(b" ", b"\t", 2) + b"content-length: 2\r\n\r\n{}",
    "a space in the target": START.replace(b"/infer", b"/in fer", 1) + b"content-length: 2\r\n\r\n{}",
    "a control byte in the target": START.replace(b"/infer", b"/in\x01fer", 1) + b"content-length: 2\r\n\r\n{}",
    "HTTP/1.2": START.replace(b"HTTP/1.1", b"HTTP/1.2") + b"content-length: 2\r\n\r\n{}",
    "HTTP/2.0": START.replace(b"HTTP/1.1", b"HTTP/2.0") + b"content-length: 2\r\n\r\n{}",
    "HTTP/0.9": START.replace(b"HTTP/1.1", b"HTTP/0.9") + b"content-length: 2\r\n\r\n{}",
    "HTTP/1.10": START.replace(b"HTTP/1.1", b"HTTP/1.10") + b"content-length: 2\r\n\r\n{}",
    "no host": LINE + AUTH.replace(b"host: a\r\n", b"") + b"content-length: 2\r\n\r\n{}",
    "two hosts": START + b"host: b\r\ncontent-length: 2\r\n\r\n{}",
    "two credentials": START + b"x-api-key: other\r\ncontent-length: 2\r\n\r\n{}",
    "a chunk size over 64 bits": CHUNKED + b"1" + b"0" * 16 + b"\r\n{}",
    "a negative chunk size": CHUNKED + b"-2\r\n{}\r\n" + LAST_CHUNK,
    "a chunk size with 0x": CHUNKED + b"0x2\r\n{}\r\n" + LAST_CHUNK,
    "a space behind a chunk size": CHUNKED + b"2 \r\n{}\r\n" + LAST_CHUNK,
    "a space before a chunk size": CHUNKED + b" 2\r\n{}\r\n" + LAST_CHUNK,
    "LF alone behind a chunk size": CHUNKED + b"2\n{}\r\n" + LAST_CHUNK,
    "LF alone behind a chunk": CHUNKED + b"2\r\n{}\n" + LAST_CHUNK,
    "LF alone in a chunk extension": CHUNKED + b"2;a\nb\r\n{}\r\n" + LAST_CHUNK,
    "CR alone in a chunk extension": CHUNKED + b"2;a\rb\r\n{}\r\n" + LAST_CHUNK,
    "NUL in a chunk extension": CHUNKED + b"2;a\0b\r\n{}\r\n" + LAST_CHUNK,
    "no end behind a chunk": CHUNKED + b"2\r\n{}0\r\n\r\n",
    "a chunk longer than its size": CHUNKED + b"2\r\n{}xx\r\n" + LAST_CHUNK,
    "an empty chunk size": CHUNKED + b"\r\n{}\r\n" + LAST_CHUNK,
    "LF alone behind the last chunk": CHUNKED + b"2\r\n{}\r\n0\n\n",
    "a length in the trailers": CHUNKED + b"2\r\n{}\r\n0\r\ncontent-length: 5\r\n\r\n",
    "chunks again in the trailers": CHUNKED + b"2\r\n{}\r\n0\r\ntransfer-encoding: chunked\r\n\r\n",
    "an offer to upgrade with both": (
        START + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n"
    ),
    "the HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "CONNECT": b"CONNECT a:443 HTTP/1.1\r\nhost: a\r\n\r\n",
    "TLS": bytes.fromhex("16030100f5010000f10303") + bytes(300),
}

AS_ONE = {
    "a length behind a tab": START + b"content-length:\t2\t\r\n\r\n{}",
    "chunked in capitals": START + b"Transfer-Encoding: CHUNKED\r\n\r\n2\r\n{}\r\n" + LAST_CHUNK,
    "a length that is a name like it": START + b"content_length: 500\r\ncontent-length: 2\r\n\r\n{}",
    "leading line ends": b"\r\n\r\n" + START + b"content-length: 2\r\n\r\n{}",
    "two spaces in the request line": START.replace(b" /", b"  /", 1) + b"content-length: 2\r\n\r\n{}",
}
"""Odd, but there is one way to read it."""


@pytest.fixture(scope="module")
def rig():
    """One listener for all, which must be well after each."""
    with listening() as rig:
        yield rig


@pytest.fixture(autouse=True)
def still_well(rig):
    """A good request succeeds after whatever the test sent."""
    yield
    assert rig.ask(NEXT).status == 200


@pytest.mark.parametrize("pieces", [1, 7, 10_000])
@pytest.mark.parametrize("case", REFUSED)
def test_each_try_gets_one_400_and_the_connection_is_closed(rig, case, pieces):
    """Whether it comes at once, in parts or byte by byte."""
    data = REFUSED[case] + NEXT
    if pieces == 10_000:
        data = REFUSED[case]
    size = max(1, len(data) // pieces)
    with rig.wire() as wire:
        try:
            for at in range(0, len(data), size):
                wire.send(data[at : at + size])
        except OSError:
            pass  # it hangs up as soon as it knows
        answer = wire.answer()
        assert (answer.says, answer.headers["connection"]) == ((400, "malformed"), "close")
        assert answer.json["request_id"] == answer.headers["x-request-id"]
        assert wire.closed()


@pytest.mark.parametrize("case", REFUSED)
def test_each_try_behind_a_good_request_leaves_that_one_its_answer(rig, case):
    """First 200, then the one 400."""
    with rig.wire() as wire:
        wire.send(NEXT + REFUSED[case])
        assert wire.answer().status == 200
        assert wire.answer().says == (400, "malformed")
        assert wire.closed()


@pytest.mark.parametrize("case", AS_ONE)
def test_what_can_be_read_in_one_way_only_is_one_request(rig, case):
    """Its own answer (the body is an empty object), then that of the next, then no other."""
    with rig.wire() as wire:
        wire.send(AS_ONE[case] + NEXT.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert [wire.answer().status for _ in range(2)] == [400, 200]
        assert wire.closed()
