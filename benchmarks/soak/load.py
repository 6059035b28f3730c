"""The load of the soak: every kind of request that a router meets, good, bad and broken off. Judges nothing.

Closed loop on raw sockets. What a client sends next is drawn from a seeded source, so that two soaks are alike.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from itertools import accumulate

import numpy as np

INFER = "/v2/models/mlp/infer"
WAIT_S = 30.0
"""Far beyond every deadline: who waits this long has been forgotten."""
_ROW = np.random.default_rng(7).standard_normal((1, 256)).astype("<f4")
_JSON = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 256], "datatype": "FP32", "data": _ROW[0].round(6).tolist()}]}
).encode()


def request(path: str, body: bytes = b"", headers: dict[str, str] | None = None, method: str = "POST") -> bytes:
    """The bytes of one request."""
    lines = [f"{method} {path} HTTP/1.1", "host: soak", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _binary(rows: int) -> tuple[bytes, dict[str, str]]:
    data = np.repeat(_ROW, rows, axis=0).tobytes()
    tensor = {"name": "x", "shape": [rows, 256], "datatype": "FP32", "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + data, {"inference-header-content-length": str(len(head))}


class Mix:
    """Kinds of requests with their shares. A kind is (bytes, status expected, what the client does)."""

    KEEP, CLOSE, LEAVE, BREAK = "keep", "close", "leave", "break"
    """Keep the connection; ask for its end; hang up without reading; hang up in the middle of the request."""

    def __init__(self, key: str, binary: bool) -> None:
        """`binary`: the server takes the binary tensor extension."""
        auth = {"authorization": f"Bearer {key}"}
        good = request(INFER, _JSON, auth)
        wrong_shape = _JSON.replace(b"[1, 256]", b"[2, 128]")
        kinds: dict[str, tuple[float, bytes, int, str]] = {
            "json": (60, good, 200, self.KEEP),
            "json, new connection": (6, request(INFER, _JSON, auth | {"connection": "close"}), 200, self.CLOSE),
            "metadata": (2, request("/v2/models/mlp", b"", auth, "GET"), 200, self.KEEP),
            "health": (2, request("/v2/health/ready", b"", {}, "GET"), 200, self.KEEP),
            "pipelined": (2, request("/v2", b"", {}, "GET") + request(INFER, b"{", auth), 400, self.KEEP),
            "bad JSON": (2, request(INFER, b'{"inputs":', auth), 400, self.KEEP),
            "wrong shape": (2, request(INFER, wrong_shape, auth), 422, self.KEEP),
            "unknown model": (2, request("/v2/models/nosuch/infer", _JSON, auth), 404, self.KEEP),
            "wrong key": (1, request(INFER, _JSON, {"authorization": "Bearer nobody"}), 401, self.CLOSE),
            "no such path": (1, request("/v9", b"", auth), 404, self.KEEP),
            "not HTTP": (1, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 400, self.CLOSE),
            "hung up, unread": (3, good, 0, self.LEAVE),
            "hung up, unsent": (1, good[: len(good) // 2], 0, self.BREAK),
        }
        if binary:
            for rows, share in ((1, 12.0), (32, 3.0)):
                body, headers = _binary(rows)
                kinds[f"binary, rows: {rows}"] = (share, request(INFER, body, auth | headers), 200, self.KEEP)
        self.names = list(kinds)
        self._kinds = kinds
        self._bounds = list(accumulate(kind[0] for kind in kinds.values()))

    def draw(self, rng: random.Random) -> tuple[str, bytes, int, str]:
        """(name, bytes, status, what to do) of the next request."""
        (name,) = rng.choices(self.names, cum_weights=self._bounds)
        _, data, status, then = self._kinds[name]
        return name, data, status, then


async def soak(port: int, mix: Mix, requests: int, clients: int, tell: Callable[[int], None]) -> Counter[str]:
    """Send `requests` requests from `clients` clients. How many of each kind ended in which status.

    `tell` hears, now and then, how many have ended. A client reconnects when its connection was closed.
    """
    seen: Counter[str] = Counter()
    left, ended = iter(range(requests)), 0

    async def client(number: int) -> None:
        nonlocal ended
        rng = random.Random(number)
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for _ in left:
            if connection is None:
                connection = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
            name, data, expected, then = mix.draw(rng)
            connection[1].write(data)
            outcome, stays = "hung up", False
            if then in (Mix.KEEP, Mix.CLOSE):
                outcome, stays = await _outcome(connection[0], 2 if name == "pipelined" else 1, expected)
            elif then == Mix.LEAVE and rng.random() < 0.5:
                await asyncio.sleep(0.001)
            if not stays or then != Mix.KEEP:
                connection[1].close()
                connection = None
            seen[f"{name}: {outcome}"] += 1
            ended += 1
            if ended % 1000 == 0:
                tell(ended)
        if connection is not None:
            connection[1].close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return seen


async def _outcome(reader: asyncio.StreamReader, answers: int, expected: int) -> tuple[str, bool]:
    """ "as expected", or what came instead; and whether the connection stays open."""
    try:
        async with asyncio.timeout(WAIT_S):
            for _ in range(answers):
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
    except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
        return type(error).__name__, False
    status = int(head[9:12])
    return "as expected" if status == expected else str(status), b"connection: close" not in head
