"""TLS on the data listener, with certificates made by openssl: real clients, hostile handshakes, rotation."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import time

import httpx
import pytest
from listener_rig import INFER, KEY, WAIT_S, Wire, get, listening, mlp, request, until

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl command to make certificates")


def make_certificate(folder, name: str) -> dict[str, str]:
    """A certificate of its own for localhost, with `name` in its subject, at the one place in `folder`."""
    paths = {"certificate": str(folder / "server.pem"), "key": str(folder / "server.key")}
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout", paths["key"], "-out", paths["certificate"],
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return paths


def trusting(paths: dict[str, str]) -> ssl.SSLContext:
    """A client's context that trusts this certificate alone."""
    return ssl.create_default_context(cafile=paths["certificate"])


@pytest.fixture
def paths(tmp_path):
    """Files of a certificate."""
    return make_certificate(tmp_path, "first")


@pytest.fixture
def rig(paths):
    """A listener with them, and short times."""
    with listening({"tls": paths, "head_timeout": "500ms", "max_connections": 20}) as rig:
        yield rig


def test_a_client_that_trusts_the_certificate_is_served(rig, paths):
    """httpx, several requests on a connection, compressed both ways; nothing older than TLS 1.2."""
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(verify=trusting(paths), base_url=f"https://127.0.0.1:{rig.port}", headers=headers) as client:
        for _ in range(3):
            answer = client.post(INFER, content=mlp(20))
            assert (answer.status_code, answer.headers["content-encoding"]) == (200, "gzip")
            assert answer.json()["outputs"][0]["shape"] == [20, 256]
        assert client.get("/v2/models/mlp").json()["name"] == "mlp"
    old = trusting(paths)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, OSError)):
        rig.wire(old)


def test_what_comes_with_the_end_of_the_handshake_is_not_lost(rig, paths):
    """Pipelined requests at once, many times; HTTP/1.1 is what ALPN agrees on."""
    context = trusting(paths)
    context.set_alpn_protocols(["h2", "http/1.1"])
    for _ in range(20):
        with rig.wire(context) as wire:
            wire.send(request() + get())
            assert [wire.answer().status for _ in range(2)] == [200, 200]
            assert wire.socket.selected_alpn_protocol() == "http/1.1"


def test_limits_hold_inside_tls(rig, paths):
    """A refused body lingers, garbage is told so, a head that never ends is timed out."""
    context = trusting(paths)
    with rig.wire(context) as wire:
        wire.send(request(b" " * 9_000_000))
        assert wire.answer().says == (413, "too_large")
    with rig.wire(context) as wire:
        wire.send(b"garbage\r\n\r\n")
        assert wire.answer().says == (400, "malformed")
        assert wire.closed()
    with rig.wire(context) as wire:
        wire.send(b"POST /v2")
        assert wire.answer().says == (408, "request_timeout")


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01", request(), bytes(100), b"\x16\x03\x01\xff\xff" + bytes(20_000)])
def test_a_handshake_that_is_none_ends_the_connection_in_time(rig, paths, sent):
    """Silence, half a hello, plain HTTP, zeros, an endless hello; meanwhile others are served."""
    with socket.create_connection(("127.0.0.1", rig.port), timeout=WAIT_S) as bare:
        started_s = time.monotonic()
        bare.sendall(sent)
        with rig.wire(trusting(paths)) as wire:
            wire.send(request())
            assert wire.answer().status == 200
        said = b""
        with contextlib.suppress(ConnectionError):
            while more := bare.recv(4096):
                said += more
        assert not said.startswith(b"HTTP")
        assert time.monotonic() - started_s < 5.0
    until(lambda: rig.plane.handshakes == 0)


def test_connections_that_shake_no_hands_count_and_time_out(rig, paths):
    """Twenty fill the listener; the next is turned away; half a second later all are gone."""
    silent = [socket.create_connection(("127.0.0.1", rig.port), timeout=WAIT_S) for _ in range(19)]
    until(lambda: rig.plane.handshakes == 19)
    with rig.wire(trusting(paths)) as last:
        last.send(request())
        assert last.answer().status == 200
    until(lambda: not rig.plane.connections)
    silent.append(socket.create_connection(("127.0.0.1", rig.port), timeout=WAIT_S))
    until(lambda: rig.plane.handshakes == 20)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        rig.wire(trusting(paths))
    until(lambda: rig.plane.handshakes == 0)
    with rig.wire(trusting(paths)) as wire:
        wire.send(request())
        assert wire.answer().status == 200
    for bare in silent:
        bare.close()


def subject(port: int, trusted: ssl.SSLContext) -> str:
    """Common name of the certificate that the listener presents."""
    with Wire(port, trusted) as wire:
        return dict(part[0] for part in wire.socket.getpeercert()["subject"])["commonName"]


def test_a_rotated_certificate_is_taken_up_while_connections_go_on(rig, paths, tmp_path):
    """A half-written pair is not; the old one stays until there is a good one."""
    first = trusting(paths)
    with rig.wire(first) as wire:
        (tmp_path / "server.pem").write_text("half")
        time.sleep(0.3)
        assert subject(rig.port, first) == "first"
        make_certificate(tmp_path, "second")
        second = trusting(paths)

        def renewed() -> bool:
            with contextlib.suppress(ssl.SSLError):
                return subject(rig.port, second) == "second"
            return False

        until(renewed)
        wire.send(request())
        assert wire.answer().status == 200
    with pytest.raises(ssl.SSLError):
        rig.wire(first)
