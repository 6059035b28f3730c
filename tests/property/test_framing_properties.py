"""Frames under any split, any mixing and any bytes."""

from __future__ import annotations

import contextlib
import itertools
import struct

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from router.protocol.fragments import FRAGMENT, FragmentQueue, Fragments
from router.protocol.framing import FrameReader, LinkError, frame
from router.protocol.link import (
    FRAGMENT_BYTES,
    Answer,
    Answers,
    Cancel,
    Drain,
    Item,
    Load,
    ModelGrant,
    Ping,
    Pong,
    Submit,
    Taken,
    Tensor,
    Welcome,
)
from router.protocol.scatter import COPIED_BYTES, scattered

MAX_BYTES = 16 * FRAGMENT_BYTES

words = st.text(max_size=8)
counts = st.integers(0, 2**40)
sizes = st.one_of(
    st.integers(0, 300),
    st.sampled_from(
        [COPIED_BYTES, COPIED_BYTES + 1, 65535, 65536, FRAGMENT_BYTES - 40, FRAGMENT_BYTES, 2 * FRAGMENT_BYTES + 7]
    ),
)
tensors = st.builds(
    lambda name, size, fill: Tensor(name, "UINT8", [size], memoryview(bytes([fill]) * size)),
    words, sizes, st.integers(0, 255),
)  # fmt: skip
items = st.builds(
    Item, counts, words, words, counts, st.integers(0, 2), words, words, words, counts, st.lists(words, max_size=2),
    st.lists(tensors, max_size=2),
)  # fmt: skip
answers = st.builds(
    Answer, counts, words, words, st.booleans(), counts, counts, counts, counts, st.lists(tensors, max_size=2), words
)
loads = st.builds(Load, st.dictionaries(words, counts, max_size=2), st.booleans(), counts)
curves = st.lists(st.tuples(counts, st.floats(allow_nan=False)), max_size=3)
grants = st.builds(ModelGrant, words, words, counts, counts, counts, curves)
messages = st.one_of(
    st.builds(Welcome, counts, words, words, words, words, st.booleans(), st.lists(grants, max_size=2)),
    st.builds(Submit, st.lists(items, max_size=3), st.booleans()),
    st.builds(Cancel, st.lists(counts, max_size=3)),
    st.builds(Answers, counts, st.lists(answers, max_size=3), loads),
    st.just(Drain()),
    st.builds(Ping, counts),
    st.builds(Pong, counts),
    st.builds(Taken, counts),
)


def plain(message) -> tuple[str, bytes]:
    """A message as something that compares by value."""
    return type(message).__name__, msgspec.msgpack.encode(message)


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at these places, taken modulo its length."""
    at = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(at)]


@settings(max_examples=150, deadline=None)
@given(st.lists(messages, max_size=5), st.lists(st.integers(0, 2**20), max_size=12))
def test_any_split_of_the_stream_gives_the_same_messages(sent, cuts):
    """What TCP does to the bytes is never seen."""
    stream = FrameReader(MAX_BYTES, 4)
    data = b"".join(piece for message in sent for piece in frame(message))
    got = [message for piece in pieces_of(data, cuts) for message in stream.feed(piece)]
    assert [plain(message) for message in got] == [plain(message) for message in sent]


@settings(max_examples=100, deadline=None)
@given(st.lists(messages, min_size=1, max_size=5), st.data())
def test_frames_of_different_messages_mix_in_any_order(sent, data):
    """Each message comes once, whole, as long as its own frames stay in order."""
    waiting = [frame(message) for message in sent]
    stream, got = FrameReader(MAX_BYTES, 5), []
    while waiting:
        turn = data.draw(st.integers(0, len(waiting) - 1))
        got += stream.feed(waiting[turn].pop(0))
        waiting = [frames for frames in waiting if frames]
    assert sorted(map(plain, got)) == sorted(map(plain, sent))


@settings(max_examples=150, deadline=None)
@given(messages)
def test_scattered_parts_are_what_msgspec_would_have_written(message):
    """To the byte; and whatever is large in it is not copied."""
    parts = scattered(message)
    assert b"".join(parts) == msgspec.msgpack.encode(message)
    large = [tensor.data for tensor in tensors_of(message) if tensor.data.nbytes > COPIED_BYTES]
    assert [part.obj for part in parts if isinstance(part, memoryview)] == [data.obj for data in large]


def tensors_of(message) -> list[Tensor]:
    """Every tensor in it."""
    carriers = getattr(message, "items", getattr(message, "answers", []))
    return [tensor for carrier in carriers for tensor in carrier.tensors]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5 * FRAGMENT_BYTES)), max_size=6),
    st.integers(1, 3),
    st.data(),
)
def test_large_messages_come_whole_or_not_at_all(added, max_open, data):
    """In any order of adding, writing and dropping, with as many on their way as the peer takes and no more."""
    queue, stream = FragmentQueue(max_open), FrameReader(MAX_BYTES, max_open)
    waiting = [Submit([Item(n, "m", "", 0, p, "", "", "", 1, [], [Tensor("x", "U", [], memoryview(bytes(size)))])])
               for n, (p, size) in enumerate(added)]  # fmt: skip
    wanted = {message.items[0].id: plain(message) for message in waiting}
    here, got = set(), {}
    while queue or waiting:
        act = data.draw(st.sampled_from(["add", "write", "write", "write", "drop"]))
        if act == "add" and waiting:
            message = waiting.pop()
            queue.add(Fragments(message, MAX_BYTES, message.items[0].id))
            here.add(message.items[0].id)
        elif act == "write" and queue:
            for message in stream.feed(b"".join(queue.next())):
                got[message.items[0].id] = plain(message)
        elif act == "drop" and here:
            key = data.draw(st.sampled_from(sorted(here)))
            farewell = queue.drop(key)
            assert (farewell is None) == (key in got or key not in wanted)
            if farewell is not None:
                stream.feed(farewell)
                del wanted[key]
    assert got == wanted
    assert queue.nbytes == 0
    assert not stream.gathering


def survive(data: bytes, cuts: list[int]) -> None:
    """Feed any bytes; only LinkError may come of it, and no more is held than the bounds allow."""
    stream = FrameReader(10_000, 2)
    with contextlib.suppress(LinkError):
        for piece in pieces_of(data, cuts):
            stream.feed(piece)
            held = sum(message.arrived for message in stream._open.values()) + len(stream._body) + len(stream._head)
            assert held <= 3 * 10_000 + 10


cuts = st.lists(st.integers(0, 2**16), max_size=6)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=400), cuts)
def test_any_bytes_are_survived(data, cuts):
    """Nothing but LinkError."""
    survive(data, cuts)


@settings(max_examples=800, deadline=None)
@given(st.sampled_from([1, 2, 3, 4, 5, 6, 7]), st.binary(max_size=200), cuts)
def test_any_body_under_a_true_head_is_survived(kind, body, cuts):
    """The decoder sees every kind of nonsense."""
    survive(len(body).to_bytes(4, "little") + bytes([kind]) + body, cuts)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from([2, 2, 2, 6, 0, 99]),
            st.sampled_from([50, 3000, 20_000]),
            st.binary(max_size=50),
        ),
        max_size=8,
    ),
    st.integers(1, 400),
    cuts,
)
def test_any_order_of_fragments_is_survived(parts, times, cuts):
    """Unfinished, mixed, given up, endless: bounded and named."""
    data = b"".join(
        struct.pack("<IBIBI", 9 + len(piece * times), FRAGMENT, message_id, kind, size if kind else 0) + piece * times
        for message_id, kind, size, piece in parts
    )
    survive(data, cuts)


@settings(max_examples=400, deadline=None)
@given(messages, st.integers(0, 2**20), st.integers(0, 255), st.booleans())
def test_a_damaged_or_cut_frame_is_survived(message, at, value, cut):
    """One changed byte gives a message, an error or a wait: never a crash."""
    data = bytearray(b"".join(frame(message)))
    at %= len(data)
    if cut:
        del data[at:]
    else:
        data[at] = value
    with contextlib.suppress(LinkError):
        FrameReader(MAX_BYTES, 2).feed(bytes(data))
