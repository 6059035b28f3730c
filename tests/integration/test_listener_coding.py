"""Content codings of requests and answers: what is understood, what is refused, and what a bomb costs."""

from __future__ import annotations

import gzip
import json
import time
import zlib

import pytest
from listener_rig import get, head, listening, mlp, request, until

MIB = 1024 * 1024


def raw_deflate(data: bytes) -> bytes:
    """Without the zlib header, as many clients send it."""
    machine = zlib.compressobj(wbits=-15)
    return machine.compress(data) + machine.flush()


FORMS = {"gzip": gzip.compress, "x-gzip": gzip.compress, "GZIP": gzip.compress, "deflate": zlib.compress}
BROKEN = {
    "no gzip": b"\x00" * 50,
    "no bytes": b"",
    "cut short": gzip.compress(mlp())[:-1],
    "cut in the header": gzip.compress(mlp())[:5],
    "a wrong checksum": gzip.compress(mlp())[:-8] + bytes(8),
    "garbage behind": gzip.compress(mlp()) + b"x",
    "another member behind": gzip.compress(mlp()) * 2,
    "much behind": gzip.compress(mlp()) + bytes(300_000),
}


@pytest.fixture(scope="module")
def rig():
    """One listener for all; JSON may have 4 MiB."""
    with listening({"max_json_bytes": 4 * MIB}) as rig:
        yield rig


@pytest.mark.parametrize("rows", [1, 30], ids=["on the loop", "in a thread"])
@pytest.mark.parametrize("coding", FORMS)
def test_a_compressed_body_is_inflated(rig, coding, rows):
    """With a length, and in chunks of a byte."""
    data = FORMS[coding](mlp(rows))
    chunks = b"".join(b"1\r\n%b\r\n" % data[at : at + 1] for at in range(len(data))) + b"0\r\n\r\n"
    with rig.wire() as wire:
        wire.send(request(data, content_encoding=coding))
        wire.send(head(content_encoding=coding, transfer_encoding="chunked") + chunks)
        answers = [wire.answer() for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].json["outputs"][0]["shape"] == [rows, 256]


def test_raw_deflate_is_told_from_the_wrapped_form(rig):
    """Clients send both under one name; identity is no coding."""
    assert rig.ask(request(raw_deflate(mlp()), content_encoding="deflate")).status == 200
    assert rig.ask(request(content_encoding="identity")).status == 200
    assert (
        rig.ask(request(gzip.compress(b'{"model": "mlp"}'), path="/v1/explain", content_encoding="gzip")).status == 200
    )


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_stream_is_refused_and_the_connection_goes_on(rig, case):
    """The body was read to its end: only its content is bad."""
    with rig.wire() as wire:
        wire.send(request(BROKEN[case], content_encoding="gzip") + request())
        assert wire.answer().says == (400, "malformed")
        assert wire.answer().status == 200


@pytest.mark.parametrize(
    "coding", ["br", "zstd", "gzip, deflate", "gzip, gzip", "gzip;q=1", "identity, gzip", "compress"]
)
def test_other_codings_are_refused_and_told_which_are_taken(rig, coding):
    """Before the body is read."""
    answer = rig.ask(head(content_encoding=coding, content_length="1000"))
    assert answer.says == (415, "unsupported_media_type")
    assert "gzip, deflate" in answer.json["error"]
    twice = head(content_length="9").replace(
        b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\ncontent-encoding: gzip\r\n\r\n"
    )
    assert rig.ask(twice).status == 415


def test_a_body_may_inflate_to_the_limit_and_not_by_a_byte_more(rig):
    """Padded JSON, exactly at the bound and above it."""
    good = mlp() + b" " * (4 * MIB - len(mlp()))
    assert rig.ask(request(gzip.compress(good), content_encoding="gzip")).status == 200
    assert rig.ask(request(gzip.compress(good + b" "), content_encoding="gzip")).says == (413, "too_large")


def test_a_bomb_costs_no_more_than_the_bound(rig):
    """A GiB in a MiB: the loop is free meanwhile, and little is ever held of it."""
    machine = zlib.compressobj(9, wbits=31)
    bomb = b"".join(machine.compress(bytes(MIB)) for _ in range(1024)) + machine.flush()
    highest = 0
    with rig.wire() as wire, rig.wire() as other:
        wire.send(request(bomb, content_encoding="gzip"))
        end_s = time.monotonic() + 1.0
        while time.monotonic() < end_s and rig.on_loop(lambda: rig.plane.connections):
            other.send(get())
            assert other.answer().status == 200
            highest = max(highest, rig.on_loop(lambda: rig.plane.held_bytes))
            if rig.on_loop(lambda: rig.plane.held_bytes) == 0 and highest:
                break
        assert wire.answer().says == (413, "too_large")
    assert highest <= 5 * MIB + len(bomb)


def test_inflated_bytes_count_among_all_bodies():
    """429 where there is no room for what a body comes to."""
    with listening(limits={"body_bytes": 200_000}) as rig:
        data = gzip.compress(b" " * 400_000)
        assert rig.ask(request(data, content_encoding="gzip")).says == (429, "saturated")


def test_who_hangs_up_while_its_body_is_inflated_leaves_nothing_behind(rig):
    """The work ends with the step it is at."""
    for _ in range(5):
        with rig.wire() as wire:
            wire.send(request(gzip.compress(bytes(4 * MIB)), content_encoding="gzip"))
    until(lambda: rig.on_loop(lambda: rig.plane.held_bytes) == 0 and not rig.on_loop(lambda: rig.plane.connections))


ACCEPT = {
    "gzip": "gzip", "deflate": "deflate", "gzip, deflate": "gzip", "deflate, gzip": "gzip", "*": "gzip",
    "gzip;q=0.5, deflate;q=0.9": "deflate", "gzip;q=0, *": "deflate", "gzip; q=0": "", "GZip": "gzip", "x-gzip": "gzip",
    "br, zstd": "", "identity": "", "identity;q=0.5, gzip;q=0.4": "", "gzip;q=0, deflate;q=0.000": "", "*;q=0": "",
    "gzip;q=1.5": "", "gzip;q=x": "", "": "", ", ,": "", "gzip;level=1": "gzip", "identity;q=0": "",
}  # fmt: skip


@pytest.mark.parametrize("rows", [1, 30], ids=["on the loop", "in a thread"])
@pytest.mark.parametrize("accept", ACCEPT)
def test_an_answer_goes_in_the_coding_that_is_liked_best(rig, accept, rows):
    """And says that it depends on what was accepted; the content is the same."""
    answer = rig.ask(request(mlp(rows, 0.125000015), accept_encoding=accept))
    coding = ACCEPT[accept]
    assert (answer.headers.get("content-encoding", ""), answer.status) == (coding, 200)
    assert ("vary" in answer.headers) is bool(coding)
    body = {"gzip": gzip.decompress, "deflate": zlib.decompress, "": bytes}[coding](answer.body)
    assert json.loads(body)["outputs"][0]["data"] == [0.12500001] * 256 * rows


def test_an_answer_that_is_small_stays_as_it_is(rig):
    """Errors, health and small metadata too."""
    for data in (request(b"{", accept_encoding="gzip"), get(accept_encoding="gzip")):
        assert "content-encoding" not in rig.ask(data).headers


def test_answers_in_a_thread_keep_their_order(rig):
    """A large one first, small ones behind."""
    small = request(mlp(2), accept_encoding="gzip")
    with rig.wire() as wire:
        wire.send(request(mlp(32), accept_encoding="gzip") + get() + small + get())
        answers = [wire.answer() for _ in range(4)]
    assert [answer.headers.get("content-encoding") for answer in answers] == ["gzip", None, "gzip", None]
    assert [answers[1].body, answers[3].body] == [b"success\n"] * 2
