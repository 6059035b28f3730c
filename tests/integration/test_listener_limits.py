"""Bounds of the data listener: sizes, counts and times, each told in the protocol's own words."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time

import pytest
from listener_rig import KEY, get, head, listening, mlp, request, until

QUICK = {"head_timeout": "400ms", "body_timeout": "600ms", "idle_timeout": "1s"}


@pytest.fixture(scope="module")
def quick():
    """A listener that waits for nothing long."""
    with listening(QUICK) as rig:
        yield rig


def took_s(wait) -> float:
    """How long this took."""
    started_s = time.monotonic()
    wait()
    return time.monotonic() - started_s


def trickle(wire, data: bytes, every_s: float = 0.05) -> None:
    """Send a byte now and then until the server hangs up."""
    try:
        for at in range(len(data)):
            wire.send(data[at : at + 1])
            time.sleep(every_s)
    except OSError:
        pass


def test_a_head_that_does_not_come_to_its_end_is_timed_out(quick):
    """Stopped short, or a byte now and then for as long as it likes."""
    with quick.wire() as wire:
        wire.send(head()[:-3])
        assert wire.answer().says == (408, "request_timeout")
        assert wire.closed()
    with quick.wire() as wire:
        sender = threading.Thread(target=trickle, args=(wire, head(x_junk="a" * 500)))
        sender.start()
        answer = wire.answer()
        sender.join()
    assert (answer.says, answer.headers["connection"]) == ((408, "request_timeout"), "close")


def test_a_head_begun_behind_a_request_under_way_is_timed_out_in_its_turn(quick):
    """The answer that is owed comes first."""
    quick.hold()
    with quick.wire() as wire:
        wire.send(request() + head()[:20])
        until(lambda: quick.echo.held)
        (connection,) = quick.on_loop(lambda: list(quick.plane.connections))
        until(lambda: connection.deaf)
        quick.hold(False)
        assert [wire.answer().status for _ in range(2)] == [200, 408]


@pytest.mark.parametrize("framing", [{"content_length": "5000"}, {"transfer_encoding": "chunked"}])
def test_a_body_that_does_not_come_to_its_end_is_timed_out(quick, framing):
    """Stopped, or a byte now and then: the time is that of the whole body."""
    for sent in (b"", b"1;" + b"a" * 2000):
        with quick.wire() as wire:
            wire.send(head(**framing))
            sender = threading.Thread(target=trickle, args=(wire, sent))
            sender.start()
            answer = wire.answer()
            sender.join()
            assert (answer.says, answer.headers["connection"]) == ((408, "request_timeout"), "close")


def test_a_chunk_that_claims_to_be_endless_is_waited_for_no_longer_than_any_body(quick):
    """64 bits of it."""
    with quick.wire() as wire:
        wire.send(head(transfer_encoding="chunked") + b"F" * 16 + b"\r\n{}")
        assert wire.answer().says == (408, "request_timeout")


def test_an_idle_connection_is_closed_without_a_word(quick):
    """New, or after an answer; line ends are no life."""
    for sent in (b"", request(), b"\r\n" * 100):
        with quick.wire() as wire:
            wire.send(sent)
            if sent == request():
                assert wire.answer().status == 200
            assert took_s(lambda wire=wire: wire.closed()) > 0.5


def test_a_busy_connection_is_not_taken_for_an_idle_one(quick):
    """For longer than every timeout, each request well within its own."""
    with quick.wire() as wire:
        end_s = time.monotonic() + 2.5
        while time.monotonic() < end_s:
            data = request()
            wire.send(data[:100])
            time.sleep(0.1)
            wire.send(data[100:300])
            time.sleep(0.1)
            wire.send(data[300:])
            assert wire.answer().status == 200


def test_a_request_under_way_is_not_timed_out_by_the_connection(quick):
    """Its deadline does that."""
    quick.hold()
    with quick.wire() as wire:
        wire.send(request())
        time.sleep(1.5)
        quick.hold(False)
        assert wire.answer().status == 200


def test_a_client_that_does_not_read_its_answers_is_hung_up_on(quick):
    """Its requests are taken no further than its answers can go."""
    many = request(mlp(8, 0.123456)) * 20
    with quick.wire() as wire:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 1000:
                wire.send(many)
                sent += 1
        assert 0 < sent < 1000
        until(lambda: not quick.on_loop(lambda: list(quick.plane.connections)))


def test_who_asks_for_the_end_and_does_not_read_counts_until_his_time_is_over(quick):
    """Its last answer waits in memory as any other does, and no longer."""
    with quick.wire() as wire:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        until(lambda: quick.on_loop(lambda: list(quick.plane.connections)))
        (connection,) = quick.on_loop(lambda: list(quick.plane.connections))
        with socket.socket(fileno=os.dup(connection.transport.get_extra_info("socket").fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        wire.send(request(mlp(32, 0.123456), connection="close"))
        until(connection.transport.is_closing)
        assert quick.on_loop(lambda: list(quick.plane.connections)) == [connection]
        until(lambda: not quick.on_loop(lambda: list(quick.plane.connections)))


def test_headers_are_bounded_in_bytes_and_number():
    """And a body of chunk headers is none."""
    with listening() as rig:
        assert rig.ask(head(x_a="a" * 60_000, content_length="0")).status == 400
        assert rig.ask(head(x_a="a" * 70_000)).says == (431, "headers_too_large")
        assert rig.ask(head(**{f"x-{n}": "a" for n in range(120)})).says == (431, "headers_too_large")
        assert rig.ask(head(transfer_encoding="chunked") + b"1;" + b"a" * 300_000).says == (431, "headers_too_large")
        chunks = (
            head(transfer_encoding="chunked") + b"".join(b"1\r\n%c\r\n" % byte for byte in mlp() * 1) + b"0\r\n\r\n"
        )
        assert rig.ask(chunks).status == 200
        assert rig.ask(head(transfer_encoding="chunked") + b"1\r\n \r\n" * 60_000 + b"0\r\n\r\n").status == 400


def test_bodies_are_bounded_one_by_one():
    """Declared or not; what is refused on its way is read away, so that a client that sends it all sees the answer."""
    with listening({"max_json_bytes": 100_000, "max_body_bytes": 200_000}) as rig:
        assert rig.ask(head(content_length="100001")).says == (413, "too_large")
        assert rig.ask(head(content_length="100000") + b" " * 100_000).says == (400, "malformed")
        endless = head(transfer_encoding="chunked") + (b"%x\r\n" % 2_000_000) + b" " * 2_000_000
        assert rig.ask(endless).says == (413, "too_large")
        assert rig.ask(request(b" " * 20_000_000)).says == (413, "too_large")


def test_bodies_are_bounded_all_together():
    """What is on its way and what is under way; told before the body is read, with when to come again."""
    with listening(limits={"body_bytes": 100_000}) as rig:
        rig.hold()
        with rig.wire() as wire, rig.wire() as slow:
            wire.send(request(mlp(16)))
            until(lambda: rig.echo.held)
            held = rig.on_loop(lambda: rig.plane.held_bytes)
            assert held == len(mlp(16))
            slow.send(head(content_length="50000") + b" " * 49_000)
            until(lambda: rig.on_loop(lambda: rig.plane.held_bytes) == held + 49_000)
            answer = rig.ask(head(content_length=str(100_000 - held - 48_000)))
            assert (answer.says, answer.headers["retry-after"]) == ((429, "saturated"), "1")
            chunked = head(transfer_encoding="chunked") + b"FFFFF\r\n" + b" " * 90_000
            assert rig.ask(chunked).says == (429, "saturated")
            assert rig.ask(get()).status == 200
            rig.hold(False)
            assert wire.answer().status == 200
        until(lambda: rig.on_loop(lambda: rig.plane.held_bytes) == 0)
        assert rig.ask(request(mlp(16))).status == 200


def test_a_tenant_has_so_many_requests_under_way_and_no_more():
    """The others have theirs; one that ends, or whose client goes, makes room."""
    with listening(limits={"requests_per_tenant": 2}) as rig:
        rig.hold()
        with rig.wire() as first, rig.wire() as second:
            first.send(request())
            second.send(request())
            until(lambda: len(rig.echo.held) == 2)
            answer = rig.ask(request())
            assert (answer.says, answer.headers["retry-after"]) == ((429, "quota_exceeded"), "1")
            with rig.wire() as other:
                other.send(request(key=KEY + "x"))
                until(lambda: len(rig.echo.held) == 3)
        until(lambda: rig.on_loop(lambda: rig.handler.under_way) == {"demo": 0, "other": 0})
        rig.hold(False)
        assert rig.ask(request()).status == 200


def test_one_connection_too_many_is_told_so():
    """Unread, in HTTP; those there are stay, and one that goes makes room."""
    with listening({"max_connections": 3}) as rig:
        wires = [rig.wire() for _ in range(3)]
        until(lambda: len(rig.plane.connections) == 3)
        for sent in (b"", request(), b"garbage"):
            answer = rig.ask(sent)
            assert (answer.says, answer.headers["connection"]) == ((503, "too_many_connections"), "close")
        wires[0].send(request())
        assert wires[0].answer().status == 200
        wires[1].__exit__()
        until(lambda: len(rig.plane.connections) == 2)
        assert rig.ask(request()).status == 200
        for wire in wires:
            wire.__exit__()


def test_pools_are_not_named_where_they_are_not_to_be():
    """`reveal_pools`."""
    for reveal in (True, False):
        with listening({"reveal_pools": reveal}) as rig:
            headers = rig.ask(request()).headers
            assert ("x-pointsman-pool" in headers) is ("x-pointsman-accelerator" in headers) is reveal
