"""Headers of an inference request that say how its body is encoded."""

from __future__ import annotations

import pytest

from router.api.heads import BadHead, RequestIds, read_head
from router.protocol.oip import JSON, OipCodec

NAME = b"inference-header-content-length"


def head(*headers):
    """The head of a request with these headers."""
    return read_head(("m", ""), list(headers), RequestIds("t"))


def test_the_length_of_the_json_says_that_binary_data_may_follow():
    """Without it the whole body is JSON; a connection's next request has the same codec."""
    assert head().codec is JSON
    for value, length in ((b"0", 0), (b"17", 17), (b"007", 7), (b"9" * 18, 10**18 - 1)):
        assert head((NAME, value)).codec == OipCodec(length)
        assert head((NAME, value)).renewed("r2").codec == OipCodec(length)


@pytest.mark.parametrize(
    "value", [b"", b"-1", b"+1", b"1.0", b"1e3", b"0x10", b"1_0", b"1 0", b"\xb2", b"9" * 19, b"9" * 5000]
)
def test_a_length_that_is_no_whole_number_is_refused(value):
    """In words that name the header."""
    with pytest.raises(BadHead, match="inference-header-content-length: bytes of JSON") as caught:
        head((NAME, value))
    assert caught.value.reason == "malformed"


def test_two_lengths_are_refused():
    """Even where both say the same."""
    with pytest.raises(BadHead, match="is given twice"):
        head((NAME, b"5"), (NAME, b"5"))
