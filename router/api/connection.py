"""One connection and the requests on it, in their order: whose turn it is, how it ends, how long it may take.

Parses nothing; http.py does. A request is served once it is whole and all before it on its connection are answered;
what a client pipelines waits in a line of bounded length.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from router.api.cycle import HttpCycle, InferCycle
from router.api.heads import Framing
from router.api.plane import DataPlane
from router.core.errors import RequestError, RouterError
from router.service.head import Head

MAX_LINE = 16
"""Requests that wait behind the one under way before their connection is read no further."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HEAD: Any = object()
"""Stands for a request whose head has begun to come."""


class Connection(asyncio.Protocol):
    """One connection of the data listener."""

    def __init__(self, plane: DataPlane) -> None:
        self.plane = plane
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.deaf = False
        """Nothing more is read as HTTP."""
        self.receiving: HttpCycle | None = None
        """The request that is coming: HEAD until its headers are whole. None between requests."""
        self.serving: HttpCycle | None = None
        """The first of those not yet answered; it may still be coming."""
        self.line: deque[HttpCycle] = deque()
        """Those behind it, at most MAX_LINE and what was parsed at once with the last."""
        self.progress = 0
        """Changes with every request, and whenever the client was kept waiting or did not read."""
        self.writing_paused = False
        self.reading_paused = False
        self._turning = False
        self._seen: tuple[str, int] = ("", 0)
        self._seen_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected; one too many is told so and nothing of it is read."""
        plane = self.plane
        self.transport = transport
        plane.connections[self] = None
        if len(plane.connections) > plane.http.max_connections:
            self.refuse(plane.too_many())

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone: so has its interest in what is under way."""
        self.plane.connections.pop(self, None)
        self._forget()

    def read_on(self) -> None:
        """Parse what has not been, as far as the line takes it; then `resume_reading`."""
        raise NotImplementedError

    def take(self, cycle: HttpCycle) -> None:
        """A request joins the line."""
        if self.serving is None and not self.line:
            self.serving = cycle
            return
        self.line.append(cycle)
        if len(self.line) >= MAX_LINE:
            self.pause_reading()

    def say_continue(self, cycle: HttpCycle) -> None:
        """Where the client waits for it, and no other answer is owed before."""
        if cycle.framing.expects and cycle is self.serving and not cycle.body:
            self.transport.write(_CONTINUE)

    def after_reply(self) -> None:
        """The next request of the line has its turn; many may end at once, one after the other."""
        self.serving = None
        if self._turning:
            return  # who gives the turns goes on, and only then is more read: it would pass those in the line
        self._turning = True
        try:
            self._take_turns()
        finally:
            self._turning = False
        if self.reading_paused:
            self.read_on()

    def _take_turns(self) -> None:
        while self.line and self.serving is None:
            cycle = self.serving = self.line.popleft()
            if cycle.refusal is not None:
                cycle.fail(cycle.refusal)
            elif cycle.more_body:
                self.say_continue(cycle)
            else:
                cycle.start()

    def refuse(self, error: RouterError, cycle: HttpCycle | None = None) -> None:
        """Answer in its turn a request that is not read to its end; the connection closes behind that answer.

        The request is `cycle`, which is in no line yet; by default it is what is coming now, whatever that is.
        """
        if self.deaf or self.transport.is_closing():
            return
        self.deaf = True
        coming, self.receiving = self.receiving, None
        if cycle is None and isinstance(coming, HttpCycle):
            cycle = coming
        else:
            cycle = cycle or InferCycle(self, Head("", "", self.plane.request_ids.new()), Framing(), False)
            self.take(cycle)
        cycle.refusal = error
        cycle.framing = Framing()
        if cycle is self.serving:
            cycle.fail(error)
        else:
            self.pause_reading()

    def hang_up(self, *, linger: bool) -> None:
        """The last reply of this connection has been written. `linger`: more may come, which nobody reads.

        It counts until the client has read that reply, or the time for it is over.
        """
        self._forget()
        if linger:
            self.plane.connections.pop(self, None)
            self.plane.lingerers.take(self.transport)
        else:
            self.transport.close()

    def shutdown(self) -> None:
        """The listener is closing: so does this, at once or behind what is under way."""
        if self.serving is None:
            self.transport.close()
        else:
            (self.line[-1] if self.line else self.serving).keep_alive = False

    def is_idle(self) -> bool:
        """No request is under way, not even a part of one."""
        return self.serving is None and self.receiving is None

    def check(self, now_s: float) -> None:
        """End what takes too long. Called now and then: how long a state has lasted is known to that grain.

        Nothing is timed per request. A client that was kept waiting by us, or reads again, starts anew.
        """
        state = self._state()
        if self._seen != (state, self.progress):
            self._seen, self._seen_s = (state, self.progress), now_s
            return
        age_s, http = now_s - self._seen_s, self.plane.http
        if state == "reading" and age_s > http.body_timeout_s:
            self.transport.abort()  # it would not read a word from us either
        elif state == "head" and age_s > http.head_timeout_s:
            self.refuse(RequestError("request_timeout", f"the headers took more than {http.head_timeout_s:g} s"))
        elif state == "body" and age_s > http.body_timeout_s:
            self.refuse(RequestError("request_timeout", f"the body took more than {http.body_timeout_s:g} s"))
        elif state == "idle" and age_s > http.idle_timeout_s:
            self.transport.close()

    def _state(self) -> str:
        """What the client is at: reading its answers, sending a head or a body, nothing, or waiting for us."""
        if self.writing_paused or self.transport.is_closing():
            return "reading"
        if self.receiving is None:
            return "idle" if self.serving is None else "waiting"
        if self.reading_paused:
            return "waiting"
        return "head" if self.receiving is HEAD else "body"

    def pause_writing(self) -> None:
        """The client reads too slowly: take no more requests of it, or its answers would pile up here."""
        self.writing_paused = True
        self.progress += 1
        self.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        self.writing_paused = False
        self.progress += 1
        if not self.transport.is_closing():
            self.read_on()

    def pause_reading(self) -> None:
        """Take nothing more from the socket."""
        if not self.reading_paused and not self.transport.is_closing():
            self.reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Take more from the socket, unless there is a reason not to."""
        if self.reading_paused and not (self.deaf or self.writing_paused or len(self.line) >= MAX_LINE):
            self.reading_paused = False
            self.progress += 1
            self.transport.resume_reading()

    def _forget(self) -> None:
        """Nothing more is to be said on this connection."""
        self.deaf, self.receiving = True, None
        waiting = [*self.line]
        self.line.clear()
        if self.serving is not None:
            waiting.append(self.serving)
            self.serving = None
        for cycle in waiting:
            cycle.drop()
