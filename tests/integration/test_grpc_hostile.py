"""What strangers and broken clients may do to the gRPC listener: nothing that stays."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc_rig import KEY, Rig, infer, listening, numbers, refused, until

from router.api import grpc_health, grpc_stream, grpc_wire
from router.api.grpc_health import HEALTH
from router.api.grpc_servicer import SERVICE
from router.config.settings import GrpcSettings
from router.protocol import oip_grpc
from router.protocol.proto import health_pb2

Code = grpc.StatusCode
FRAMING = (("content-length", "abc"), ("content-encoding", "zip"), ("inference-header-content-length", "x"))


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One of HTTP/2's."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def raw_call(headers: tuple[tuple[str, str], ...], message: bytes) -> bytes:
    """All that a client of ModelInfer sends, its headers spelled out."""
    given = ((":method", "POST"), (":scheme", "http"), (":path", f"/{SERVICE}/ModelInfer"), (":authority", "x"),
             ("content-type", "application/grpc"), ("te", "trailers"), *headers)  # fmt: skip
    block = b"".join(
        b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode() for name, value in given
    )
    data = b"\0" + len(message).to_bytes(4, "big") + message
    start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
    return start + frame(1, 0x4, 1, block) + frame(0, 0x1, 1, data)


@pytest.mark.parametrize("key", [(), KEY])
async def test_framing_headers_of_http_mean_nothing(key):
    """Whatever they hold, with a key or without: answered, and nothing is held afterwards."""
    rig = Rig()
    host, port = await rig.listener.open(GrpcSettings(True, "127.0.0.1", 0))
    for _ in range(3):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(raw_call((*key, *FRAMING), infer().SerializeToString()))
        async with asyncio.timeout(5):
            seen = b""
            while b"grpc-status" not in seen:
                more = await reader.read(65536)
                assert more
                seen += more
        writer.close()
    assert [record.outcome for record in rig.records] == ["answered" if key else "unauthenticated"] * 3
    assert rig.plane.held_bytes == 0
    await rig.listener.leave(0.0, 0.2)


@pytest.mark.parametrize("broken", ["read_head", "refused"])
async def test_a_fault_of_ours_holds_nothing(monkeypatch, broken):
    """It is an internal error in words; where even refusing fails, the bytes are given back all the same."""
    rig = Rig()

    def fail(*_):
        raise ValueError("a fault")

    monkeypatch.setattr(grpc_wire, "read_head", fail)
    if broken == "refused":
        monkeypatch.setattr(type(rig.handler), "refused", fail)
    async with listening(rig) as client:
        async with refused(Code.INTERNAL, "the router's log has the details" if broken == "read_head" else ""):
            await client("ModelInfer", infer())
        assert rig.plane.held_bytes == 0
        assert rig.listener.servicer.calls == 0


@pytest.mark.parametrize("broken", ["decode", "refused"])
async def test_a_fault_with_a_message_holds_nothing(monkeypatch, broken):
    """Of a call and of a stream, once the message is there."""
    rig = Rig()

    def fail(*_):
        raise ValueError("a fault")

    monkeypatch.setattr(oip_grpc, "decode", fail)
    if broken == "refused":
        monkeypatch.setattr(type(rig.handler), "refused", fail)
    async with listening(rig) as client:
        async with refused(Code.INTERNAL):
            await client("ModelInfer", infer())
        stream = client.stream()
        await stream.write(infer())
        if broken == "refused":
            assert await stream.code() is Code.INTERNAL
        else:
            assert "internal error" in (await stream.read()).error_message
        stream.cancel()
        await until(lambda: not rig.listener.servicer.calls)
    assert rig.plane.held_bytes == 0


def watching(client):
    """A watch of the server's health."""
    ask = health_pb2.HealthCheckRequest.SerializeToString
    watch = client.channel.unary_stream(f"/{HEALTH}/Watch", ask, health_pb2.HealthCheckResponse.FromString)
    return watch(health_pb2.HealthCheckRequest())


async def test_watches_are_few(monkeypatch):
    """One too many is refused; one that goes makes room."""
    monkeypatch.setattr(grpc_health, "WATCHERS", 2)
    async with listening(Rig()) as client:
        watches = [watching(client) for _ in range(2)]
        for watch in watches:
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert await watching(client).code() is Code.RESOURCE_EXHAUSTED
        watches[0].cancel()
        async with asyncio.timeout(5):
            while (await (again := watching(client)).read()) is grpc.aio.EOF:
                await asyncio.sleep(0.01)
        again.cancel()


async def test_a_watch_ends(monkeypatch):
    """With the status that makes clients come again, and is counted no more."""
    monkeypatch.setattr(grpc_health, "WATCH_LIFE_S", 0.1)
    monkeypatch.setattr(grpc_health, "WATCHERS", 1)
    async with listening(Rig()) as client:
        for _ in range(2):
            watch = watching(client)
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            assert await asyncio.wait_for(watch.code(), 5) is Code.UNAVAILABLE
            assert "watch anew" in await watch.details()


async def test_a_stream_that_leaves_answers_all_that_it_has_read(monkeypatch):
    """Also where the client sent more than may be under way."""
    monkeypatch.setattr(grpc_stream, "STREAM_REQUESTS", 2)
    rig = Rig()
    rig.hold = True
    async with listening(rig) as client:
        stream = client.stream()
        for number in range(1, 7):
            await stream.write(infer(number))
        await until(lambda: len(rig.held) >= 2)
        await asyncio.sleep(0.1)
        leaving = asyncio.create_task(rig.listener.leave(0.0, 5.0))
        await until(lambda: not rig.listener.is_open)
        await asyncio.sleep(0.05)
        for ticket in rig.held:
            ticket.answer()
        answers = [await stream.read() for _ in rig.held]
        assert [numbers(answer.infer_response)[0] for answer in answers] == list(range(1, len(rig.held) + 1))
        assert await stream.code() is Code.UNAVAILABLE
        await asyncio.wait_for(leaving, 2.0)
    assert {record.outcome for record in rig.records} == {"answered"}
    assert rig.plane.held_bytes == 0
