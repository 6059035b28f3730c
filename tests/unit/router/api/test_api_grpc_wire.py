"""Between gRPC's calls and the handler's values."""

from __future__ import annotations

import pytest
from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from router.api.grpc_wire import STATUS, MessageReader, prefix, read_call, status, trailers
from router.api.heads import RequestIds
from router.core.errors import CapacityError
from router.protocol.h2_fields import Block
from router.protocol.problem import PROBLEMS
from router.service.reply import Reply, failed

GOOD = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a"), (b"content-type", b"application/grpc")]


class Method:
    """Of one name."""

    needs_key = True


def asked(*headers):
    """What a call with these headers asks for."""
    return read_call(Block([*GOOD, *headers]), {b"/a": Method()}, RequestIds("r"))


@given(st.lists(st.binary(max_size=40), max_size=12), st.lists(st.integers(1, 60), max_size=30))
def test_messages_are_cut_where_they_end(messages, sizes):
    """However they come."""
    stream = b"".join(prefix(len(message)) + message for message in messages)
    reader, found = MessageReader(), []
    at = 0
    for size in [*sizes, len(stream)]:
        reader.push(stream[at : at + size])
        at += size
        while (taken := reader.take()) is not None:
            found.append(taken)
    assert found == [(0, message) for message in messages]
    assert reader.size_bytes == 0
    assert reader.length() is None


def test_a_length_is_known_before_its_message():
    """From its first five bytes, in pieces too."""
    reader = MessageReader()
    reader.push(b"\1\0\0")
    assert reader.length() is None
    reader.push(b"\1\0")
    assert reader.length() == 256
    assert reader.take() is None


@pytest.mark.parametrize(
    ("text", "seconds"), [(b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"4m", 4e-3), (b"5u", 5e-6), (b"99999999n", 0.1)]
)
def test_a_timeout_is_read_in_its_unit(text, seconds):
    """As gRPC writes it."""
    assert asked((b"grpc-timeout", text)).timeout_s == pytest.approx(seconds)


@pytest.mark.parametrize("text", [b"", b"1", b"S", b"123456789S", b"-1S", b"1.5S", b"1s"])
def test_a_timeout_that_is_none_is_refused(text):
    """Not passed over: the client counts on it."""
    assert asked((b"grpc-timeout", text)).refusal[0] == "malformed"


def test_every_reason_has_a_number():
    """The names of the table are gRPC's."""
    assert {row.grpc for row in PROBLEMS.values()} <= STATUS.keys()
    assert (STATUS["CANCELLED"], STATUS["UNIMPLEMENTED"], STATUS["UNAUTHENTICATED"]) == (1, 12, 16)


@given(st.text(max_size=50))
def test_the_words_of_a_status_fit_in_a_header(words):
    """Whatever a client made us quote."""
    said = dict(Decoder().decode(status("INTERNAL", words.encode(errors="replace").decode()), raw=True))
    assert all(0x20 <= byte < 0x7F for byte in said[b"grpc-message"])


def test_trailers_say_what_the_headers_of_http_say():
    """But for those of its body; an error has its reason and how long to wait."""
    good = Reply(200, b"content-type: a\r\nx-pointsman-pool: p\r\nx-request-id: 7\r\nserver-timing: t\r\n", b"")
    said = Decoder().decode(trailers(good))
    assert [(str(name), str(value)) for name, value in said] == [
        ("grpc-status", "0"), ("x-pointsman-pool", "p"), ("x-request-id", "7"), ("server-timing", "t")
    ]  # fmt: skip
    error = dict(Decoder().decode(trailers(failed(CapacityError("saturated", "full", retry_after_s=1.5), "7"))))
    assert error["grpc-status"] == "8"
    assert error["grpc-message"] == "full"
    assert (error["retry-after"], error["grpc-retry-pushback-ms"]) == ("2", "1500")
    assert (error["x-pointsman-reason"], error["x-request-id"]) == ("saturated", "7")
    assert "content-type" not in error
