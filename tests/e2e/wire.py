"""HTTP/1.1 on a bare socket: what no well-behaved client sends, and many requests at once at little cost.

Reads answers strictly: status line, headers, and a body of exactly content-length bytes.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Answer:
    """One answer. Header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body decoded."""
        return json.loads(self.body)


def request(path: str, body: object = b"", headers: dict[str, str] | None = None, method: str = "POST") -> bytes:
    """The bytes of one request; `body` is bytes or a value to send as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "host: fleet", f"content-length: {len(content)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


class Wire:
    """One connection."""

    def __init__(self, url: str) -> None:
        at = urlsplit(url)
        self.socket = socket.create_connection((at.hostname, at.port), timeout=TIMEOUT_S)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send every byte."""
        self.socket.sendall(data)

    def line(self) -> bytes:
        """The next line without its end; b"" also where the server has hung up."""
        return self._file.readline().rstrip(b"\r\n")

    def answer(self) -> Answer:
        """The next answer. Raises ConnectionError where the server has hung up."""
        head = [self.line()]
        if not head[0]:
            raise ConnectionError("the server has hung up")
        while line := self.line():
            head.append(line)
        status, headers = _head(head)
        return Answer(status, headers, self._file.read(int(headers.get("content-length", 0))))

    def closed(self) -> bool:
        """Wait until the server hangs up; False if it says something instead."""
        try:
            return self._file.read(1) == b""
        except ConnectionError:
            return True


def send_raw(url: str, data: bytes) -> Answer:
    """The first answer to these bytes on a connection of their own."""
    with Wire(url) as wire:
        wire.send(data)
        return wire.answer()


async def send_all(url: str, requests: Sequence[bytes], clients: int) -> list[Answer]:
    """The answer to each request, in their order; `clients` connections share them, one request at a time each."""
    answers: list[Answer | None] = [None] * len(requests)
    numbers = iter(range(len(requests)))

    async def client() -> None:
        reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port, limit=2**20)
        for number in numbers:
            writer.write(requests[number])
            lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[:-2]
            status, headers = _head(lines)
            answers[number] = Answer(status, headers, await reader.readexactly(int(headers["content-length"])))
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return [answer for answer in answers if answer is not None]


def _head(lines: Sequence[bytes]) -> tuple[int, dict[str, str]]:
    version, status, _ = lines[0].decode().split(" ", 2)
    assert version == "HTTP/1.1"
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, _, value = line.decode("latin-1").partition(":")
        assert name.lower() not in headers, f"the answer has {name} twice"
        headers[name.lower()] = value.strip()
    return int(status), headers
