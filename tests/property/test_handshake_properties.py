"""The handshake under any split and any damage."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.protocol.handshake import ClientHandshake, HandshakeError, ServerHandshake

nonces = st.binary(min_size=32, max_size=32)
keys = st.binary(min_size=16, max_size=64)


def feed(end, data: bytes, cuts: list[int]) -> tuple[bytes, bool, bytes]:
    """Feed `data` cut at these places; what comes after the end is left over."""
    at = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    sent, done, leftover = b"", False, b""
    for a, b in itertools.pairwise(at):
        if done:
            leftover += data[a:b]
            continue
        to_send, done, rest = end.receive(data[a:b])
        sent, leftover = sent + to_send, leftover + rest
    return sent, done, leftover


@given(keys, nonces, nonces, st.lists(st.integers(0, 100), max_size=5), st.binary(max_size=50))
def test_equal_keys_agree_under_any_split(key, nonce_c, nonce_s, cuts, following):
    """And what follows is handed back to the byte."""
    client, server = ClientHandshake(key, nonce_c), ServerHandshake(key, nonce_s)
    challenge, done, leftover = feed(server, client.start(), cuts)
    assert (done, leftover) == (False, b"")
    proof, done, leftover = feed(client, challenge, cuts)
    assert (done, leftover) == (True, b"")
    assert feed(server, proof + following, cuts) == (b"", True, following)


@given(keys, nonces, nonces, st.integers(0, 139), st.integers(1, 255))
def test_one_changed_byte_anywhere_is_refused(key, nonce_c, nonce_s, at, change):
    """Of the 140 bytes none is free to be altered on the way."""
    client, server = ClientHandshake(key, nonce_c), ServerHandshake(key, nonce_s)

    def altered(data: bytes, start: int) -> bytes:
        if not start <= at < start + len(data):
            return data
        place = at - start
        return data[:place] + bytes([data[place] ^ change]) + data[place + 1 :]

    def converse() -> None:
        challenge, _, _ = server.receive(altered(client.start(), 0))
        proof, _, _ = client.receive(altered(challenge, 38))
        server.receive(altered(proof, 108))

    with pytest.raises(HandshakeError):
        converse()
