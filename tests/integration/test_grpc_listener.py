"""The gRPC listener itself: its bounds, how it leaves, TLS, and the port that several share."""

from __future__ import annotations

import asyncio
import gzip
import logging
import subprocess
from pathlib import Path

import grpc
import msgspec
import pytest
from grpc_rig import HTTP, Client, Rig, infer, listening, numbers, refused, until

from router.config.settings import GrpcSettings

Code = grpc.StatusCode


async def test_bounds(caplog):
    """A message over the limit is refused and recorded, also inflated; what is under way is bounded in bytes."""
    rig = Rig(msgspec.structs.replace(HTTP, max_body_bytes=100_000), body_bytes=300_000)
    async with listening(rig) as client:
        big = infer(id="i" * 200_000)
        async with refused(Code.RESOURCE_EXHAUSTED):
            await client("ModelInfer", big)
        assert len(gzip.compress(big.SerializeToString())) < 10_000
        async with refused(Code.RESOURCE_EXHAUSTED):
            await client("ModelInfer", big, compression=grpc.Compression.Gzip)
        assert [record.outcome for record in rig.records] == ["too_large"] * 2
        assert rig.plane.held_bytes == 0
        rig.hold = True
        wide = infer(id="i" * 120_000)
        calls = [client("ModelInfer", wide) for _ in range(2)]
        await until(lambda: len(rig.held) == 2)
        async with refused(Code.RESOURCE_EXHAUSTED, "as many bytes of requests as it may") as said:
            await client("ModelInfer", wide)
        assert said["retry-after"] == "1"
        for ticket in rig.held:
            ticket.answer()
        assert [numbers(await call) for call in calls] == [[1, 2], [1, 2]]
        assert rig.plane.held_bytes == 0
        rig.hold = False
        await client("ModelInfer", wide)
    assert not caplog.get_records("call") or all(r.levelno < logging.ERROR for r in caplog.get_records("call"))


async def test_leaving_loses_nothing():
    """What is under way is answered, streams end with their last answer, readiness and health say so from the start."""
    rig = Rig()
    rig.hold = True
    async with listening(rig) as client:
        call, stream = client("ModelInfer", infer(1)), client.stream()
        await stream.write(infer(2))
        await until(lambda: len(rig.held) == 2)
        leaving = asyncio.create_task(rig.listener.leave(0.2, 5.0))
        await until(lambda: rig.plane.leaving)
        assert not (await client("ServerReady")).ready
        await until(lambda: not rig.listener.is_open)
        for ticket in rig.held:
            ticket.answer()
        assert numbers(await call) == [1, 2]
        assert numbers((await stream.read()).infer_response) == [2, 2]
        assert await stream.code() is Code.UNAVAILABLE
        await asyncio.wait_for(leaving, 2.0)


async def test_no_call_is_lost_when_a_listener_leaves_under_load():
    """Clients that keep it saturated go on to the other listener of the port: every call is answered by one of them."""
    one, two = Rig(), Rig()
    _, port = await one.listener.open(GrpcSettings(True, "127.0.0.1", 0))
    answered = 0
    stop = asyncio.Event()

    async def ask() -> None:
        nonlocal answered
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            while not stop.is_set():
                assert numbers(await Client(channel)("ModelInfer", infer(), timeout=5)) == [1, 2]
                answered += 1

    clients = [asyncio.create_task(ask()) for _ in range(8)]
    await until(lambda: len(one.records) > 200)
    await two.listener.open(GrpcSettings(True, "127.0.0.1", port))
    await one.listener.leave(0.0, 5.0)
    await until(lambda: len(two.records) > 200)
    stop.set()
    await asyncio.gather(*clients)
    assert len(one.records) + len(two.records) == answered
    assert {record.outcome for record in one.records + two.records} == {"answered"}
    await two.listener.leave(0.0, 0.5)


async def test_a_drain_ends_in_its_time():
    """What does not end by then is cut off."""
    rig = Rig()
    rig.hold = True
    async with listening(rig) as client:
        call = client("ModelInfer", infer())
        await until(lambda: rig.held)
        await asyncio.wait_for(rig.listener.leave(0.0, 0.2), 2.0)
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    assert rig.ledger.held("cpu").requests == 0


def certify(key: Path, certificate: Path) -> None:
    """Write a pair of localhost's."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip


async def test_tls_takes_up_a_new_certificate(tmp_path, caplog):
    """The data listener's, whenever its files change; a pair that does not fit is told and leaves the old one."""
    key, certificate, other = tmp_path / "key.pem", tmp_path / "certificate.pem", tmp_path / "other.pem"
    certify(key, certificate)
    rig = Rig(msgspec.structs.replace(HTTP, certificate=str(certificate), key=str(key)))
    first = grpc.ssl_channel_credentials(certificate.read_bytes())
    async with listening(rig, first) as client:
        assert numbers(await client("ModelInfer", infer(3))) == [3, 2]
        address = client.address

        async def ask(credentials: grpc.ChannelCredentials) -> list[float]:
            options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.secure_channel(address, credentials, options) as channel:
                return numbers(await Client(channel)("ModelInfer", infer(4), timeout=5))

        certify(key, other)
        await until(lambda: "the old one stays in force" in caplog.text)
        assert await ask(first) == [4, 2]
        with caplog.at_level(logging.INFO, "pointsman.http"):
            other.replace(certificate)
            await until(lambda: "a new certificate is in force" in caplog.text)
        assert await ask(grpc.ssl_channel_credentials(certificate.read_bytes())) == [4, 2]
        async with refused(Code.UNAVAILABLE):
            await ask(first)
        assert numbers(await client("ModelInfer", infer(3))) == [3, 2]


async def test_two_listeners_share_a_port():
    """As the router replicas of one node do: the kernel spreads connections over them."""
    one, two = Rig(), Rig()
    _, port = await one.listener.open(GrpcSettings(True, "127.0.0.1", 0))
    await two.listener.open(GrpcSettings(True, "127.0.0.1", port))
    for _ in range(40):
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            assert numbers(await Client(channel)("ModelInfer", infer())) == [1, 2]
    assert one.records
    assert two.records
    assert len(one.records) + len(two.records) == 40
    for rig in (one, two):
        await rig.listener.leave(0.0, 0.5)
