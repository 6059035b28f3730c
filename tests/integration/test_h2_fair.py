"""What a client of the gRPC listener may do for as long as it likes, and what others do that must not reach it."""

from __future__ import annotations

import asyncio
import gc
import traceback

import pytest
from grpc_rig import Rig, infer, until
from h2_rig import PATH, connect, data, head, message, wire

from router.api import grpc_servicer
from router.protocol import h2_control
from router.protocol import h2_frames as h2
from router.protocol.h2_frames import frame

STREAM = PATH.replace(b"ModelInfer", b"ModelStreamInfer")
LIVE = PATH.replace(b"ModelInfer", b"ServerLive")


@pytest.fixture
def few_idle_frames(monkeypatch):
    """A budget that a test can use up at once, and that no time refills."""
    monkeypatch.setattr(h2_control, "IDLE_FRAMES", 300)
    monkeypatch.setattr(h2_control, "IDLE_FRAMES_PER_S", 0)


async def test_small_messages_of_a_stream_are_no_abuse(few_idle_frames):
    """Nor are the windows that their answers need: each is paid for by a message or an answer."""
    rig = Rig()
    async with wire(rig) as peer:
        peer.send(head(1, path=STREAM))
        one = message(infer().SerializeToString())
        for number in range(600):
            peer.send(data(1, one, False))
            seen = await peer.next(h2.DATA, h2.GOAWAY)
            assert seen.kind == h2.DATA, (number, seen)
            peer.send(h2.window_update(1, len(seen.body)), h2.window_update(0, len(seen.body)))
    assert [record.outcome for record in rig.records] == ["answered"] * 600


async def test_windows_beyond_what_was_sent_are_counted(few_idle_frames):
    """Answers pay for two windows each, and no more."""
    async with wire(Rig()) as peer:
        for number in range(1, 41, 2):
            await peer.serves(number)
        peer.send(h2.window_update(0, 1000) * 400)
        assert await peer.goaway() == h2.ENHANCE_YOUR_CALM


async def test_a_refusal_that_is_given_again_keeps_nothing_of_the_last_call():
    """The headers are remembered, and with them what is wrong; not the errors that were raised for it."""
    rig = Rig()
    asked = []
    async with wire(rig) as peer:
        admit = rig.listener.servicer._admit
        rig.listener.servicer._admit = lambda *of: (asked.append(of[0]), admit(*of))
        for number in range(1, 41, 2):
            peer.send(head(number, (b"grpc-timeout", b"bogus"), flags=5))
            assert (await peer.answer(number))[0]["x-pointsman-reason"] == "malformed"
        assert asked[0] is asked[-1]
        gc.collect()
        kept = [e for e in gc.get_objects() if isinstance(e, Exception) and "grpc-timeout" in str(e)]
        assert sum(len(traceback.extract_tb(e.__traceback__)) for e in kept) < 10
