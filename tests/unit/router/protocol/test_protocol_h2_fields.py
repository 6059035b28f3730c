"""Header blocks: what they may cost, and that what is remembered of them is still true."""

from __future__ import annotations

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from router.protocol import h2_frames as h2
from router.protocol.h2_fields import MAX_BLOCK_FIELDS, MAX_KNOWN, FieldReader, walk
from router.protocol.h2_frames import H2Error, fields, integer

NAMES = st.sampled_from([b"a", b"b", b"x-request-id", b"grpc-timeout", b"authorization"])
HEADERS = st.lists(st.tuples(NAMES, st.binary(max_size=200).map(lambda raw: raw.hex().encode())), max_size=12)


@given(st.lists(st.tuples(HEADERS, st.booleans()), max_size=8))
def test_blocks_of_any_client_are_read_as_it_meant_them(blocks):
    """Huffman or not, indexed or not, repeated or not: remembered blocks never mean what they meant before."""
    encoder, reader = Encoder(), FieldReader()
    for headers, huffman in [*blocks, *blocks]:
        block = encoder.encode(headers, huffman=huffman)
        assert reader.read(block).rest == headers
        assert walk(block)[0] >= len(headers)


@given(HEADERS)
def test_what_we_write_changes_no_table(headers):
    """And is read back."""
    block = fields(headers)
    assert walk(block) == (len(headers), False)
    assert FieldReader().read(block).rest == headers


def test_a_known_block_is_decoded_once():
    """Until the table changes; few are kept."""
    reader = FieldReader()
    block = fields([(b"a", b"b")])
    first = reader.read(block)
    assert reader.read(block) is first
    reader.read(b"\x40\x01c\x01d")
    assert reader.read(block) is not first
    again = reader.read(block)
    for number in range(MAX_KNOWN):
        reader.read(fields([(b"n", b"%d" % number)]))
    assert reader.read(block) is not again


@pytest.mark.parametrize(
    "block",
    [b"\xff" * 10, b"\x00", b"\x00\x05ab", b"\x00\x01a\x7f", b"\x3f\xff\xff\xff\xff\xff\x01", b"\x80", b"\x88\x20",
     b"\x00\x81\x00\x00"],
)  # fmt: skip
def test_what_cannot_be_decoded_ends_the_connection(block):
    """Cut short, numbers too long, index 0, a resize that comes late, a code that ends wrong."""
    with pytest.raises(H2Error) as raised:
        FieldReader().read(block)
    assert raised.value.code == h2.COMPRESSION_ERROR


def test_a_block_of_too_many_fields_is_not_decoded():
    """Its fields are counted before."""
    with pytest.raises(H2Error) as raised:
        FieldReader().read(b"\x83" * (MAX_BLOCK_FIELDS + 1))
    assert raised.value.code == h2.ENHANCE_YOUR_CALM


@given(st.integers(0, 1 << 20), st.integers(4, 7))
def test_integers_are_written_as_they_are_read(number, bits):
    """In a literal's length, or an index."""
    from hpack.hpack import decode_integer

    assert decode_integer(integer(number, bits), bits)[0] == number
