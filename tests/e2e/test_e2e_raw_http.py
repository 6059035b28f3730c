"""Clients that do not behave: what they send on a bare socket, how they stay, how they leave; the server stays well."""

import contextlib
import json
import threading

import pytest
from example import MAX_BODY_BYTES
from fleet import eventually
from payloads import MINILM_INFER, MLP_INFER, mlp, text
from wire import Wire, request, send_raw

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("nothing_lost")]

HEALTH = request("/-/healthz", method="GET")


@pytest.fixture
def infer(fleet):
    """Makes the bytes of a good MLP request with this id."""

    def make(request_id="r", **more: str) -> bytes:
        return request(MLP_INFER, mlp(), fleet.headers("demo", x_request_id=request_id, **more))

    return make


@pytest.fixture(autouse=True)
def still_well(fleet, infer):
    """A good request on a new connection succeeds after whatever the test did."""
    yield
    assert send_raw(fleet.http_url, infer()).status == 200


def test_pipelined_requests_are_answered_in_their_order(fleet, infer):
    """A slow one first, then fast ones, a health check and a bad one, all in one write."""
    slow = request(MINILM_INFER, text(["slow"]), fleet.headers("ascend-only", x_request_id="slow"))
    bad = request(MLP_INFER, b"{", fleet.headers("demo", x_request_id="bad"))
    with Wire(fleet.http_url) as wire:
        wire.send(slow + infer("a") + HEALTH + infer("b") + bad + infer("c"))
        answers = [wire.answer() for _ in range(6)]
    assert [answer.status for answer in answers] == [200, 200, 200, 200, 400, 200]
    assert [answer.headers.get("x-request-id") for answer in answers] == ["slow", "a", None, "b", "bad", "c"]
    assert answers[2].body == b"success\n"


def test_a_health_check_may_be_pipelined_before_an_inference(fleet, infer):
    """And a connection goes on being good for more."""
    with Wire(fleet.http_url) as wire:
        for _ in range(2):
            wire.send(HEALTH + infer("a"))
            assert [wire.answer().status, wire.answer().headers["x-request-id"]] == [200, "a"]


def test_what_is_refused_behind_another_request_is_refused_in_its_turn(fleet, infer):
    """Too large, pipelined: the order holds, it is the last answer, and nothing behind it is read."""
    big = request(MLP_INFER, b" " * (MAX_BODY_BYTES + 1), fleet.headers("demo", x_request_id="big"))
    with Wire(fleet.http_url) as wire:
        sender = threading.Thread(target=send_what_is_taken, args=(wire, infer("a") + infer("b") + big + infer("d")))
        sender.start()
        answers = [wire.answer() for _ in range(3)]
        sender.join()
        assert wire.closed()
    assert [answer.status for answer in answers] == [200, 200, 413]
    assert [answer.headers["x-request-id"] for answer in answers] == ["a", "b", "big"]


def test_http_1_0_is_answered_and_closed(fleet, infer):
    """As such clients expect."""
    with Wire(fleet.http_url) as wire:
        wire.send(infer().replace(b"HTTP/1.1", b"HTTP/1.0"))
        answer = wire.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert wire.closed()


def test_connection_close_is_honoured(fleet, infer):
    """On an answer and on an error."""
    for data in (infer(connection="close"), request(MLP_INFER, b"", {"connection": "close"})):
        with Wire(fleet.http_url) as wire:
            wire.send(data)
            assert wire.answer().headers["connection"] == "close"
            assert wire.closed()


def test_expect_100_continue_is_answered_before_the_body(fleet, infer):
    """With 100 where the body will be read, with the error at once where it would not."""
    head, _, body = infer(expect="100-continue").partition(b"\r\n\r\n")
    with Wire(fleet.http_url) as wire:
        wire.send(head + b"\r\n\r\n")
        assert (wire.line(), wire.line()) == (b"HTTP/1.1 100 Continue", b"")
        wire.send(body)
        assert wire.answer().status == 200
    too_long = head.replace(b"content-length: ", b"content-length: 999")
    with Wire(fleet.http_url) as wire:
        wire.send(too_long + b"\r\n\r\n")
        assert wire.answer().status == 413
        assert wire.closed()


def test_an_offer_to_upgrade_is_declined_by_answering(fleet, infer):
    """As Java's client makes it on every first request; the body is read and the connection goes on."""
    offer = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2_settings": "AAEAAEAA"}
    with Wire(fleet.http_url) as wire:
        wire.send(infer("offer", **offer) + infer("next"))
        assert [wire.answer().headers["x-request-id"] for _ in range(2)] == ["offer", "next"]
        wire.send(request("/-/healthz", method="GET", headers={"connection": "upgrade", "upgrade": "h2c"}) + infer("z"))
        assert [wire.answer().status, wire.answer().headers["x-request-id"]] == [200, "z"]


def test_a_body_that_comes_slowly_is_waited_for(fleet, infer):
    """In many small parts, and as chunks."""
    data = infer("slow")
    with Wire(fleet.http_url) as wire:
        for start in range(0, len(data), 100):
            wire.send(data[start : start + 100])
        assert wire.answer().headers["x-request-id"] == "slow"
    body = json.dumps(mlp()).encode()
    parts = [body[start : start + 50] for start in range(0, len(body), 50)]
    chunked = request(MLP_INFER, headers=fleet.headers("demo")).replace(
        b"content-length: 0", b"transfer-encoding: chunked"
    )
    with Wire(fleet.http_url) as wire:
        wire.send(chunked)
        for part in [*parts, b""]:
            wire.send(b"%x\r\n%s\r\n" % (len(part), part))
        assert wire.answer().status == 200


@pytest.mark.parametrize("kept", [1, 20, 200, 400])
def test_a_client_that_leaves_in_the_middle_of_its_request_harms_nobody(fleet, infer, kept):
    """In the request line, in the headers or in the body."""
    with Wire(fleet.http_url) as wire:
        wire.send(infer()[:kept])


NOT_HTTP = {
    "garbage": b"garbage\r\n\r\n",
    "TLS": bytes.fromhex("16030100f5010000f10303") + bytes(300),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "CONNECT": b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n",
    "NUL in a header": request(MLP_INFER, headers={"x-a": "a\0b"}),
    "NUL in the path": request("/v2/models/m\0/infer"),
    "not ASCII in the path": b"POST /v2/models/\xff/infer HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
    "two lengths": request(MLP_INFER, headers={"content-length": "3"}),
    "length and chunks": request(MLP_INFER, headers={"transfer-encoding": "chunked"}),
    "negative length": request(MLP_INFER).replace(b"content-length: 0", b"content-length: -1"),
    "endless length": request(MLP_INFER).replace(b"content-length: 0", b"content-length: " + b"9" * 30),
    "bad chunk": request(MLP_INFER, headers={"authorization": "Bearer KEY"}).replace(
        b"content-length: 0", b"transfer-encoding: chunked"
    )
    + b"zz\r\n",
    "a header without a colon": b"GET /v2 HTTP/1.1\r\nhost: a\r\nnonsense\r\n\r\n",
}


@pytest.mark.parametrize("case", NOT_HTTP)
def test_what_is_not_http_is_refused_in_json_and_the_connection_closed(fleet, case):
    """400, whatever it was."""
    with Wire(fleet.http_url) as wire:
        wire.send(NOT_HTTP[case].replace(b"KEY", fleet.keys["demo"].encode()))
        answer = wire.answer()
        assert (answer.status, answer.json["reason"], answer.headers["connection"]) == (400, "malformed", "close")
        assert answer.json["request_id"] == answer.headers["x-request-id"]
        assert wire.closed()


def test_garbage_behind_a_request_under_way_is_told_behind_its_answer(fleet):
    """One answer each, in order; then the connection closes."""
    slow = request(MINILM_INFER, text(["slow"]), fleet.headers("ascend-only"))
    with Wire(fleet.http_url) as wire:
        wire.send(slow + b"garbage\r\n\r\n")
        assert [wire.answer().status, wire.answer().status] == [200, 400]
        assert wire.closed()


@pytest.mark.parametrize(
    "more",
    [{"x-junk": "a" * 300_000}, {"x-junk": "a" * 20_000_000}, {f"x-{number}": "a" for number in range(200)}],
    ids=["300 kB", "20 MB", "200 headers"],
)
def test_oversized_headers_are_refused(fleet, infer, more):
    """431, read by a client that sends all of them first."""
    data = request(MLP_INFER, mlp(), fleet.headers("demo") | more)
    with Wire(fleet.http_url) as wire:
        sender = threading.Thread(target=send_what_is_taken, args=(wire, data))
        sender.start()
        answer = wire.answer()
        sender.join()
    assert (answer.status, answer.json["reason"]) == (431, "headers_too_large")


def send_what_is_taken(wire, data):
    """Send; the server may hang up on the rest."""
    with contextlib.suppress(OSError):
        wire.send(data)


def test_an_endless_path_is_refused(fleet):
    """In words of its own."""
    answer = send_raw(fleet.http_url, request("/v2/models/" + "a" * 500_000 + "/infer"))
    assert answer.status == 414


def test_a_client_that_hangs_up_is_counted_and_its_lease_released(fleet):
    """While its request runs on the slow emulated pool: no answer can have come before it left."""
    fleet.flushed()
    labels = {"tenant": "ascend-only", "model": "minilm", "outcome": "client_gone"}
    before = fleet.metric("pointsman_requests_total", **labels)
    data = request(MINILM_INFER, text(["nobody waits for this"]), fleet.headers("ascend-only"))
    for _ in range(20):
        with Wire(fleet.http_url) as wire:
            wire.send(data)
    eventually(lambda: fleet.metric("pointsman_requests_total", **labels) == before + 20)
    eventually(lambda: fleet.metric("pointsman_inflight", pool="a910-sh") == 0)


def test_many_connections_that_say_nothing_keep_nobody_out(fleet, infer):
    """Some hundred at once."""
    idle = [Wire(fleet.http_url) for _ in range(300)]
    assert send_raw(fleet.http_url, infer()).status == 200
    for wire in idle:
        wire.close()
