"""The data listener's protocol class in process: bytes in, bytes out, a dispatcher that answers with what it got.

No socket, no replica, no Ray; the loop, uvicorn's part, the handler, policy and metrics are the real ones.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httptools
import numpy as np
import yaml

from deployments.runtime import LoopTimers, router_state
from models.repository import load_store
from router.api.heads import RequestIds
from router.api.listener import Listener
from router.api.plane import DataPlane
from router.config.load import load
from router.policy.credentials import digest
from router.protocol.link import Answer, ModelGrant, Tensor
from router.protocol.problem import PROBLEMS
from router.service.clock import SystemClock
from router.telemetry.metrics import Metrics
from tests.fuzz.targets import pieces
from tests.fuzz.worker import ROOT

KEY = "pm_" + "5" * 32
MAX_BODY_BYTES = 2048
PAUSE_S = 100.0
"""Of the loop's time, several between two cases: every timer of the first has run by then."""
SHORT_S = 0.02
MAX_TURNS_PAUSED = 8
"""Turns of the loop, SHORT_S apart, that a client waits to be read again before it hangs up."""
MAX_STEPS = 200
"""Turns of the loop after which every request of an input has its answer, but for what threads do to it."""
MAX_THREAD_STEPS = 3
"""Milliseconds that threads have for it; whoever waits for the rest of a body waits them in vain."""
FLEET = {
    "pools": [{"name": "cpu", "accelerator": "x86-cpu", "region": "here", "models": ["mlp"],
               "backend": {"type": "onnx", "provider": "cpu"}}],
    "tenants": [{"id": "fuzz", "keys": [f"sha256:{digest(KEY)}"]}],
    "policies": [{"name": "all", "when": 'tenant.id == "fuzz"', "allow": "true"}],
    "server": {"http": {"max_body_bytes": MAX_BODY_BYTES}},
}  # fmt: skip
STATUSES = {200, 100, *(problem.status for problem in PROBLEMS.values())}


class Wire(asyncio.Transport):
    """Keeps what is written until it is closed, and then drops it, as uvloop's transport does."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written = bytearray()
        self.open = self.reading = True
        self._ended = False

    def write(self, data: Any) -> None:
        if self._ended and data:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self.open:
            self.written += data

    def writelines(self, parts: Any) -> None:
        self.write(b"".join(parts))

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return not self.open

    def close(self) -> None:
        self.open = False

    abort = close

    def can_write_eof(self) -> bool:
        return True

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_protocol(self) -> Any:
        return self.protocol

    def write_eof(self) -> None:
        self._ended = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Echo:
    """A dispatcher: every item is answered on the next turn of the loop, with rows of zeros."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.waiting = 0

    def send(self, pool: str, item: Any, nbytes: int, deadline_s: float, on_answer: Any, without: Any = ()) -> _Ticket:
        self.waiting += 1
        zeros = memoryview(np.zeros((item.rows, 256), "<f4")).cast("B")
        tensors = [Tensor("y", "FP32", [item.rows, 256], zeros)]
        answer = Answer(item.id, "", "", True, 1, 1, 1, item.rows, tensors, "1")
        ticket = _Ticket(self, lambda: on_answer(answer))
        self._loop.call_soon(ticket.answer)
        return ticket


class _Ticket:
    replica, waited_s = "r1", 0.0

    def __init__(self, echo: Echo, on_answer: Callable[[], None]) -> None:
        self._echo, self._on_answer = echo, on_answer
        self._done = False

    def answer(self) -> None:
        if not self._done:
            self.cancel()
            self._on_answer()

    def cancel(self) -> None:
        if not self._done:
            self._done = True
            self._echo.waiting -= 1


class Answers:
    """Reads what was written as a client does, strictly."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.whole = 0
        self._parser = httptools.HttpResponseParser(self)

    def on_headers_complete(self) -> None:
        self.statuses.append(self._parser.get_status_code())

    def on_message_complete(self) -> None:
        self.whole += 1

    def read(self, data: bytes) -> None:
        """Raises where these are not answers, or one breaks off."""
        if data:
            self._parser.feed_data(data)
        assert self.whole == len(self.statuses), "an answer breaks off"
        strange = set(self.statuses) - STATUSES
        assert not strange, f"statuses {strange}"
        assert 500 not in self.statuses, "internal error"


class HttpRig:
    """One listener; every case is a connection of its own."""

    def __init__(self) -> None:
        logging.disable(logging.INFO)
        self._loop = loop = asyncio.new_event_loop()
        self._now_s = 0.0
        loop.time = lambda: self._now_s  # type: ignore[method-assign]
        asyncio.set_event_loop(loop)
        loop.set_exception_handler(self._escaped)
        self._faults: list[object] = []
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        config = folder / "fleet.yaml"
        config.write_text(yaml.safe_dump(FLEET))
        settings, specs = load(config, None), load_store(ROOT / "build" / "models")
        self._settings = settings
        clock, metrics = SystemClock(), Metrics(folder / "metrics")
        self._state = router_state(settings, specs, LoopTimers(loop), clock, metrics)
        self._state.fleet.replica_up("cpu", "r1", [ModelGrant("mlp", "1", 32, 128, 1 << 26, [(1, 1e-4)])])
        self._echo = Echo(loop)
        self._state.handler.dispatcher = self._echo
        self._factory = loop.run_until_complete(self._protocol_factory())

    async def _protocol_factory(self) -> Callable[[], Any]:
        """What the listener would give its socket."""
        loop, taken = asyncio.get_running_loop(), []
        original = loop.create_server

        async def create_server(factory: Any, *_: Any, **options: Any) -> Any:
            taken.append(factory)
            return await original(factory, *_, **options)

        loop.create_server = create_server  # type: ignore[method-assign]
        server = self._settings.server.http
        self._plane = DataPlane(self._state.handler, RequestIds("fuzz"), server, MAX_BODY_BYTES * 4, "0")
        await self._open()
        return taken[0]

    async def _open(self) -> None:
        await Listener(self._plane).open("127.0.0.1", 0)

    def _escaped(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._faults.append(context.get("exception") or context["message"])

    def case(self, data: bytes) -> None:
        """One connection: the first byte says how many bytes come at a time (0: all), then the client hangs up."""
        if data:
            self._loop.run_until_complete(self._connection(data[0], data[1:]))
        if self._faults:
            raise AssertionError(f"escaped to the loop: {self._faults}")

    async def _connection(self, size: int, sent: bytes) -> None:
        wire, protocol = Wire(), self._factory()
        wire.set_protocol(protocol)
        protocol.connection_made(wire)
        for part in pieces(sent, size):
            for _ in range(MAX_TURNS_PAUSED):
                if wire.reading:
                    break
                self._now_s += SHORT_S
                await asyncio.sleep(0)
            if not wire.open or not wire.reading:
                break
            wire.protocol.data_received(part)
            await asyncio.sleep(0)
        for step in range(MAX_STEPS + MAX_THREAD_STEPS):
            if not self._busy(protocol):
                break
            await (asyncio.sleep(0) if step < MAX_STEPS else self._loop.run_in_executor(None, time.sleep, 1e-3))
        assert not self._echo.waiting, "an item was never answered"
        if b"HEAD" not in sent:  # the answer to it ends with its head, whatever length that tells
            Answers().read(bytes(wire.written))
        await self._gone(wire)

    async def _gone(self, wire: Wire) -> None:
        """The client hangs up: nothing of it is left once every timer has run."""
        wire.close()
        wire.protocol.connection_lost(None)
        for _ in range(4):
            self._now_s += PAUSE_S
            await asyncio.sleep(0)
        assert self._state.handler.open_exchanges == 0, "an exchange is still open"
        assert self._plane.held_bytes == 0, f"{self._plane.held_bytes} bytes of bodies are held for nobody"
        assert not self._plane.connections, "a connection that has gone is still known"

    def _busy(self, protocol: Any) -> bool:
        """Whether something is under way: a request whose body has not come is waited for by nobody."""
        return bool(self._echo.waiting or self._state.handler.open_exchanges or not protocol.is_idle())
