"""One HTTP/2 connection of a socket: reads and writes in turns, how long it may take, and how it ends.

router/protocol/h2.py knows the protocol; who opened this knows what its streams are for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from router.api.h2_answers import KeptAnswers
from router.api.plane import DataPlane, Gate, log
from router.core.errors import RequestError
from router.protocol.h2 import Http2
from router.protocol.h2_fields import Block
from router.protocol.h2_frames import (
    ENHANCE_YOUR_CALM,
    INTERNAL_ERROR,
    LAST_STREAM,
    NO_ERROR,
    PING,
    H2Error,
    frame,
    goaway,
)
from router.protocol.h2_sending import Stream
from router.service.head import Head

logging.getLogger("hpack").setLevel(logging.WARNING)  # below that it would log headers, and keys are among them

PING_S, PONG_S = 60.0, 20.0
"""A connection without a sign of life for PING_S is asked for one, and closed PONG_S later."""
FAREWELL_S = 1.0
"""How long a client that is told of the end may take to answer; calls that it sent meanwhile are served."""
MAX_UNREAD_BYTES = 1024 * 1024
"""Written and not yet taken by the client: beyond it nothing more is read of it."""
WRITE_BYTES = 256 * 1024
"""Written in one piece."""
_NOT_H2 = b"HTTP/1.1 505 HTTP Version Not Supported\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_ALIVE, _FAREWELL = b"pointsmn", b"farewell"

Opens = Callable[["H2Connection", Stream, Block], None]


class H2Connection(asyncio.Protocol):
    """One connection. `opens` is given each new stream, `turned_away` is called for one too many."""

    def __init__(
        self, gate: Gate[H2Connection], plane: DataPlane, opens: Opens, turned_away: Callable[[], None], streams: int
    ) -> None:
        self.core = Http2(self, streams)
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self._gate = gate
        self._opens, self._turned_away = opens, turned_away
        self._loop = asyncio.get_running_loop()
        self._feeding = self._flushing = self._reading_on = self._deaf = self._heard = False
        self._reading_paused = self._pinged = False
        self.answers = KeptAnswers(self.core, plane, gate.connections)
        self._farewell: asyncio.TimerHandle | None = None
        self._last_said = False
        self._seen: dict[str, tuple[object, float]] = {}
        self._checked_s = self._loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected; one too many is told so and nothing of it is read."""
        self.transport = transport
        self._gate.connections[self] = None
        if len(self._gate.connections) > self._gate.http.max_connections:
            self._gate.count_too_many()
            self.core.greet()
            self._end(ENHANCE_YOUR_CALM, "the router has as many connections as it may")

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone: so has its interest in what is under way."""
        self._forget()

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        self._heard = True
        if self._deaf:
            return
        core = self.core
        self._feeding = True
        try:
            core.feed(data)
        except H2Error as error:
            self._broken(error)
            return
        except Exception:
            log.exception("gRPC: internal error while reading a connection")
            self._end(INTERNAL_ERROR, "internal error")
            return
        finally:
            self._feeding = False
        if core.behind:
            self._pause_reading()
            if not self._reading_on:
                self._reading_on = True
                self._loop.call_soon(self._read_on)
        elif core.stopped and self.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self._pause_reading()
        if core.out or core.is_behind or core.peer_leaves:
            self._flush()

    def opened(self, stream: Stream, block: Block) -> None:
        """See ConnectionOwner."""
        self._opens(self, stream, block)

    def refused(self, block: Block) -> None:
        """See ConnectionOwner."""
        self._turned_away()

    def overdone(self) -> None:
        """See ConnectionOwner."""
        self.go_away()

    def ponged(self, payload: bytes) -> None:
        """See ConnectionOwner."""
        if self._farewell is not None and payload == _FAREWELL:
            self._say_last()

    def wake(self) -> None:
        """There may be something to write: at the end of this turn, with what else comes in it."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._woken)

    def wake_now(self) -> None:
        """An answer is whole: uvloop gathers what is written in one turn by itself."""
        if not self._feeding:
            self._flush()

    def go_away(self) -> None:
        """Tell the client to open its next calls elsewhere; what it has sent by the time it knows is served."""
        if not self.core.is_greeted:
            self.transport.close()
        elif self._farewell is None and not self._deaf:
            self.core.out += (goaway(LAST_STREAM, NO_ERROR), frame(PING, 0, 0, _FAREWELL))
            self._farewell = self._loop.call_later(FAREWELL_S, self._say_last)
            self.wake()

    def leave_if_done(self) -> None:
        """Hang up once all is answered and nothing is left to be written; what still comes costs no answer."""
        core = self.core
        if core.streams or core.out or self._deaf or not (self._last_said or core.peer_leaves):
            return
        if not self.transport.get_write_buffer_size():
            self._forget()
            self._gate.lingerers.take(self.transport)

    def abort(self) -> None:
        """End it now, whatever is under way."""
        self.transport.abort()
        self._forget()

    def check(self, now_s: float) -> None:
        """End what takes too long. Called now and then: how long a state has lasted is known to that grain."""
        core, http = self.core, self._gate.http
        if self._deaf or self.transport.is_closing():
            return
        core.tick(now_s - self._checked_s)
        self._checked_s = now_s
        if self._heard:
            self._heard = self._pinged = False
            self._seen.pop("silent", None)
        silent_s = self._lasts("silent", True, now_s)
        coming = core.coming if not self._reading_paused else ""
        limit_s = http.body_timeout_s if coming == "body" else http.head_timeout_s
        if self._lasts("unread", self.transport.get_write_buffer_size() or None, now_s) > http.body_timeout_s:
            self.abort()
        elif self._lasts("coming", core.progress if coming else None, now_s) > limit_s:
            self.transport.close() if not core.is_greeted else self._end(NO_ERROR, "a frame took too long")
        elif silent_s > PING_S + PONG_S and self._pinged:
            self.abort()
        elif silent_s > PING_S and not self._pinged:
            self._pinged = True
            core.out.append(frame(PING, 0, 0, _ALIVE))
            self.wake()
        elif self._lasts("idle", None if core.streams else core.last_id, now_s) > http.idle_timeout_s:
            self.go_away()
        for stream in list(core.streams.values()):
            stream.owner.check(now_s)
        self.leave_if_done()

    def pause_writing(self) -> None:
        """The client reads too slowly: answers wait in their streams."""
        self.core.stopped = True

    def resume_writing(self) -> None:
        """The client reads again."""
        self.core.stopped = False
        self.wake()
        if not self.core.behind:
            self._resume_reading()

    def _lasts(self, state: str, mark: object, now_s: float) -> float:
        """For how long `mark` has been the same; None: it is not in that state."""
        if mark is None:
            self._seen.pop(state, None)
            return 0.0
        seen = self._seen.get(state)
        if seen is None or seen[0] != mark:
            self._seen[state] = (mark, now_s)
            return 0.0
        return now_s - seen[1]

    def _read_on(self) -> None:
        self._reading_on = False
        self.data_received(b"")
        if not self.core.behind and not self.core.stopped:
            self._resume_reading()

    def _pause_reading(self) -> None:
        if not self._reading_paused and not self.transport.is_closing():
            self._reading_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused and not self._deaf and not self.transport.is_closing():
            self._reading_paused = False
            self.transport.resume_reading()

    def _woken(self) -> None:
        self._flushing = False
        self._flush()

    def _flush(self) -> None:
        core = self.core
        if self._deaf or self.transport.is_closing():
            core.out.clear()
            return
        core.pump(WRITE_BYTES)
        out = core.out
        if out:
            core.out = []
            if core.queued_bytes or self.answers.queued_bytes:
                self.transport.writelines(out)  # large: written from where it lies
            else:
                self.transport.write(b"".join(out))
        if core.queued_bytes != self.answers.queued_bytes:
            self.answers.count_queued()
        if core.is_behind:
            self.wake()
        else:
            self.leave_if_done()

    def _say_last(self) -> None:
        """The client has had its time: which streams are the last is now final."""
        if self._last_said or self._deaf:
            return
        self._last_said = True
        core = self.core
        core.closed_above = core.last_id
        core.out.append(goaway(core.last_id, NO_ERROR))
        self.wake()

    def _broken(self, error: H2Error) -> None:
        """The client does not speak HTTP/2, or abuses it."""
        gate = self._gate
        gate.handler.refused(Head("", "", gate.request_ids.new()), RequestError("malformed", f"HTTP/2: {error}"))
        if not self.core.is_greeted:
            self.core.out.clear()
            self.transport.write(_NOT_H2)
        self._end(error.code, str(error))

    def _end(self, code: int, words: str) -> None:
        """Say why, and close once the client has read it."""
        core, transport = self.core, self.transport
        if core.is_greeted or core.out:
            core.out.append(goaway(core.last_id, code, words))
            transport.writelines(core.out)
        self._forget()
        self._gate.lingerers.take(transport)

    def _forget(self) -> None:
        """Nothing more is to be said on this connection."""
        self._deaf = True
        self._gate.connections.pop(self, None)
        if self._farewell is not None:
            self._farewell.cancel()
        core = self.core
        for stream in list(core.streams.values()):
            owner = stream.owner
            try:
                core.forget(stream)
                owner.gone()
            except Exception:
                log.exception("gRPC: internal error while a call is given up")
        self.answers.count_queued()
        core.out = []
