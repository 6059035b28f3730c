"""Requests that are not inference on their way through the ASGI application, each with its whole body and reply."""

from __future__ import annotations

import asyncio
import re
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

from router.api.cycle import HttpCycle
from router.api.plane import log
from router.core.errors import RouterError
from router.protocol.codec import Body
from router.service.reply import Reply

MAX_BODY_BYTES = 64 * 1024
_UNSAFE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_OURS = frozenset({b"content-length", b"transfer-encoding", b"connection"})

Message = MutableMapping[str, Any]


class AppCycle(HttpCycle):
    """One request for the application."""

    __slots__ = ("headers", "method", "needs_key", "target")

    def ask(self, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """What is asked: set before it starts. `target` is path and query."""
        self.method = method
        self.target = target
        self.headers = headers
        self.bodiless = method == b"HEAD"

    def run(self, body: Body) -> None:
        """See HttpCycle.run."""
        self.go_on(self._ask(bytes(body)))

    async def _ask(self, body: bytes) -> None:
        status, head, parts = 0, b"", []
        told = False

        async def receive() -> Message:
            nonlocal told
            if told:
                await asyncio.get_running_loop().create_future()  # ends with the task, when the client goes
            told = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status, head
            if message["type"] == "http.response.start":
                status, head = message["status"], _lines(message["headers"])
            else:
                parts.append(message.get("body", b""))

        try:
            await self.protocol.plane.app(self._scope(), receive, send)
        except Exception:
            # Starlette has made its reply to what the endpoint raised, and raises it again.
            log.exception("request %s: internal error", self.head.request_id)
        if not status:
            raise RouterError("internal", "internal error; the router's log has the details")
        self.reply(Reply(status, head, b"".join(parts)))

    def _scope(self) -> Message:
        path, _, query = self.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self.method.decode(),
            "scheme": "http",
            "path": unquote_to_bytes(path).decode(errors="replace"),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": self.headers,
            "client": self.protocol.transport.get_extra_info("peername"),
            "server": self.protocol.transport.get_extra_info("sockname"),
            "state": {},
        }


def _lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Header lines of a reply, but for those that the connection writes."""
    lines = []
    for name, value in headers:
        if _UNSAFE.search(name) or _UNSAFE.search(value):
            raise ValueError(f"the header {name!r} holds a control character")
        if name.lower() not in _OURS:
            lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines)
