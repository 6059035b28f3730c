"""A real data listener in a thread of its own, under uvloop, before a pool that echoes; and sockets to try it with."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.hostile.server import Echo, serve
from router.api.listener import Listener
from router.service.handler import Handler

KEY = "pm_0123456789abcdef0123456789abcdef"
INFER = "/v2/models/mlp/infer"
WAIT_S = 10.0
"""For what takes milliseconds: only a fault takes this long."""


def mlp(rows: int = 1, value: float = 0.5) -> bytes:
    """A request body."""
    tensor = {"name": "x", "shape": [rows, 256], "datatype": "FP32", "data": [value] * 256 * rows}
    return json.dumps({"inputs": [tensor]}).encode()


def head(path: str = INFER, method: str = "POST", key: str | None = KEY, version: str = "1.1", **headers: str) -> bytes:
    """A request line and headers; `a_b` among them is `a-b`."""
    lines = [f"{method} {path} HTTP/{version}", "host: router"]
    lines += [f"authorization: Bearer {key}"] if key else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def request(body: bytes | None = None, path: str = INFER, **more: Any) -> bytes:
    """A whole request with a content-length; by default a good one."""
    content = mlp() if body is None else body
    return head(path, content_length=str(len(content)), **more) + content


def get(path: str = "/-/healthz", **more: Any) -> bytes:
    """A request without a body."""
    return head(path, "GET", **more)


class Answer:
    """One answer, read strictly."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        """The body decoded."""
        return json.loads(self.body)

    @property
    def says(self) -> tuple[int, str]:
        """Status and reason."""
        return self.status, self.json["reason"] if self.status >= 400 else ""


class Wire:
    """One connection."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send every byte."""
        self.socket.sendall(data)

    def line(self) -> bytes:
        """The next line without its end; b"" also where the server has hung up."""
        return self._file.readline().rstrip(b"\r\n")

    def answer(self, to: str = "POST") -> Answer:
        """The next answer, `to` a request of this method. Raises ConnectionError where the server has hung up."""
        first = self.line().decode()
        if not first:
            raise ConnectionError("the server has hung up")
        headers: dict[str, str] = {}
        while line := self.line().decode("latin-1"):
            name, _, value = line.partition(": ")
            assert name not in headers
            headers[name] = value
        length = 0 if to == "HEAD" else int(headers["content-length"])
        return Answer(int(first.split()[1]), headers, self._file.read(length))

    def closed(self) -> bool:
        """Wait until the server hangs up; False if it says something instead."""
        try:
            return self._file.read(1) == b""
        except ConnectionError:
            return True


class Rig:
    """One listener."""

    listener: Listener
    handler: Handler
    echo: Echo
    port: int

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    def wire(self, context: ssl.SSLContext | None = None) -> Wire:
        """A new connection."""
        return Wire(self.port, context)

    def ask(self, data: bytes) -> Answer:
        """The first answer to these bytes on a connection of their own."""
        with self.wire() as wire:
            wire.send(data)
            return wire.answer()

    def on_loop(self, call: Callable[[], Any]) -> Any:
        """What this comes to on the listener's loop."""

        async def run() -> Any:
            return call()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(WAIT_S)

    def hold(self, held: bool = True) -> None:
        """Keep items back in the pool, or let them go."""

        def change() -> None:
            self.echo.hold = held
            if not held:
                self.echo.let_go()

        self.on_loop(change)

    @property
    def plane(self):
        """What the listener's connections share."""
        return self.listener._plane


@contextmanager
def listening(http: dict[str, Any] | None = None, limits: dict[str, Any] | None = None) -> Iterator[Rig]:
    """A listener with these settings of a fleet file, until the block ends; checks that nothing is held then."""
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    rig = Rig(loop)
    try:
        with tempfile.TemporaryDirectory() as folder:
            opened = serve(KEY, {"http": http or {}, "limits": limits or {}}, Path(folder))
            rig.listener, state, rig.echo, rig.port = asyncio.run_coroutine_threadsafe(opened, loop).result(WAIT_S)
            rig.handler = state.handler
            yield rig
            until(lambda: rig.on_loop(lambda: rig.handler.open_exchanges) == 0)
            until(lambda: rig.on_loop(lambda: rig.plane.held_bytes) == 0)
            assert set(rig.handler.under_way.values()) <= {0}
    finally:
        asyncio.run_coroutine_threadsafe(rig.listener.leave(0.0, 0.2), loop).result(WAIT_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def until(holds: Callable[[], object], timeout_s: float = WAIT_S) -> None:
    """Wait until `holds()` is true. Raises TimeoutError."""
    end_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > end_s:
            raise TimeoutError
        time.sleep(0.005)
