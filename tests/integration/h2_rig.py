"""A client of the gRPC listener that says exactly what it is told to in HTTP/2, and reads frame by frame."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import NamedTuple

from grpc_rig import KEY, Rig, infer
from hpack import Decoder

from router.api.grpc_servicer import SERVICE
from router.config.settings import GrpcSettings
from router.protocol import h2_frames as h2
from router.protocol.h2_frames import fields, frame

WAIT_S = 10.0
PATH = f"/{SERVICE}/ModelInfer".encode()
GREETING = h2.PREFACE + h2.settings({})


class Frame(NamedTuple):
    """One of the server's."""

    kind: int
    flags: int
    stream: int
    body: bytes

    @property
    def code(self) -> int:
        """Of RST_STREAM or GOAWAY."""
        return int.from_bytes(self.body[4:8] if self.kind == h2.GOAWAY else self.body, "big")


def block(*headers: tuple[bytes, bytes], path: bytes = PATH, key: bool = True) -> bytes:
    """The header block of a call."""
    given = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x")]
    given += [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
    if key:
        given += [(name.encode(), value.encode()) for name, value in KEY]
    return fields([*given, *headers])


def head(stream: int, *headers: tuple[bytes, bytes], flags: int = h2.END_HEADERS, **more) -> bytes:
    """HEADERS of a call whose message follows."""
    return frame(h2.HEADERS, flags, stream, block(*headers, **more))


def message(text: bytes | None = None) -> bytes:
    """One message with its length."""
    text = infer().SerializeToString() if text is None else text
    return b"\0" + len(text).to_bytes(4, "big") + text


def data(stream: int, body: bytes, ended: bool = True) -> bytes:
    """DATA."""
    return frame(h2.DATA, int(ended), stream, body)


def call(stream: int, text: bytes | None = None, **more) -> bytes:
    """All of a call."""
    return head(stream, **more) + data(stream, message(text))


class Peer:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.decoder = Decoder()

    def send(self, *frames: bytes) -> None:
        """Write them."""
        self.writer.write(b"".join(frames))

    async def frame(self) -> Frame | None:
        """The next frame, None where the server has hung up."""
        try:
            async with asyncio.timeout(WAIT_S):
                start = await self.reader.readexactly(h2.HEAD_BYTES)
                high, low, kind, flags, stream = h2.HEAD.unpack(start)
                return Frame(kind, flags, stream, await self.reader.readexactly(high << 16 | low))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def frames(self) -> list[Frame]:
        """All until the server hangs up."""
        seen = []
        while (one := await self.frame()) is not None:
            seen.append(one)
        return seen

    async def next(self, *kinds: int) -> Frame:
        """The next of these kinds; others are passed over."""
        last = None
        while (one := await self.frame()) is not None:
            if one.kind in kinds:
                return one
            last = one
        raise AssertionError(f"the server has hung up after {last}")

    async def answer(self, stream: int) -> tuple[dict[str, str], bytes]:
        """All headers and trailers of a stream, and its body."""
        said: dict[str, str] = {}
        body = b""
        while True:
            one = await self.next(h2.HEADERS, h2.DATA, h2.RST_STREAM)
            if one.kind == h2.HEADERS:
                fields = dict(self.decoder.decode(one.body))
                if one.stream == stream:
                    said |= fields
            elif one.kind == h2.DATA and one.stream == stream:
                body += one.body
            if one.stream == stream and (one.kind == h2.RST_STREAM or one.flags & h2.END_STREAM):
                assert one.kind != h2.RST_STREAM, one
                return said, body

    async def roundtrip(self) -> None:
        """All that was sent has been read."""
        self.send(frame(h2.PING, 0, 0, b"are read"))
        while (await self.next(h2.PING)).body != b"are read":
            pass

    async def serves(self, stream: int) -> None:
        """The connection is well: one more call is answered."""
        self.send(call(stream))
        assert (await self.answer(stream))[0]["grpc-status"] == "0"

    async def goaway(self) -> int:
        """The code with which the connection ends."""
        codes = [one.code for one in await self.frames() if one.kind == h2.GOAWAY]
        assert codes, "the server hung up without a word"
        return codes[-1]


@asynccontextmanager
async def wire(rig: Rig, greet: bool = True) -> AsyncIterator[Peer]:
    """A listener and one connection to it. Nothing is held once both have gone."""
    _, port = await rig.listener.open(GrpcSettings(True, "127.0.0.1", 0))
    rig.port = port
    peer = await connect(port)
    if greet:
        peer.send(GREETING)
    try:
        yield peer
    finally:
        peer.writer.close()
        for ticket in rig.held:
            ticket.answer()
        await rig.listener.leave(0.0, 0.1)
    assert rig.plane.held_bytes == 0
    assert rig.listener.servicer.calls == rig.listener.servicer.keyless == 0
    assert not rig.listener.gate.connections


async def connect(port: int) -> Peer:
    """One more connection, which has not said a word."""
    return Peer(*await asyncio.open_connection("127.0.0.1", port))


def split(payload: bytes, size: int) -> Iterable[bytes]:
    """In pieces."""
    return (payload[at : at + size] for at in range(0, len(payload), size))
