"""One bidirectional stream of inference requests. Owns what is under way on it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

from router.api.grpc_wire import details, headers_of
from router.protocol import oip_grpc
from router.service.exchange import Exchange
from router.service.reply import Reply

if TYPE_CHECKING:
    from router.api.grpc_servicer import Servicer

STREAM_REQUESTS = 128
"""Requests of one stream under way at once; what a client sends beyond that waits in its connection."""
TRANSIT_S = 0.02
"""A call's deadline passes at the client first, by the time it took to arrive here; what is cancelled with no more left
than this has met its deadline."""


class Asked:
    """One request of a stream."""

    __slots__ = ("_body", "_exchange", "_servicer", "answered", "message")

    def __init__(self, servicer: Servicer, headers: list[tuple[bytes, bytes]], body: bytes, context: Any) -> None:
        self.answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._servicer, self._body = servicer, body
        remaining_s = context.time_remaining()
        try:
            self._exchange, self.message = servicer.begin(headers, body, remaining_s, partial(settle, self.answered))
        except BaseException:
            servicer.end(body)
            raise

    def end(self) -> None:
        """It is answered."""
        self._servicer.end(self._body)

    def abandon(self, context: Any) -> None:
        """Its answer is of no use any more."""
        self.end()
        abandon(self._exchange, context)


class InferStream:
    """Requests run side by side; answers leave in the order of their requests, each with its request's id.

    One request's error is its answer and leaves the stream open.
    """

    def __init__(self, servicer: Servicer, context: Any) -> None:
        self._servicer = servicer
        self._context = context
        self._asked: asyncio.Queue[Asked | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(STREAM_REQUESTS)
        self._reader: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Until the client has sent its last request, or `stop_reading`, and all are answered."""
        self._reader = asyncio.get_running_loop().create_task(self._read())
        try:
            while (asked := await self._asked.get()) is not None:
                await self._answer(asked)
                self._room.release()
        finally:
            self._reader.cancel()
            while not self._asked.empty():
                if (left := self._asked.get_nowait()) is not None:
                    left.abandon(self._context)

    def stop_reading(self) -> None:
        """Take no more requests; those that were read are answered."""
        if self._reader is not None:
            self._reader.cancel()

    async def _answer(self, asked: Asked) -> None:
        try:
            reply = await asked.answered
            await self._context.write(_message(asked, reply))
        except BaseException:
            asked.abandon(self._context)
            raise
        asked.end()

    async def _read(self) -> None:
        context = self._context
        headers = headers_of(context)
        try:
            while True:
                # Before reading: what was read is never without a place, whenever reading is stopped.
                await self._room.acquire()
                if (body := await context.read()) is grpc.aio.EOF:
                    return
                self._asked.put_nowait(Asked(self._servicer, headers, body, context))
                # An id that the client gave is that of the first request; the others get one of their own.
                headers = [header for header in headers if header[0] != b"x-request-id"]
        except asyncio.CancelledError:
            pass
        finally:
            self._asked.put_nowait(None)


def settle(answered: asyncio.Future[Reply], reply: Reply) -> None:
    """Hand the reply to whoever still waits for it."""
    if not answered.done():
        answered.set_result(reply)


def abandon(exchange: Exchange | None, context: Any) -> None:
    """The call has ended without this reply. Where its deadline passed, the exchange's own ends it and is counted."""
    remaining_s = context.time_remaining()
    if exchange is not None and (remaining_s is None or remaining_s > TRANSIT_S):
        exchange.cancel()


def _message(asked: Asked, reply: Reply) -> bytes:
    if reply.error is not None:
        return oip_grpc.stream_error(asked.message, reply.error.reason, details(reply.error))
    return oip_grpc.stream_answer(b"".join((reply.body, *reply.more)))
