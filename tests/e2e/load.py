"""Closed-loop clients for a running fleet, with a record of how each request ended. Judges nothing.

Real clients (httpx) in a thread of their own: each sends, waits for the end, and sends again. A client that keeps its
connection does what HTTP asks of it: it reconnects where the server said `Connection: close`, and retries nothing.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import httpx

MLP = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 256], "data": [round(0.01 * i, 2) for i in range(256)]}]
}
TEXT = {
    "inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["the points are set for the fast line"]}]
}
BODIES = {"mlp": json.dumps(MLP).encode(), "minilm": json.dumps(TEXT).encode()}
HANG_S = 20.0
"""Far beyond any deadline in these tests: a request that takes this long hangs."""


@dataclass(frozen=True)
class Ended:
    """One request from its client's side. `outcome`: "200", "503 no_ready_pool", or the name of a transport error."""

    started_s: float
    ended_s: float
    outcome: str
    pool: str = ""
    closing: bool = False
    """The answer said `Connection: close`."""


@dataclass
class Tally:
    """What all clients saw. Times are time.monotonic()."""

    sent: int = 0
    ended: list[Ended] = field(default_factory=list)

    def outcomes(self) -> Counter[str]:
        """How many requests ended how."""
        return Counter(each.outcome for each in self.ended)

    def failed(self) -> dict[str, int]:
        """Outcomes other than an answer."""
        return {outcome: count for outcome, count in self.outcomes().items() if outcome != "200"}

    def longest_s(self) -> float:
        """Longest any client waited for the end of a request."""
        return max(each.ended_s - each.started_s for each in self.ended)

    def gap_s(self) -> float:
        """Longest time in which no request was answered."""
        ends = sorted(each.ended_s for each in self.ended if each.outcome == "200")
        return max((b - a for a, b in pairwise(ends)), default=float("inf"))

    def answered_by(self, pool: str, after_s: float = 0.0) -> list[float]:
        """When the pool answered requests that were sent after `after_s`, in order."""
        return sorted(e.ended_s for e in self.ended if e.pool == pool and e.started_s >= after_s)


class Load:
    """Clients of one tenant against one URL, in a thread, until `stop`."""

    def __init__(
        self, url: str, headers: dict[str, str], *, keeping: int, fresh: int, models: Sequence[str] = ("mlp",),
        pause_s: float = 0.0,
    ) -> None:  # fmt: skip
        """`keeping` clients keep their connection, `fresh` ones make a new one each time.

        `models` are asked for in turn, weighted by how often they stand there. `pause_s` between two requests.
        """
        self.tally = Tally()
        self._url = url
        self._headers = headers
        self._clients = (keeping, fresh)
        self._models = tuple(models)
        self._pause_s = pause_s
        self._stopping = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def start(self) -> Load:
        """Begin."""
        self._thread.start()
        return self

    def stop(self) -> Tally:
        """Let every client end its request. Raises TimeoutError if one hangs."""
        self._stopping = True
        self._thread.join(HANG_S * 2)
        if self._thread.is_alive():
            raise TimeoutError(f"{self.tally.sent - len(self.tally.ended)} requests never ended")
        return self.tally

    async def _run(self) -> None:
        keeping, fresh = self._clients
        limits = httpx.Limits(max_keepalive_connections=0)
        async with asyncio.TaskGroup() as group:
            for number in range(keeping + fresh):
                # A client object each: connections are not shared, so each stands for an application of its own.
                client = httpx.AsyncClient(
                    timeout=HANG_S, verify=False, limits=limits if number >= keeping else httpx.Limits()
                )
                group.create_task(self._client(client, random.Random(number)))

    async def _client(self, client: httpx.AsyncClient, rng: random.Random) -> None:
        async with client:
            while not self._stopping:
                model = rng.choice(self._models)
                self.tally.sent += 1
                started_s = time.monotonic()
                outcome, pool, closing = await self._ask(client, model)
                self.tally.ended.append(Ended(started_s, time.monotonic(), outcome, pool, closing))
                # A client that was refused at once would otherwise spin.
                await asyncio.sleep(self._pause_s if outcome == "200" else max(self._pause_s, 0.02))

    async def _ask(self, client: httpx.AsyncClient, model: str) -> tuple[str, str, bool]:
        try:
            reply = await client.post(
                f"{self._url}/v2/models/{model}/infer", content=BODIES[model], headers=self._headers
            )
        except httpx.HTTPError as error:
            return type(error).__name__, "", False
        closing = reply.headers.get("connection") == "close"
        if reply.status_code == 200:
            outcome = "200" if reply.json()["outputs"] else "200 without outputs"
            return outcome, reply.headers["x-pointsman-pool"], closing
        return f"{reply.status_code} {reply.json()['reason']}", "", closing


@contextmanager
def load(
    url: str, headers: dict[str, str], *, keeping: int = 12, fresh: int = 12,
    models: Sequence[str] = ("mlp",) * 9 + ("minilm",), pause_s: float = 0.0, before_s: float = 0.5,
    after_s: float = 1.0,
) -> Iterator[Tally]:  # fmt: skip
    """Clients for the block, and for a while before and after it. Every request has ended when it is left."""
    clients = Load(url, headers, keeping=keeping, fresh=fresh, models=models, pause_s=pause_s).start()
    try:
        time.sleep(before_s)
        yield clients.tally
        time.sleep(after_s)
    finally:
        clients.stop()
