"""Both ends prove the key, and no shortcut does."""

from __future__ import annotations

import pytest

from router.protocol.handshake import ClientHandshake, HandshakeError, ServerHandshake

KEY = b"k" * 32
NONCE_C = bytes(range(32))
NONCE_S = bytes(range(100, 132))


def ends(client_key=KEY, server_key=KEY, client_version=1, server_version=1):
    """A client and a server that have not spoken."""
    return ClientHandshake(client_key, NONCE_C, client_version), ServerHandshake(server_key, NONCE_S, server_version)


def converse(client, server):
    """Carry the bytes to and fro; returns all of them, in order."""
    assert server.start() == b""
    hello = client.start()
    challenge, done, rest = server.receive(hello)
    assert (done, rest) == (False, b"")
    proof, done, rest = client.receive(challenge)
    assert (done, rest) == (True, b"")
    assert server.receive(proof) == (b"", True, b"")
    return hello, challenge, proof


def test_two_ends_with_one_key_agree_in_140_bytes():
    """Far below the KiB that may be read before the peer is proven."""
    assert sum(map(len, converse(*ends()))) == 140


def test_the_key_and_the_macs_differ_by_role():
    """Neither end sends the key, and the two proofs are not the same bytes."""
    hello, challenge, proof = converse(*ends())
    assert KEY not in hello + challenge + proof
    assert challenge[-32:] != proof


def test_bytes_may_arrive_one_by_one():
    """TCP splits where it likes."""
    client, server = ends()

    def trickle(end, data):
        sent, done = b"", False
        for at in range(len(data)):
            to_send, done, rest = end.receive(data[at : at + 1])
            sent += to_send
            assert rest == b""
            assert done is False or at == len(data) - 1
        return sent, done

    challenge, done = trickle(server, client.start())
    assert not done
    proof, done = trickle(client, challenge)
    assert done
    assert trickle(server, proof) == (b"", True)


def test_what_follows_the_proof_is_handed_back():
    """The first frames may share a segment with the proof."""
    client, server = ends()
    challenge, _, _ = server.receive(client.start())
    proof, _, leftover = client.receive(challenge + b"welcome")
    assert leftover == b"welcome"
    assert server.receive(proof + b"first frame") == (b"", True, b"first frame")


def test_a_client_with_another_key_is_refused():
    """The server proved itself with its own key, so the client notices first."""
    client, server = ends(client_key=b"x" * 32)
    challenge, _, _ = server.receive(client.start())
    with pytest.raises(HandshakeError, match="did not prove"):
        client.receive(challenge)


def test_a_proof_made_with_another_key_is_refused():
    """A client that skips the check of the server is still found out."""
    client, server = ends()
    _, impostor_server = ends(server_key=b"x" * 32)
    impostor = ClientHandshake(b"x" * 32, NONCE_C)
    server.receive(client.start())
    proof, _, _ = impostor.receive(impostor_server.receive(impostor.start())[0])
    with pytest.raises(HandshakeError, match="did not prove"):
        server.receive(proof)


def test_a_servers_own_proof_sent_back_is_refused():
    """Reflection: the role is signed, so what a server signs never passes for a client's proof."""
    client, server = ends()
    challenge, _, _ = server.receive(client.start())
    with pytest.raises(HandshakeError, match="did not prove"):
        server.receive(challenge[-32:])


def test_a_clients_proof_never_passes_for_a_servers():
    """Reflection the other way: a false server answers with what a client with the same nonces would sign."""
    client, server = ends()
    challenge, _, _ = server.receive(client.start())
    proof, _, _ = client.receive(challenge)
    victim = ClientHandshake(KEY, NONCE_C)
    with pytest.raises(HandshakeError, match="did not prove"):
        victim.receive(challenge[:-32] + proof)


def test_a_recorded_conversation_is_of_no_use_against_a_new_nonce():
    """Replay: each end signs the other's fresh nonce."""
    hello, challenge, proof = converse(*ends())
    server = ServerHandshake(KEY, b"n" * 32)
    server.receive(hello)
    with pytest.raises(HandshakeError, match="did not prove"):
        server.receive(proof)
    with pytest.raises(HandshakeError, match="did not prove"):
        ClientHandshake(KEY, b"m" * 32).receive(challenge)


def test_versions_must_be_equal_and_are_named():
    """Both ends say which version they met."""
    client, server = ends(client_version=2)
    with pytest.raises(HandshakeError, match=r"version 2.*version 1"):
        server.receive(client.start())
    old_server = ServerHandshake(KEY, NONCE_S, 1)
    challenge, _, _ = old_server.receive(ClientHandshake(KEY, NONCE_C, 1).start())
    with pytest.raises(HandshakeError, match=r"version 1.*version 2"):
        ClientHandshake(KEY, NONCE_C, 2).receive(challenge)


def test_a_rewritten_version_does_not_pass():
    """The version is signed too: nobody in between can talk two ends down to an older one."""
    client, server = ends(client_version=2, server_version=1)
    hello = client.start().replace(b"PTSM\x02\x00", b"PTSM\x01\x00")
    challenge, _, _ = server.receive(hello)
    with pytest.raises(HandshakeError, match="did not prove"):
        client.receive(challenge.replace(b"PTSM\x01\x00", b"PTSM\x02\x00"))


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\nHost: pool.example\r\n\r\n", bytes(38), b"\xff" * 1_000_000])
def test_another_protocol_is_refused_at_once(garbage):
    """However much it sends, no more than one message of it is looked at."""
    _, server = ends()
    with pytest.raises(HandshakeError, match="does not speak"):
        server.receive(garbage)


def test_a_truncated_message_never_finishes():
    """One byte short is not done, and nothing is answered."""
    client, server = ends()
    hello = client.start()
    assert server.receive(hello[:-1]) == (b"", False, b"")
    challenge, _, _ = server.receive(hello[-1:])
    assert client.receive(challenge[:-1]) == (b"", False, b"")


def test_nothing_is_received_after_the_end_or_after_a_fault():
    """A finished or failed handshake cannot be talked round."""
    client, server = ends()
    converse(client, server)
    for end in (client, server):
        with pytest.raises(HandshakeError, match="over"):
            end.receive(b"more")
    _, server = ends()
    with pytest.raises(HandshakeError, match="does not speak"):
        server.receive(bytes(38))
    with pytest.raises(HandshakeError, match="over"):
        server.receive(client.start())


@pytest.mark.parametrize("end", [ClientHandshake, ServerHandshake])
def test_a_short_key_or_nonce_is_refused(end):
    """An empty key file must not open the door."""
    with pytest.raises(HandshakeError, match="key"):
        end(b"", NONCE_C)
    with pytest.raises(HandshakeError, match="nonce"):
        end(KEY, b"short")
