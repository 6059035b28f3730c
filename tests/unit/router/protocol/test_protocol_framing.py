"""Frames carry messages whole, mixed and bounded; anything else closes the connection."""

from __future__ import annotations

import struct
import tracemalloc

import msgspec
import pytest

from router.protocol.fragments import ABANDONED, FRAGMENT, Fragments
from router.protocol.framing import EARNED_BYTES, FrameReader, LinkError, frame
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

MIB = 1 << 20


def submit(nbytes: int, item_id: int = 1) -> Submit:
    """A Submit with one item of so many bytes of tensor data."""
    data = memoryview(bytes(i % 251 for i in range(256)) * (nbytes // 256 + 1))[:nbytes]
    item = Item(item_id, "mlp", "1", 50_000, 0, "t", "v1", "r-1", 1, [], [Tensor("x", "UINT8", [1, nbytes], data)])
    return Submit([item])


def reader(max_message_bytes: int = 4 * MIB, max_open_fragments: int = 4) -> FrameReader:
    """A reader with small bounds."""
    return FrameReader(max_message_bytes, max_open_fragments)


def raw(kind: int, body: bytes) -> bytes:
    """A frame by hand."""
    return struct.pack("<IB", len(body), kind) + body


def fragment(message_id: int, kind: int, piece: bytes, size: int | None = None) -> bytes:
    """A fragment by hand, by default all of its message."""
    return raw(FRAGMENT, struct.pack("<IBI", message_id, kind, len(piece) if size is None else size) + piece)


def trickle(stream: FrameReader, data: bytes) -> list:
    """Feed three bytes at a time."""
    return [message for at in range(0, len(data), 3) for message in stream.feed(data[at : at + 3])]


MESSAGES = [
    Welcome(1, "cpu", "r#1", "x86-cpu", "CPUExecutionProvider", False, [ModelGrant("m", "1", 8, 64, MIB, [(1, 0.5)])]),
    submit(100),
    Cancel([1, 2, 3]),
    Answers(2, [Answer(1, "", "", True, 1, 2, 3, 4, [Tensor("y", "FP32", [1], memoryview(bytes(4)))])],
            Load({"m": 3}, False, 0)),
    Drain(),
    Ping(7),
    Pong(7),
    Taken(MIB),
]  # fmt: skip


def same(one, other) -> bool:
    """Equal as values, tensor data included."""
    return msgspec.msgpack.encode(one) == msgspec.msgpack.encode(other) and type(one) is type(other)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_comes_back_as_it_went(message):
    """One frame each, whose kind is the tag."""
    (sent,) = frame(message)
    (got,) = reader().feed(sent)
    assert same(got, message)
    assert sent[4] == type(message).__struct_config__.tag


def test_many_frames_in_one_read_come_in_order():
    """A read may hold any number of frames."""
    got = reader().feed(b"".join(piece for message in MESSAGES for piece in frame(message)))
    assert [type(message) for message in got] == [type(message) for message in MESSAGES]


def test_a_whole_frame_is_not_copied():
    """Tensor data are views of the very bytes that were read, and cannot be written."""
    (sent,) = frame(submit(1000))
    (got,) = reader().feed(sent)
    data = got.items[0].tensors[0].data
    assert data.obj is sent
    assert data.readonly


def test_views_stay_valid_while_the_stream_goes_on():
    """What comes later never changes what was handed out, whether it was split or not."""
    stream = reader()
    (first,) = frame(submit(5000))
    stream.feed(first[:100])
    (got,) = stream.feed(first[100:])
    before = bytes(got.items[0].tensors[0].data)
    for _ in range(3):
        (other,) = frame(Submit([Item(2, "m", "1", 1, 0, "t", "v", "r", 1, [], [
            Tensor("x", "UINT8", [5000], memoryview(b"\xee" * 5000))])]))  # fmt: skip
        stream.feed(other[:2000])
        stream.feed(other[2000:])
    assert bytes(got.items[0].tensors[0].data) == before == bytes(submit(5000).items[0].tensors[0].data)
    assert got.items[0].tensors[0].data.readonly


def test_a_long_message_travels_in_fragments_of_bounded_size():
    """No frame is longer than a fragment, so a small one waits for at most that."""
    pieces = frame(submit(MIB))
    assert len(pieces) == 5
    assert max(map(len, pieces)) <= FRAGMENT_BYTES + 14
    stream = reader()
    assert [stream.feed(piece) for piece in pieces[:-1]] == [[], [], [], []]
    (got,) = stream.feed(pieces[-1])
    assert same(got, submit(MIB))


def test_a_body_of_just_a_fragment_travels_whole():
    """The bound is inclusive at both ends."""
    overhead = len(msgspec.msgpack.encode(submit(FRAGMENT_BYTES - 100))) - (FRAGMENT_BYTES - 100)
    whole = submit(FRAGMENT_BYTES - overhead)
    assert len(frame(whole)) == 1
    assert same(reader().feed(frame(whole)[0])[0], whole)
    assert len(frame(submit(FRAGMENT_BYTES - overhead + 1))) == 2


def test_fragments_of_several_messages_and_whole_frames_mix():
    """Long messages interleave with each other and with short ones, without the sender numbering them."""
    long_a, long_b = frame(submit(MIB, 1)), frame(submit(MIB, 2))
    stream, got = reader(), []
    for a, b in zip(long_a, long_b, strict=True):
        got += stream.feed(a) + stream.feed(frame(Ping(9))[0]) + stream.feed(b)
    assert [type(message) for message in got] == [Ping] * 4 + [Submit, Ping, Submit]
    assert same(got[4], submit(MIB, 1))
    assert same(got[6], submit(MIB, 2))


def test_a_message_id_may_be_chosen_and_reused_once_done():
    """The id is free again after the last fragment."""
    stream = reader()
    for _ in range(3):
        sent = Fragments(submit(MIB), 4 * MIB, message_id=7)
        got = []
        while sent.left_bytes:
            assert not got
            got = stream.feed(b"".join(sent.next()))
        assert len(got) == 1


@pytest.mark.parametrize("step", [1000, 100_000, FRAGMENT_BYTES])
def test_fragments_may_be_read_to_where_they_stay(step):
    """What a socket writes there is never copied again; heads and small messages are fed in between."""
    data = memoryview(frame(Ping(1))[0] + b"".join(frame(submit(3 * MIB))) + frame(Ping(2))[0])
    stream, got, at, straight = reader(), [], 0, 0
    while at < len(data):
        space = stream.space()
        if space is None:
            n = min(16, len(data) - at)
            got += stream.feed(bytes(data[at : at + n]))
        else:
            n = min(step, len(space), len(data) - at)
            space[:n] = data[at : at + n]
            straight += n
            got += stream.wrote(n)
        at += n
    assert same(got[1], submit(3 * MIB))
    assert [type(message) for message in got] == [Ping, Submit, Ping]
    assert straight > 0.99 * 3 * MIB
    assert got[1].items[0].tensors[0].data.readonly
    assert not stream.gathering


def test_what_is_given_up_is_forgotten():
    """Its memory is free, its id too, and the rest of the stream is as it was."""
    stream, sent = reader(max_open_fragments=1), Fragments(submit(MIB), 4 * MIB, message_id=7)
    stream.feed(b"".join(sent.next()))
    assert stream.gathering
    assert stream.feed(sent.abandon() + frame(Ping(1))[0])
    assert not stream.gathering
    again = Fragments(submit(MIB), 4 * MIB, message_id=7)
    got = []
    while again.left_bytes:
        got = stream.feed(b"".join(again.next()))
    assert same(got[0], submit(MIB))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (raw(0, b"\x91\x00"), "unknown frame kind 0"),
        (raw(99, b"\x91\x06"), "unknown frame kind 99"),
        (raw(6, b""), "a whole frame of 0 bytes"),
        (struct.pack("<IB", FRAGMENT_BYTES + 1, 6), "a whole frame of 262145 bytes"),
        (struct.pack("<IB", 0xFFFF_FFFF, 2), "a whole frame of 4294967295 bytes"),
        (raw(FRAGMENT, b"\0\0\0\0\x06\0\0\0\x01"), "a fragment of 0 bytes"),
        (struct.pack("<IBIBI", 3, FRAGMENT, 0, 6, 9), "a fragment of -6 bytes"),
        (struct.pack("<IBIBI", FRAGMENT_BYTES + 10, FRAGMENT, 0, 6, 1 << 20), "a fragment of 262145 bytes"),
        (fragment(1, 77, b"x"), "unknown kind 77"),
        (fragment(1, FRAGMENT, b"x"), "unknown kind 255"),
        (fragment(1, ABANDONED, b"", 0), "given up that was not begun"),
        (fragment(1, 6, b"x", 2) + fragment(1, ABANDONED, b"", 2), "given up that was not begun"),
        (fragment(1, 6, b"xy", 1), "a fragment of 2 bytes that does not fit"),
        (fragment(1, 6, b"x", 9) + fragment(1, 6, b"x", 8), "a fragment of 1 bytes that does not fit"),
        (fragment(1, 6, b"x", 9) + fragment(1, 7, b"x", 9), "a fragment of 1 bytes that does not fit"),
        (fragment(1, 6, b"x", 9) + fragment(1, 6, b"123456789", 9), "a fragment of 9 bytes that does not fit"),
        (fragment(1, 6, b"x"), "not a message of kind 6"),
        (raw(6, b"\x92\x07\x01"), "not a message of kind 6"),
        (raw(6, b"\x92\x06\xa1x"), "not a message of kind 6"),
        (raw(6, b"\x92\x06\x01trailing"), "not a message of kind 6"),
        (raw(1, b"\x98\x01\x01\xa1\xff\xa1b\xa1c\xa1d\xc3\x90"), "not a message of kind 1"),
        (raw(2, b"\x92\x02\xdd\xff\xff\xff\xff"), "not a message of kind 2"),
        (raw(5, b"\x92\x05" + b"\x91" * 200_000), "not a message of kind 5"),
        (raw(3, b"\x80\x04\x95)builtins.eval"), "not a message of kind 3"),
    ],
)
def test_what_is_not_the_protocol_is_a_link_error(data, words):
    """Each fault is named, is found however the bytes are split, and ends the stream for good."""
    with pytest.raises(LinkError, match=words):
        reader().feed(data)
    stream = reader()
    with pytest.raises(LinkError, match=words):
        trickle(stream, data)
    with pytest.raises(LinkError, match="broken already"):
        stream.feed(frame(Ping(1))[0])


def test_a_message_may_not_outgrow_its_bound():
    """Neither in fragments, where the first one tells, nor, where the bound is small, in one frame."""
    stream = reader(max_message_bytes=2 * FRAGMENT_BYTES)
    with pytest.raises(LinkError, match="a message of 524289 bytes, more than 524288"):
        stream.feed(fragment(1, 2, b"x", 2 * FRAGMENT_BYTES + 1))
    with pytest.raises(LinkError, match="whole frame of 2000 bytes"):
        reader(max_message_bytes=1000).feed(struct.pack("<IB", 2000, 2))


def test_open_fragmented_messages_are_bounded():
    """A peer that begins messages and never ends them is cut off."""
    stream = reader(max_open_fragments=3)
    for message_id in range(3):
        stream.feed(fragment(message_id, 2, b"x", 100))
    stream.feed(fragment(0, 2, b"more of one that is open", 100))
    with pytest.raises(LinkError, match="more than 3 messages"):
        stream.feed(fragment(3, 2, b"x", 100))


def test_a_claimed_size_reserves_nothing():
    """Memory follows what arrived, not what a header promises."""
    tracemalloc.start()
    try:
        streams = [reader(64 * MIB) for _ in range(50)]
        for stream in streams:
            stream.feed(struct.pack("<IB", FRAGMENT_BYTES, 2) + b"\x92\x02\xdd\x7f\xff\xff\xff")
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


def test_a_large_message_earns_its_room():
    """A size that is only claimed reserves EARNED_BYTES; once those have come, the rest is worth reserving."""
    tracemalloc.start()
    try:
        stream, piece = reader(64 * MIB), bytes(FRAGMENT_BYTES)
        stream.feed(fragment(1, 2, piece, 64 * MIB))
        assert tracemalloc.get_traced_memory()[0] < EARNED_BYTES + MIB
        for _ in range(EARNED_BYTES // FRAGMENT_BYTES):
            stream.feed(fragment(1, 2, piece, 64 * MIB))
        assert 64 * MIB <= tracemalloc.get_traced_memory()[0] < 66 * MIB
    finally:
        tracemalloc.stop()
