"""Both ends of a stream prove that they hold the same key before anything else is read. Sans-IO, no randomness.

    client  magic version nonce_c
    server  magic version nonce_s HMAC(key, magic version "server" nonce_c nonce_s)
    client  HMAC(key, magic version "client" nonce_c nonce_s)

Owns these 140 bytes. The caller brings the key, fresh random nonces and a time limit, and closes on HandshakeError.
The role is part of what is signed, so a peer cannot be answered with its own proof; the key never travels.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable

from router.protocol.link import PROTOCOL_VERSION

NONCE_BYTES = 32
MIN_KEY_BYTES = 16
"""A shorter key, above all an empty file, would let anyone in."""

_MAGIC = b"PTSM"
_MAC_BYTES = 32
_OPENING = struct.Struct(f"<4sH{NONCE_BYTES}s")

_Step = tuple[int, Callable[[bytes], bytes]]
"""Size of the next message of the peer, and what turns it into the reply."""


class HandshakeError(Exception):
    """The peer did not prove the key or speaks another version. The connection must be closed without an answer."""


class _Handshake:
    """Takes fixed-size messages in order; holds fewer bytes than the message it waits for."""

    def __init__(self, key: bytes, nonce: bytes, version: int = PROTOCOL_VERSION) -> None:
        """`nonce`: NONCE_BYTES from a cryptographic source, never used before."""
        if len(key) < MIN_KEY_BYTES:
            raise HandshakeError(f"the key must have at least {MIN_KEY_BYTES} bytes, it has {len(key)}")
        if len(nonce) != NONCE_BYTES:
            raise HandshakeError(f"the nonce must have {NONCE_BYTES} bytes, it has {len(nonce)}")
        self._key = key
        self._nonce = nonce
        self._version = version
        self._held = b""
        self._steps = self._expected()

    def _expected(self) -> list[_Step]:
        raise NotImplementedError

    def receive(self, data: bytes) -> tuple[bytes, bool, bytes]:
        """Take bytes of the peer. Returns (bytes to send, whether the peer is proven, what follows the handshake).

        Raises HandshakeError, also on any call after the end or after an error.
        """
        if not self._steps:
            raise HandshakeError("the handshake is over")
        at, to_send = 0, b""
        while self._steps:
            size, step = self._steps[0]
            missing = size - len(self._held)
            self._held += data[at : at + missing]
            at += missing
            if len(self._held) < size:
                return to_send, False, b""
            message, self._held = self._held, b""
            rest, self._steps = self._steps[1:], []
            to_send += step(message)
            self._steps = rest
        return to_send, True, data[at:]

    def _opening(self) -> bytes:
        return _OPENING.pack(_MAGIC, self._version, self._nonce)

    def _peer_nonce(self, opening: bytes) -> bytes:
        magic, version, nonce = _OPENING.unpack(opening)
        if magic != _MAGIC:
            raise HandshakeError("the peer does not speak this protocol")
        if version != self._version:
            raise HandshakeError(f"the peer speaks version {version}, this end version {self._version}")
        return bytes(nonce)

    def _mac(self, role: bytes, nonce_c: bytes, nonce_s: bytes) -> bytes:
        text = _OPENING.pack(_MAGIC, self._version, nonce_c) + role + nonce_s
        return hmac.digest(self._key, text, hashlib.sha256)

    def _check(self, mac: bytes, role: bytes, nonce_c: bytes, nonce_s: bytes) -> None:
        if not hmac.compare_digest(mac, self._mac(role, nonce_c, nonce_s)):
            raise HandshakeError("the peer did not prove the key")


class ClientHandshake(_Handshake):
    """The end that connects. Done once the server's proof holds; its own proof is in the last bytes to send."""

    def start(self) -> bytes:
        """The first bytes of the connection."""
        return self._opening()

    def _expected(self) -> list[_Step]:
        return [(_OPENING.size + _MAC_BYTES, self._on_challenge)]

    def _on_challenge(self, message: bytes) -> bytes:
        nonce_s = self._peer_nonce(message[: _OPENING.size])
        self._check(message[_OPENING.size :], b"server", self._nonce, nonce_s)
        return self._mac(b"client", self._nonce, nonce_s)


class ServerHandshake(_Handshake):
    """The end that listens. Done once the client's proof holds."""

    _nonce_c = b""

    def start(self) -> bytes:
        """Nothing: the client speaks first."""
        return b""

    def _expected(self) -> list[_Step]:
        return [(_OPENING.size, self._on_hello), (_MAC_BYTES, self._on_proof)]

    def _on_hello(self, message: bytes) -> bytes:
        self._nonce_c = self._peer_nonce(message)
        return self._opening() + self._mac(b"server", self._nonce_c, self._nonce)

    def _on_proof(self, message: bytes) -> bytes:
        self._check(message, b"client", self._nonce_c, self._nonce)
        return b""
