"""A replica that does what the test says, joined to a router over a real socket; for items of megabytes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
from stream_rig import FACTS, KEY, Router, rows, until

from deployments.link_replica import ReplicaEnd
from deployments.link_router import RouterEnd
from router.protocol.link import Answer, Item, Load, ModelGrant, Tensor, Welcome

MIB = 1 << 20
MIB_ROWS = 1024
"""Rows of 256 floats in a MiB."""
GRANT_BYTES = 64 * MIB


class Far:
    """A replica whose items wait for the test, or are echoed. Implements link_replica.ReplicaListener."""

    def __init__(self, echo: bool) -> None:
        self.echo = echo
        self.items: dict[int, Item] = {}
        self.seen: list[tuple[str, int]] = []
        """Items and cancels, in the order they came."""
        self.streams: list[ReplicaEnd] = []

    async def listen(self) -> Far:
        """Accept one router."""
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: ReplicaEnd(KEY, self, loop), "127.0.0.1", 0)
        self.address = self.server.sockets[0].getsockname()
        return self

    @property
    def stream(self) -> ReplicaEnd:
        """The one stream."""
        return self.streams[-1]

    def answer(self, number: int, tensors: list[Tensor], detail: str = "") -> None:
        """Answer an item by hand."""
        self.stream.answer(Answer(number, "", detail, True, 0, 0, 0, 1, tensors))

    def on_open(self, stream: ReplicaEnd) -> None:
        """Greet."""
        self.streams.append(stream)
        grant = ModelGrant("mlp", "1", 1 << 20, 1 << 16, GRANT_BYTES, [(1, 0.001)])
        stream.send(Welcome(1, "cpu", "r1", "x86-cpu", "none", False, [grant], FACTS))

    def on_items(self, stream: ReplicaEnd, items: list[Item]) -> None:
        """Keep or echo."""
        for item in items:
            self.seen.append(("item", item.id))
            self.items[item.id] = item
            if self.echo:
                self.answer(item.id, self.items.pop(item.id).tensors)

    def on_cancel(self, stream: ReplicaEnd, ids: list[int]) -> None:
        """What is not answered yet ends here."""
        for number in ids:
            self.seen.append(("cancel", number))
            if self.items.pop(number, None) is not None:
                stream.answer(Answer(number, "cancelled", "", False, 0, 0, 0, 0, []))

    def on_lost(self, stream: ReplicaEnd, why: str) -> None:
        """The test is over, or has failed."""

    def load(self) -> Load:
        """None."""
        return Load({}, False, 0)


Join = Callable[..., Awaitable[tuple[Router, Far]]]
"""The fixture `join`: a router and a replica with a stream between them."""


def near_end(near: Router) -> RouterEnd:
    """The router's end of the one stream."""
    (end,) = near.links._pools["cpu"].streams.values()
    return end


def numbers(mib: float) -> np.ndarray:
    """So many MiB of input."""
    return rows(1, max(1, int(mib * MIB_ROWS)))


def same_bytes(near: Router, number: int, x: np.ndarray) -> None:
    """The item was echoed whole."""
    np.testing.assert_array_equal(near.output(number), x)


def all_free(near: Router) -> bool:
    """No entry is open and every credit is back."""
    (credit,) = near.queues["cpu"]._credits.values()
    return not near.links._pools["cpu"].open and not credit.open_bytes["mlp"] and not credit.open_items["mlp"]


async def still_passes(near: Router, number: int = 1000) -> None:
    """Small and large items are answered on the stream that was there."""
    before = near_end(near)
    near.send(number, numbers(2))
    near.send(number + 1, rows(2))
    await until(lambda: near.answers[number] and near.answers[number + 1])
    same_bytes(near, number, numbers(2))
    assert near_end(near) is before
