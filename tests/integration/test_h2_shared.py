"""What the clients of a gRPC listener share: room for answers, the loop, connections. None takes it all."""

from __future__ import annotations

import asyncio
import ssl
import subprocess

import msgspec
import pytest
from grpc_rig import HTTP, Rig, until
from h2_rig import GREETING, PATH, Peer, call, connect, data, head, message, wire

from router.config.settings import GrpcSettings
from router.protocol import h2_control
from router.protocol import h2_frames as h2
from router.protocol.link import Answer, Tensor

STREAM = PATH.replace(b"ModelInfer", b"ModelStreamInfer")


@pytest.fixture
def few_idle_frames(monkeypatch):
    """A budget that a test can use up at once, and that no time refills."""
    monkeypatch.setattr(h2_control, "IDLE_FRAMES", 300)
    monkeypatch.setattr(h2_control, "IDLE_FRAMES_PER_S", 0)


async def test_resets_of_some_cost_others_on_their_connection_nothing(monkeypatch):
    """Behind a proxy that shares it: new calls are to be sent again, and far beyond the proxy is told to go."""
    monkeypatch.setattr(h2_control, "RESETS", 4)
    monkeypatch.setattr(h2_control, "RESETS_PER_S", 0)
    monkeypatch.setattr(h2_control, "FAR_RESETS", 6)
    rig = Rig()
    rig.hold = True
    async with wire(rig) as peer:
        peer.send(call(1), *(head(n) + h2.rst_stream(n, h2.CANCEL) for n in range(3, 13, 2)), call(13))
        refused = await peer.next(h2.RST_STREAM)
        assert (refused.stream, refused.code) == (13, h2.REFUSED_STREAM)
        assert not [one for one in rig.listener.gate.connections if one.core.closed_above is not None]
        peer.send(*(call(n) for n in range(15, 23, 2)))
        assert (await peer.next(h2.GOAWAY)).code == h2.NO_ERROR
        for ticket in rig.held:
            ticket.answer()
        assert (await peer.answer(1))[0]["grpc-status"] == "0"


@pytest.mark.parametrize("path", [PATH, STREAM])
async def test_answers_that_nobody_takes_are_given_up_before_others_are_refused(path):
    """Who keeps most of them loses them; also those that wait behind a slow first of their stream."""
    rig = Rig(body_bytes=100_000)
    rig.hold = True
    async with wire(rig, greet=False) as peer:
        peer.send(h2.PREFACE + h2.settings({h2.INITIAL_WINDOW_SIZE: 0}))
        if path == PATH:
            peer.send(*(call(n) for n in range(1, 9, 2)))
        else:
            peer.send(head(1, path=STREAM), data(1, message() * 4, False))
        await until(lambda: len(rig.held) == 4)
        small = await connect(rig.port)
        small.send(h2.PREFACE + h2.settings({h2.INITIAL_WINDOW_SIZE: 0}), call(1))
        await until(lambda: len(rig.held) == 5)
        rig.held[4].answer()
        for ticket in rig.held[1:4]:
            big = Tensor("y", "UINT8", [40_000], memoryview(bytes(40_000)))
            ticket.on_answer(Answer(ticket.item.id, "", "", True, 1, 1, 1, 1, [big], "1"))
        assert (await peer.next(h2.RST_STREAM)).code == h2.ENHANCE_YOUR_CALM
        assert rig.plane.held_bytes <= 100_000
        rig.hold = False
        other = await connect(rig.port)
        other.send(GREETING)
        await other.serves(1)
        small.send(h2.window_update(1, 1000))
        assert (await small.answer(1))[0]["grpc-status"] == "0"
        for one in (small, other):
            one.writer.close()
        await until(lambda: len(rig.listener.gate.connections) == 1)
    assert rig.plane.answer_bytes == 0


@pytest.mark.parametrize(("fields_", "ends"), [(30, False), (90, True)])
async def test_decoding_many_headers_again_and_again_is_paid_for(few_idle_frames, fields_, ends):
    """What a usual client sends costs nothing, also where no two calls have the same headers."""
    async with wire(Rig()) as peer:
        for number in range(1, 101, 2):
            many = ((b"x-%d" % n, b"%d" % number) for n in range(fields_))
            peer.send(head(number, *many, flags=5))
        if ends:
            assert await peer.goaway() == h2.ENHANCE_YOUR_CALM
        else:
            await peer.serves(101)


async def test_a_turn_decodes_no_more_than_it_may():
    """Blocks that were never seen count by their fields: the rest waits for the next turn."""
    rig = Rig()
    async with wire(rig) as peer:
        await peer.serves(1)
        core = next(iter(rig.listener.gate.connections)).core
        core.feed(b"".join(head(n, *((b"x-%d" % i, b"%d" % n) for i in range(25)), flags=5) for n in range(3, 203, 2)))
        assert core.behind
        assert core.last_id < 80
        core.feed(b"")
        while core.behind:
            core.feed(b"")
        assert core.last_id == 201


async def test_tls_takes_as_many_connections_as_it_may(tmp_path):
    """One whose handshake ends is counted once; handshakes that are under way end with the listener."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=localhost"], check=True, capture_output=True,
    )  # fmt: skip
    rig = Rig(msgspec.structs.replace(HTTP, max_connections=1, certificate=str(certificate), key=str(key)))
    _, port = await rig.listener.open(GrpcSettings(True, "127.0.0.1", 0))
    context = ssl.create_default_context(cafile=str(certificate))
    context.set_alpn_protocols(["h2"])
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost"))
    peer.send(GREETING)
    await peer.serves(1)
    peer.writer.close()
    await until(lambda: not rig.listener.gate.connections)
    mute = await connect(port)
    await until(lambda: rig.listener.gate.handshakes)
    await rig.listener.leave(0.0, 0.1)
    await until(lambda: not rig.listener.gate.handshakes)
    mute.writer.close()
