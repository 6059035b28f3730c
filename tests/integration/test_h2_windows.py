"""Flow control of the gRPC listener, both ways."""

from __future__ import annotations

import msgspec
from grpc_rig import HTTP, Rig, infer
from h2_rig import call, data, head, message, split, wire

from router.protocol import h2_frames as h2
from router.protocol.h2_frames import frame, settings
from router.protocol.h2_sending import STREAM_WINDOW


def setting(key: int, value: int) -> bytes:
    """SETTINGS of one."""
    return settings({key: value})


async def test_windows_of_the_client_are_kept():
    """Not a byte more than it lets us send, on the stream or in all; what is given later is used."""
    async with wire(Rig(), greet=False) as peer:
        peer.send(h2.PREFACE + setting(h2.INITIAL_WINDOW_SIZE, 10) + call(1))
        assert len((await peer.next(h2.DATA)).body) == 10
        peer.send(h2.window_update(1, 7), frame(h2.PING, 0, 0, bytes(8)))
        assert len((await peer.next(h2.DATA)).body) == 7
        peer.send(setting(h2.INITIAL_WINDOW_SIZE, 15), frame(h2.PING, 0, 0, bytes(8)))
        assert len((await peer.next(h2.DATA)).body) == 5
        peer.send(setting(h2.INITIAL_WINDOW_SIZE, 1), h2.window_update(1, 13), frame(h2.PING, 0, 0, b"nothing!"))
        while (one := await peer.next(h2.PING, h2.DATA)).body != b"nothing!":
            assert one.kind == h2.PING
        peer.send(h2.window_update(1, 100_000))
        assert (await peer.answer(1))[0]["grpc-status"] == "0"


async def test_the_window_of_the_connection_is_shared():
    """Two large answers get 65,535 bytes between them, then what they are given."""
    text = infer(id="i" * 60_000).SerializeToString()
    async with wire(Rig()) as peer:
        peer.send(call(1, text), call(3, text))
        got = ended = 0
        while ended < 2:
            one = await peer.next(h2.DATA, h2.HEADERS)
            ended += one.flags & h2.END_STREAM
            got += len(one.body) if one.kind == h2.DATA else 0
            if one.kind == h2.DATA and got == 65_535:
                peer.send(frame(h2.PING, 0, 0, b"no more!"))
                assert (await peer.next(h2.DATA, h2.PING)).body == b"no more!"
                peer.send(h2.window_update(0, 1 << 20))
        assert got > 120_000


async def test_a_large_message_is_let_in():
    """Windows are given back while it comes."""
    text = infer(id="i" * (2 * STREAM_WINDOW)).SerializeToString()
    async with wire(Rig(msgspec.structs.replace(HTTP, max_body_bytes=1 << 23), 1 << 24)) as peer:
        peer.send(h2.window_update(0, 1 << 24), setting(h2.INITIAL_WINDOW_SIZE, 1 << 24), head(1))
        room = STREAM_WINDOW
        for part in split(message(text), 16_384):
            while room < len(part):
                one = await peer.next(h2.WINDOW_UPDATE)
                room += one.code if one.stream == 1 else 0
            room -= len(part)
            peer.send(data(1, part, ended=False))
        peer.send(data(1, b""))
        assert (await peer.answer(1))[0]["grpc-status"] == "0"
