"""Fixtures of more than one file of stream tests. Tests here use benchmarks/ too, which is no installed package."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from far_rig import Far, Join
from stream_rig import Router, until

sys.path.insert(0, str(Path(__file__).parents[2]))


@pytest.fixture
async def join() -> AsyncIterator[Join]:
    """Joins a router and a replica, and ends both."""
    made: list[tuple[Router, Far]] = []

    async def make(*, echo: bool = True, waiting: int = 1024) -> tuple[Router, Far]:
        far = await Far(echo).listen()
        near = Router("cpu", waiting=waiting)
        made.append((near, far))
        near.links.set_members("cpu", {"r1": far.address})
        await until(near.ready)
        return near, far

    yield make
    for near, far in made:
        await near.links.close()
        far.server.close()
