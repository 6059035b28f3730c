"""A pool that is another server: requests through a router to it and back, over real sockets."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from faulty_upstream import PLUS, FaultyUpstream
from stream_rig import rows, until
from upstream_rig import Load, Rig, output, pool_of


@pytest.fixture
async def server():
    """The other server."""
    upstream = await FaultyUpstream().listen()
    yield upstream
    await upstream.kill()


@pytest.fixture
async def start(server, tmp_path):
    """Start a rig for that server, with more keys of its backend if wanted."""
    rigs = []

    async def make(more: str = "", **options) -> Rig:
        rigs.append(await Rig(server.url, tmp_path, more, **options).start())
        return rigs[-1]

    yield make
    for rig in rigs:
        await rig.stop()


@pytest.mark.parametrize("tensors", ["binary", "json"])
async def test_a_request_goes_there_and_its_answer_comes_back(server, start, tensors):
    """To the bit, with one request id, less time than it had, and what the pool is declared as."""
    rig = await start(f", tensors: {tensors}")
    x = rows(1, 3)
    reply = await rig.ask(x, timeout="500ms")
    assert pool_of(reply) == "far"
    np.testing.assert_array_equal(output(reply), x + np.float32(PLUS))
    ((headers, document),) = server.seen
    request_id = dict(reply.headers())["x-request-id"]
    assert headers["x-request-id"] == document["id"] == request_id
    assert ("inference-header-content-length" in headers) == (tensors == "binary")
    said_us = int(headers["x-pointsman-timeout"].removesuffix("us"))
    assert 0 < said_us < 500_000
    assert document["parameters"]["timeout"] == said_us
    assert headers["x-pointsman-only-accelerator"] == "nvidia-h20"
    assert headers["x-pointsman-only-region"] == "there"
    assert headers["x-pointsman-hops"] == "1"


async def test_several_requests_are_under_way_there_at_once_up_to_its_connections(server, start):
    """It makes its own batches: nothing waits for another's end."""
    rig = await start(", connections: 4")
    server.mode = "slow"
    replies = asyncio.gather(*(rig.ask(timeout="5s") for _ in range(6)))
    await until(lambda: len(server.seen) == 4)
    await asyncio.sleep(0.1)
    assert len(server.seen) == 4
    assert {pool_of(reply) for reply in await replies} <= {"far", "cpu"}


FAULTS = ["killed", "hung", "slow", "lying", "429", "500", "unready"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_traffic_leaves_a_faulty_upstream_within_2_s_and_comes_back(server, start, fault, record_property):
    """No request is left without an answer; goodput while it is faulty is that of the pool that is left."""
    rig = await start()
    load = Load(rig)
    await load.run(1.0)
    fault_s = time.perf_counter()
    if fault == "killed":
        await server.kill()
    else:
        server.mode = fault
    await load.run(4.0)
    cured_s = time.perf_counter()
    if fault == "killed":
        await server.listen()
    server.mode = "ok"
    await load.run(3.0)
    stopped_s = time.perf_counter()
    await load.stop()

    before = load.between(0.0, fault_s)
    during = load.between(fault_s, cured_s)
    left = load.between(fault_s + 2.0, cured_s - 0.1)
    back = load.between(stopped_s - 0.5, stopped_s)
    last_s = max(
        (ended_s for sent_s, ended_s, pool in load.ended if pool == "far" and sent_s < cured_s - 0.1), default=0
    )
    first_s = min(sent_s for sent_s, _, pool in load.ended if pool == "far" and sent_s > cured_s)
    figures = {
        "fault": fault, "before": dict(before), "during": dict(during), "after 2 s": dict(left),
        "left after s": round(last_s - fault_s, 2), "back after s": round(first_s - cured_s, 2),
    }  # fmt: skip
    print(figures)
    record_property("figures", str(figures))
    assert set(before) == {"far"}
    assert before["far"] > 50
    assert set(during) <= {"far", "cpu"}, "some request was not answered in time"
    assert set(left) == {"cpu"}
    assert left["cpu"] > 100
    assert back["far"] > 0.8 * sum(back.values())
