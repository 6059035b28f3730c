"""HTTP to one upstream: kept connections, credential, TLS. The door to aiohttp. Knows nothing of tensors."""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp
import msgspec

from deployments.stream import MAX_MESSAGE_BYTES
from router.protocol.codec import Body

KEEP_S = 3.0
"""Idle connections are closed by us: servers commonly do so after 5 s, and a request sent into that is lost."""
REREAD_S = 1.0
"""How often a credential file may be looked at."""
MAX_CREDENTIAL_BYTES = 64 * 1024


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of the `oip_upstream` backend. Files hold what must not be in a configuration."""

    url: str
    connections: int = 8
    """Requests of one model under way at once, by each replica."""
    tensors: str = "binary"
    authorization_file: str = ""
    ca_file: str = ""
    metrics_url: str = ""
    health_period: float = 0.5
    """Seconds between two questions about readiness, and about metrics."""
    hung_after: float = 1.0
    """Seconds."""
    timeout_parameter: bool = True
    """Whether the budget is also said as the protocol's `timeout` parameter."""
    names: dict[str, str] = {}
    """What a model is called there, where it has another name."""
    versions: dict[str, str] = {}
    """The version asked for there; none: whichever it gives."""
    emulated: bool = False


class Reply(msgspec.Struct):
    """One answer of the upstream."""

    status: int
    headers: Mapping[str, str]
    """Looked up without regard to case."""
    body: bytes


class Unreachable(Exception):
    """No answer came. The text says why, without naming the host: it may be shown to a tenant."""

    def __init__(self, why: str, *, sent: bool) -> None:
        super().__init__(why)
        self.sent = sent
        """Whether the request may have arrived."""


class UpstreamClient:
    """Connections to one server. Not thread-safe: one event loop."""

    def __init__(self, options: Options) -> None:
        """Raises OSError, ssl.SSLError where the certificate authorities cannot be read."""
        self._options = options
        self._url = options.url.rstrip("/")
        self._credential = _Credential(options.authorization_file)
        tls = ssl.create_default_context(cafile=options.ca_file or None) if self._url.startswith("https:") else True
        # No bound on connections here: how many requests are under way is the replica's business.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_S, ssl=tls)
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            headers={"accept-encoding": "identity"},
            # What one tenant's answer sets must not go with another's request.
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def get(self, path: str, timeout_s: float, max_bytes: int) -> Reply:
        """GET a path, or a whole URL. Raises Unreachable, also for a longer answer; TimeoutError."""
        whole = path if "://" in path else self._url + path
        # The credential is the upstream's own, not of whoever serves its metrics.
        headers = {} if whole == path else self._credential.header()
        return await self._ask("GET", whole, headers, None, timeout_s, max_bytes)

    async def post(self, path: str, headers: Mapping[str, str], parts: Sequence[Body], timeout_s: float) -> Reply:
        """POST a body made of parts. Raises Unreachable, TimeoutError."""
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        headers = {**headers, **self._credential.header()}
        return await self._ask("POST", self._url + path, headers, data, timeout_s, MAX_MESSAGE_BYTES)

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str], data: Body | None, timeout_s: float, max_bytes: int
    ) -> Reply:
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.request(
                    method, url, headers=headers, data=data, allow_redirects=False, timeout=aiohttp.ClientTimeout()
                ) as reply,
            ):
                return Reply(reply.status, reply.headers, await _bounded(reply, max_bytes))
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(_words(error), sent=False) from None
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise Unreachable("the connection was lost", sent=True) from None


async def _bounded(reply: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in reply.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            reply.close()
            raise Unreachable(f"its answer has more than {max_bytes} bytes", sent=True)
    return bytes(body)


def _words(error: aiohttp.ClientConnectorError) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return "its certificate is not accepted"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name cannot be resolved"
    code = error.os_error.errno
    return os.strerror(code).lower() if code and code > 0 else "it cannot be reached"


class _Credential:
    """A bearer token in a file, read again when the file changes. Never logged."""

    def __init__(self, file: str) -> None:
        self._file = Path(file) if file else None
        self._looked_s = float("-inf")
        self._stamp: tuple[int, int] | None = None
        self._header: dict[str, str] | None = {}
        """None: the file cannot be read."""

    def header(self) -> Mapping[str, str]:
        """The header that shows it, if there is one. Raises Unreachable where the file cannot be read."""
        now_s = time.monotonic()
        if self._file is not None and now_s - self._looked_s >= REREAD_S:
            self._looked_s = now_s
            try:
                found = self._file.stat()
                stamp = found.st_mtime_ns, found.st_size
                if stamp != self._stamp:
                    self._header = {"authorization": f"Bearer {_token(self._file, found)}"}
                    self._stamp = stamp
            except (OSError, ValueError):
                self._header = self._stamp = None
        if self._header is None:
            raise Unreachable("authorization_file cannot be read", sent=False)
        return self._header


def _token(file: Path, found: os.stat_result) -> str:
    """The file's content as a header may carry it. Raises OSError, ValueError."""
    if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_CREDENTIAL_BYTES:
        raise ValueError("no file with a token")
    with file.open("rb") as opened:
        token = opened.read(MAX_CREDENTIAL_BYTES).decode().strip()
    if not token or not token.isascii() or any(character.isspace() for character in token):
        raise ValueError("no token")
    return token
