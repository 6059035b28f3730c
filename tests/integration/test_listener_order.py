"""One connection and its requests: their order, their number, how they end, and how their targets are read."""

from __future__ import annotations

import json

import pytest
from listener_rig import INFER, KEY, get, head, listening, mlp, request, until

from router.service.head import Head

BAD = request(b"{", x_request_id="bad")


@pytest.fixture(scope="module")
def rig():
    """One listener for all."""
    with listening() as rig:
        yield rig


def test_requests_of_both_kinds_are_answered_in_their_order(rig):
    """Inference behind metadata, metadata behind inference, errors between; the pool answers the last first."""
    sent = [request(x_request_id="a"), get(), request(x_request_id="b"), get("/v2/models/mlp"), BAD, get("/nothing")]
    sent += [request(x_request_id="c")]
    rig.hold()
    with rig.wire() as wire:
        wire.send(b"".join(sent))
        until(lambda: rig.echo.held)
        rig.hold(False)
        answers = [wire.answer() for _ in sent]
    assert [answer.status for answer in answers] == [200, 200, 200, 200, 400, 404, 200]
    assert [answers[n].headers["x-request-id"] for n in (0, 2, 4, 6)] == ["a", "b", "bad", "c"]
    assert answers[1].body == b"success\n"
    assert answers[3].json["name"] == "mlp"


def test_one_request_of_a_connection_is_under_way_and_few_wait_in_memory(rig):
    """A client may send thousands ahead; the router takes some, the rest stays in the socket."""
    rig.hold()
    with rig.wire() as wire:
        wire.send(get() * 2 + request() + get() * 5000)
        assert [wire.answer().status for _ in range(2)] == [200, 200]
        until(lambda: rig.echo.held)
        (connection,) = rig.on_loop(lambda: list(rig.plane.connections))
        assert 16 <= len(connection.line) < 16 + 8192 // len(get()) + 1
        assert connection.reading_paused
        rig.hold(False)
        assert [wire.answer().status for _ in range(5001)] == [200] * 5001


def test_many_pipelined_requests_that_fail_at_once_do_not_pile_up(rig):
    """Each ends inside the end of the one before it."""
    rig.hold()
    with rig.wire() as wire:
        wire.send(request() + request(b"{") * 2000)
        until(lambda: rig.echo.held)
        rig.hold(False)
        assert [wire.answer().status for _ in range(2001)] == [200] + [400] * 2000


def test_the_line_keeps_its_order_while_more_is_read(rig):
    """Requests that end at once make room, and what is read into that room stands behind those that waited."""
    names = ["first", *(f"r{number}" for number in range(400))]
    rig.hold()
    with rig.wire() as wire:
        wire.send(request(x_request_id=names[0]) + b"".join(request(b"{}", x_request_id=name) for name in names[1:]))
        until(lambda: rig.echo.held)
        rig.hold(False)
        assert [wire.answer().headers["x-request-id"] for _ in names] == names


def test_what_came_with_the_last_request_before_a_router_leaves_is_not_served(rig):
    """Its answer could not be sent: the connection has closed behind the one before."""
    with rig.wire() as wire:
        wire.send(get())
        wire.answer()
        before = rig.on_loop(lambda: rig.handler.new_item_id())
        rig.on_loop(lambda: setattr(rig.plane, "leaving", True))
        try:
            wire.send(request(b"{}") + request())
            assert wire.answer().headers["connection"] == "close"
            assert wire.closed()
            assert rig.on_loop(lambda: rig.handler.new_item_id()) == before + 1
        finally:
            rig.on_loop(lambda: setattr(rig.plane, "leaving", False))


def test_a_large_body_that_waits_for_its_turn_goes_with_its_request(rig):
    """Who hangs up frees it, though his turn is still to come."""
    large = b'{"inputs":[{"name":"x","shape":[1,256],"datatype":"FP32","data":[' + b"0.5," * 50_000 + b"0.5]}]}"

    def kept() -> list[int]:
        handler = rig.handler
        handler.start(Head("mlp", "", "a", KEY), large, lambda reply: None)
        handler.new_item_id()  # somebody else was served
        waiting = [handler.start(Head("mlp", "", "b", KEY), large, lambda reply: None) for _ in range(5)]
        before = [len(exchange._body) for exchange in waiting]
        for exchange in waiting:
            exchange.cancel()
        return [*before, *(len(exchange._body) for exchange in waiting)]

    assert rig.on_loop(kept) == [len(large)] * 5 + [0] * 5


def test_who_hangs_up_gives_back_what_is_under_way_and_what_waits(rig):
    """The one in the pool is cancelled, those behind it never start."""
    rig.hold()
    with rig.wire() as wire:
        wire.send(request() * 5)
        until(lambda: rig.echo.held and rig.on_loop(lambda: rig.plane.held_bytes) > 4 * len(mlp()))
    until(lambda: rig.echo.held[0][0].cancelled)
    until(lambda: rig.on_loop(lambda: rig.plane.held_bytes) == 0)
    assert len(rig.echo.held) == 1
    rig.hold(False)


def test_what_is_refused_behind_others_is_refused_in_its_turn_and_is_the_last(rig):
    """Garbage, and a body that is too large: one answer each, after those before it, then the connection closes."""
    for last, says in ((b"garbage\r\n\r\n", (400, "malformed")), (head(content_length="9" * 12), (413, "too_large"))):
        rig.hold()
        with rig.wire() as wire:
            wire.send(request() * 3 + last + request())
            until(lambda: rig.echo.held)
            rig.hold(False)
            assert [wire.answer().status for _ in range(3)] == [200] * 3
            answer = wire.answer()
            assert (answer.says, answer.headers["connection"]) == (says, "close")
            assert wire.closed()


def test_pipelined_requests_are_all_answered_by_a_router_that_leaves():
    """Only the last answer closes the connection, and tells so."""
    with listening() as rig, rig.wire() as wire:
        rig.hold()
        wire.send(request() * 3)
        until(lambda: rig.echo.held)
        rig.on_loop(lambda: setattr(rig.plane, "leaving", True))
        rig.hold(False)
        assert [wire.answer().headers.get("connection") for _ in range(3)] == [None, None, "close"]
        assert wire.closed()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request(version="1.0"), 200),
        (request(connection="close"), 200),
        (get(connection="close"), 200),
        (get("/nothing", version="1.0"), 404),
    ],
)
def test_the_last_request_of_a_connection_closes_it_whatever_comes_behind(rig, data, status):
    """Nothing behind it is read, and there is no second answer."""
    with rig.wire() as wire:
        wire.send(data + request())
        answer = wire.answer()
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert wire.closed()


def test_head_is_answered_as_get_without_the_body(rig):
    """With the length that GET would give; the next answer follows."""
    with rig.wire() as wire:
        wire.send(head("/v2/models/mlp", "HEAD") + head(INFER, "HEAD") + head("/no", "HEAD") + get("/v2/models/mlp"))
        answers = [wire.answer("HEAD") for _ in range(3)]
        full = wire.answer()
    assert [answer.status for answer in answers] == [200, 405, 404]
    assert answers[0].headers["content-length"] == full.headers["content-length"] == str(len(full.body))


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (INFER + "?a=b/infer", 200),
        ("http://other.example" + INFER, 200),
        ("HTTPS://router:1" + INFER + "?x", 200),
        ("/v2/models/%6dlp/infer", 200),
        ("/v2/models/mlp/%69nfer", 200),
        ("/v2/models/mlp/versions/%31/infer", 200),
        ("/v2%2Fmodels/mlp/infer", 404),
        ("/v2/models/a%2Fmlp/infer", 404),
        ("/v2/models/mlp%2Finfer", 404),
        ("/v2/models/mlp/infer/", 404),
        ("/v2/models//infer", 404),
        ("/v2/models/%FF/infer", 404),
        ("*", 400),
        (INFER + "#x", 400),
        ("ftp://router" + INFER, 400),
        ("http:///v2", 400),
        ("/" + "a" * 9000, 414),
        ("/" + "a" * 90_000, 414),
    ],
)
def test_a_target_is_read_in_one_way(rig, target, status):
    """Absolute or not, percent-encoded or not; an encoded slash is never a separator."""
    assert rig.ask(request(path=target)).status == status


def test_inference_has_no_other_way_in(rig):
    """Any other method on its path is 405; no body reaches the application."""
    answers = [rig.ask(head(method=method)) for method in ("GET", "DELETE", "PUT", "OPTIONS")]
    assert {(answer.status, answer.headers["allow"]) for answer in answers} == {(405, "POST")}


def test_100_continue_is_said_where_the_body_will_be_read_and_only_then(rig):
    """And only when no other answer is owed before; a refusal comes before the body is sent."""
    body = mlp()
    waiting = head(content_length=str(len(body)), expect="100-continue")
    with rig.wire() as wire:
        rig.hold()
        wire.send(request() + waiting)
        until(lambda: rig.echo.held)
        rig.hold(False)
        assert wire.answer().status == 200
        assert (wire.line(), wire.line()) == (b"HTTP/1.1 100 Continue", b"")
        wire.send(body)
        assert wire.answer().status == 200
    for refused, status in (
        (head(content_length="9" * 10, expect="100-continue"), 413),
        (head(content_length="10", expect="100-continue", key="pm_wrong"), 401),
        (head("/v1/explain", content_length="99999", expect="100-continue"), 413),
    ):
        assert rig.ask(refused).status == status


def test_chunks_extensions_and_trailers(rig):
    """All as one body; trailers mean nothing, to this request or to the next."""
    body = mlp()
    parts = [body[at : at + 100] for at in range(0, len(body), 100)]
    chunks = b"".join(b'%x;a=b;c="d e"\r\n%b\r\n' % (len(part), part) for part in parts)
    trailers = b"0\r\nx-request-id: trailer\r\nauthorization: Bearer none\r\nexpect: 100-continue\r\n\r\n"
    chunked = head(transfer_encoding="chunked") + chunks + trailers
    with rig.wire() as wire:
        wire.send(chunked * 3)
        answers = [wire.answer() for _ in range(3)]
    assert [answer.status for answer in answers] == [200] * 3
    assert "trailer" not in {answer.headers["x-request-id"] for answer in answers}
    explain = head("/v1/explain", transfer_encoding="chunked") + b'10\r\n{"model": "mlp"}\r\n' + trailers
    assert rig.ask(explain).headers["x-request-id"] != "trailer"


def test_an_offer_to_upgrade_is_declined_by_answering(rig):
    """In the version of the request, keeping its `close`."""
    offer = {"connection": "close, Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2_settings": "AAEAAEAA"}
    with rig.wire() as wire:
        wire.send(request(**(offer | {"connection": "Upgrade"})) + request(**offer))
        assert [wire.answer().headers.get("connection") for _ in range(2)] == [None, "close"]
        assert wire.closed()


def test_explain_and_metadata_go_through_the_application(rig):
    """With their bodies bounded, and read only of those who have a key."""
    body = json.dumps({"model": "mlp"}).encode()
    assert rig.ask(request(body, "/v1/explain")).json["model"] == "mlp"
    assert rig.ask(request(body, "/v1/explain", key=None)).says == (401, "unauthenticated")
    assert rig.ask(request(b" " * 70_000, "/v1/explain")).says == (413, "too_large")
    assert rig.ask(get("/v2/models/mlp", key=KEY + "?")).status == 401
