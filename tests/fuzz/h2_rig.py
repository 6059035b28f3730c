"""The gRPC listener's connection class in process: frames in, frames out, read as strictly as a client may."""

from __future__ import annotations

import asyncio
from typing import Any

from hpack import Decoder

from router.api.grpc_listener import GrpcListener
from router.config.settings import GrpcSettings
from router.protocol import h2_frames as h2
from tests.fuzz.http_rig import MAX_STEPS, MAX_TURNS_PAUSED, SHORT_S, HttpRig, Wire
from tests.fuzz.targets import pieces

GREETING = h2.PREFACE + h2.settings({})


class Replies:
    """What the server wrote, frame by frame. Raises where it is not HTTP/2, or not gRPC."""

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._open: set[int] = set()
        self._ended: set[int] = set()

    def read(self, data: bytes) -> None:
        """All of it."""
        at = 0
        while at < len(data):
            high, low, kind, flags, stream = h2.HEAD.unpack_from(data, at)
            length = high << 16 | low
            at += h2.HEAD_BYTES + length
            assert at <= len(data), "a frame breaks off"
            self._frame(kind, flags, stream, data[at - length : at])

    def _frame(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind == h2.HEADERS:
            assert stream not in self._ended, "an answer after its end"
            said = dict(self._decoder.decode(body))
            assert (stream in self._open) != (":status" in said), "an answer without its head, or with two"
            assert "internal error" not in said.get("grpc-message", "")
            self._open.add(stream)
        elif kind == h2.DATA:
            assert stream in self._open - self._ended, "data outside of an answer"
        else:
            assert kind in (h2.SETTINGS, h2.RST_STREAM, h2.PING, h2.GOAWAY, h2.WINDOW_UPDATE)
            if kind == h2.GOAWAY:
                assert int.from_bytes(body[4:8], "big") != h2.INTERNAL_ERROR
        if kind in (h2.HEADERS, h2.DATA) and flags & h2.END_STREAM:
            self._ended.add(stream)


class H2Rig(HttpRig):
    """One listener; every case is a connection of its own."""

    async def _open(self) -> None:
        self._listener = GrpcListener(self._plane)
        await self._listener.open(GrpcSettings(True, "127.0.0.1", 0))

    def case(self, data: bytes) -> None:
        """The first byte says how many bytes come at a time (0: all), the second whether the client greets first."""
        if len(data) > 1:
            super().case(bytes((data[0],)) + (GREETING if data[1] else b"") + data[2:])

    async def _connection(self, size: int, sent: bytes) -> None:
        wire, protocol = Wire(), self._factory()
        wire.set_protocol(protocol)
        protocol.connection_made(wire)
        for part in pieces(sent, size):
            for _ in range(MAX_TURNS_PAUSED):
                if wire.reading:
                    break
                await asyncio.sleep(0)
            if not wire.open or not wire.reading:
                break
            wire.protocol.data_received(part)
            await asyncio.sleep(0)
        await self._settle(protocol)
        written = bytes(wire.written)
        if not written.startswith(b"HTTP/1.1 505"):
            Replies().read(written)
        await self._gone(wire)
        servicer = self._listener.servicer
        assert servicer.calls == servicer.keyless == self._plane.answer_bytes == 0, "a call is still counted"
        assert not self._listener.servicer.streams, "a stream is still open"
        assert not self._listener.gate.connections, "a connection that has gone is still known"

    async def _settle(self, protocol: Any) -> None:
        """Until all that can be answered is; time passes, so that what does not come is given up."""
        for step in range(MAX_STEPS):
            if not self._echo.waiting and not protocol.core.out and step > 8:
                break
            await asyncio.sleep(0)
        self._now_s += SHORT_S
        protocol.check(self._now_s)
        await asyncio.sleep(0)
        assert not self._echo.waiting, "an item was never answered"
