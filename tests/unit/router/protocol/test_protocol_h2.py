"""The core of an HTTP/2 connection: bytes in, calls out, without a socket and without a clock."""

from __future__ import annotations

import pytest

from router.protocol import h2_frames as h2
from router.protocol.h2 import OPEN_COST, TURN_COST, Http2
from router.protocol.h2_control import IDLE_FRAMES, IDLE_FRAMES_PER_S
from router.protocol.h2_frames import H2Error, fields, frame
from router.protocol.h2_sending import STREAM_WINDOW

BLOCK = fields([(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a")])
GREETING = h2.PREFACE + h2.settings({})


class Owner:
    """Of the connection and of its streams: keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[object] = []
        self.closes = 0
        self.streams = []

    def opened(self, stream, block) -> None:
        stream.owner = self
        self.streams.append(stream)
        self.said.append(("opened", stream.id))

    def refused(self, block) -> None:
        self.said.append("refused")

    def ponged(self, payload) -> None:
        self.said.append(("ponged", payload))

    def data(self, part, ended) -> None:
        self.said.append((bytes(part), ended))

    def gone(self) -> None:
        self.said.append("gone")

    def sent(self) -> None:
        self.said.append("sent")

    def closed(self) -> None:
        self.closes += 1

    def check(self, now_s) -> None:
        self.said.append("checked")


def greeted(streams: int = 1000) -> tuple[Http2, Owner]:
    """A connection, and what it tells."""
    owner = Owner()
    core = Http2(owner, streams)
    core.feed(GREETING)
    core.out.clear()
    return core, owner


def head(stream: int, flags: int = h2.END_HEADERS) -> bytes:
    """A request whose body follows."""
    return frame(h2.HEADERS, flags, stream, BLOCK)


def test_any_pieces_say_the_same():
    """Byte by byte or at once."""
    sent = head(1) + frame(h2.DATA, 0, 1, b"abc") + frame(h2.PING, h2.ACK, 0, bytes(8)) + frame(h2.DATA, 1, 1, b"d")
    expected = [("opened", 1), (b"abc", False), ("ponged", bytes(8)), (b"d", True)]
    for size in (1, 2, 9, 10, 1000):
        owner = Owner()
        core = Http2(owner, 10)
        whole = GREETING + sent
        for at in range(0, len(whole), size):
            core.feed(whole[at : at + size])
        assert owner.said == expected
        assert core.coming == ""


def test_what_is_coming_is_known():
    """Which time it may take depends on it."""
    core = Http2(Owner(), 10)
    assert core.coming == "head"
    core.feed(GREETING)
    assert core.coming == ""
    core.feed(head(1)[:4])
    assert core.coming == "head"
    core.feed(head(1)[4:])
    core.feed(frame(h2.DATA, 0, 1, b"abc")[:10])
    assert core.coming == "body"
    before = core.progress
    core.feed(frame(h2.DATA, 0, 1, b"abc")[10:])
    assert core.progress > before
    core.feed(head(3, flags=0))
    assert core.coming == "head"


def test_a_turn_reads_so_much():
    """The rest waits for the next; nothing is lost between."""
    core, owner = greeted()
    per_turn = TURN_COST // OPEN_COST
    core.feed(b"".join(head(number) for number in range(1, 4 * per_turn, 2)))
    assert core.behind
    assert len(owner.said) == per_turn
    core.feed(b"")
    assert not core.behind
    assert len(owner.said) == 2 * per_turn


def test_a_stream_that_is_paused_is_given_nothing_back():
    """A client that goes on all the same breaks the window; one that waits is let in again."""
    for goes_on in (True, False):
        core, owner = greeted()
        core.feed(head(1))
        owner.streams[0].paused = True
        part = bytes(16_384)
        for _ in range(STREAM_WINDOW // len(part)):
            core.feed(frame(h2.DATA, 0, 1, part))
        assert core.out == []
        if goes_on:
            core.feed(frame(h2.DATA, 0, 1, b"x"))
            assert core.out == [h2.rst_stream(1, h2.FLOW_CONTROL_ERROR)]
            assert owner.said[-1] == "gone"
        else:
            owner.streams[0].paused = False
            core.give_back(owner.streams[0])
            assert core.out == [h2.window_update(1, STREAM_WINDOW)]


def test_time_gives_patience_back():
    """So many frames that bring nothing further, and so many more a second."""
    ping = frame(h2.PING, 0, 0, bytes(8))
    core, _ = greeted()
    for _ in range(3):
        core.feed(ping * IDLE_FRAMES_PER_S)
        core.tick(1.0)
    for _ in range(IDLE_FRAMES // 1000 - 1):
        core.feed(ping * 1000)
    with pytest.raises(H2Error, match="nothing further"):
        core.feed(ping * 1001)


def test_real_work_gives_patience_back():
    """A client that opens windows for what it is sent is never sent away."""
    core, owner = greeted()
    core.feed(head(1, h2.END_HEADERS | h2.END_STREAM) + h2.settings({h2.INITIAL_WINDOW_SIZE: 0}))
    core.start(owner.streams[0], BLOCK)
    core.send(owner.streams[0], (bytes(3 * IDLE_FRAMES * 256),), 3 * IDLE_FRAMES * 256)
    for _ in range(2 * IDLE_FRAMES):
        core.feed(h2.window_update(1, 256) + h2.window_update(0, 256))
        core.pump(1 << 20)
        core.out.clear()


def test_answers_take_turns():
    """Two large ones share what the client takes, frame by frame."""
    core, owner = greeted()
    core.feed(h2.window_update(0, 1 << 20) + head(1, 5) + head(3, 5))
    for stream in list(owner.streams):
        core.answer(stream, b"", (bytes(40_000),), 40_000, b"")
    assert core.queued_bytes == 80_000
    core.out.clear()
    core.pump(1 << 20)
    kinds = [(part[3], int.from_bytes(part[5:9], "big")) for part in core.out if len(part) in (9, 10)]
    assert [stream for kind, stream in kinds if kind == h2.DATA][:4] == [1, 3, 1, 3]
    assert core.queued_bytes == 0
    assert not core.streams


def test_nothing_is_sent_while_the_socket_takes_nothing():
    """It stays in its stream, counted."""
    core, owner = greeted()
    core.feed(head(1, 5))
    core.stopped = True
    core.answer(owner.streams[0], b"", (b"body",), 4, b"")
    core.pump(1 << 20)
    assert core.queued_bytes == 4
    assert not core.is_behind
    core.stopped = False
    assert core.is_behind
    core.pump(1 << 20)
    assert core.queued_bytes == 0


def test_streams_that_end_early_are_forgotten_in_time():
    """What is still on its way on them is passed over; how many are remembered is bounded."""
    core, owner = greeted(streams=4)
    for number in range(1, 101, 2):
        core.feed(head(number))
        core.finish(owner.streams[-1], b"")
        core.feed(frame(h2.DATA, 0, number, b"late"))
    assert len(core.early) <= 8
    assert all(stream.owner is not owner for stream in owner.streams)
    assert owner.closes == 50
