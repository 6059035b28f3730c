"""A pool that is another server: requests through a router to it and back, over real sockets."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import orjson
import pytest
from faulty_upstream import PLUS, FaultyUpstream
from stream_rig import expected, rows, until
from upstream_rig import Load, Rig, output, pool_of

from router.telemetry import table


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
    assert headers["x-pointsman-only-emulated"] == "false"
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


FAULTS = ["killed", "hung", "stuck", "slow", "lying", "429", "500", "unready"]


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
    assert before["far"] > 0.8 * sum(before.values())
    assert set(during) <= {"far", "cpu"}, "some request was not answered in time"
    assert set(left) == {"cpu"}
    assert left["cpu"] > 100
    assert back["far"] > 0.8 * sum(back.values())


@pytest.mark.parametrize("usual_s", [0.01, 0.5])
async def test_what_a_frozen_upstream_holds_is_answered_elsewhere(server, start, usual_s):
    """Whatever closes the pool first: it says nothing of its readiness either."""
    rig = await start()
    availability = rig.upstream.lanes["mlp"].availability
    availability.usual_s = usual_s
    server.mode = "hung"
    sent = len(server.seen)
    held = asyncio.create_task(rig.ask(timeout="60s"))
    await until(lambda: len(server.seen) > sent)
    for _ in range(3):
        availability.unheard("no answer about its readiness", time.perf_counter())
    await until(lambda: not rig.takes())
    async with asyncio.timeout(10):
        assert pool_of(await held) == "cpu"


async def test_an_idle_upstream_that_is_slow_to_say_that_it_is_ready_stays_open(server, start):
    """It is far away; what it does with requests is what counts."""
    rig = await start()
    server.ready_s = 1.2
    for _ in range(80):
        assert rig.takes()
        await asyncio.sleep(0.05)


async def test_no_second_pool_means_that_the_client_is_told_what_waiting_helps(server, start):
    """Full is 429 with a time, gone is 503; explain has the words and no host."""
    rig = await start(with_cpu=False)
    server.mode = "429"
    told = [await rig.ask() for _ in range(6)]
    assert {reply.status for reply in told} == {429}
    assert all(dict(reply.headers())["retry-after"] for reply in told)
    assert rig.explained()["words"] == "upstream: it answers 429"
    server.mode = "ok"
    await until(rig.takes)
    await server.kill()
    await until(lambda: not rig.takes())
    assert (await rig.ask()).status == 503
    assert rig.explained()["words"] == "upstream: connection refused"


async def test_a_cancelled_request_is_aborted_there(server, start):
    """And one whose time is up."""
    rig = await start()
    server.mode = "hung"
    reply = await rig.ask(timeout="150ms")
    assert reply.status == 504
    await until(lambda: server.aborted == 1)
    x = orjson.dumps({"inputs": [{"name": "x", "shape": [1, 256], "datatype": "FP32", "data": [0.0] * 256}]})
    exchange = rig.state.handler.start(rig.head(), x, lambda reply: None)
    await until(lambda: len(server.seen) == 2)
    exchange.cancel()
    await until(lambda: server.aborted == 2)


async def test_the_pool_opens_once_its_server_is_there(tmp_path):
    """It was not when the pool was started; the other pool serves meanwhile."""
    server = await FaultyUpstream().listen()
    await server.kill()
    rig = await Rig(server.url, tmp_path).start()
    try:
        assert not rig.proven
        assert pool_of(await rig.ask()) == "cpu"
        await server.listen()
        await until(rig.takes)
        assert pool_of(await rig.ask()) == "far"
    finally:
        await rig.stop()
        await server.kill()


async def test_a_model_that_is_another_one_there_stays_closed(tmp_path):
    """In words."""
    server = await FaultyUpstream().listen()
    server.datatype = "FP64"
    rig = await Rig(server.url, tmp_path).start()
    try:
        assert rig.explained()["words"] == "upstream: output y is FP64 there and FP32 here"
        assert pool_of(await rig.ask()) == "cpu"
        assert not server.seen
    finally:
        await rig.stop()
        await server.kill()


async def test_batches_that_the_server_does_not_take_are_found_out_at_the_start(tmp_path):
    """It takes eight rows, the model here 32."""
    server = await FaultyUpstream().listen()
    server.max_rows = 8
    rig = await Rig(server.url, tmp_path).start()
    try:
        assert pool_of(await rig.ask(rows(1, 8))) == "far"
        assert pool_of(await rig.ask(rows(1, 9))) == "cpu"
    finally:
        await rig.stop()
        await server.kill()


@pytest.mark.parametrize("said", [{"x-pointsman-accelerator": "nvidia-a100-80g"}, {"x-pointsman-emulated": "true"}])
async def test_an_answer_from_other_hardware_than_declared_is_never_passed_on(server, start, said):
    """Policy judged what is declared. It is tried elsewhere, counted, and closes the pool if it goes on."""
    rig = await start()
    server.headers = said
    replies = [await rig.ask(rows(number)) for number in range(5)]
    assert {pool_of(reply) for reply in replies} == {"cpu"}
    np.testing.assert_allclose(output(replies[0]), expected(rows(0)), rtol=1e-5)
    assert rig.explained()["status"] == "rejected"
    counted = rig.metrics._totals.by_key[table.FAILED_ATTEMPTS.key]
    assert dict(counted)["far", "wrong_accelerator"][0] >= 3


async def test_hops_are_counted_up(server, start):
    """By this router, on what the request had."""
    rig = await start()
    assert pool_of(await rig.ask(hops="2")) == "far"
    assert server.seen[-1][0]["x-pointsman-hops"] == "3"
    assert (await rig.ask(hops="5")).status == 508


async def test_a_request_that_has_passed_all_the_routers_it_may_is_not_sent_there(server, start):
    """The upstream would refuse it, whoever asks: that must not close the pool to others."""
    rig = await start(with_cpu=False)
    for _ in range(5):
        reply = await rig.ask(hops="4")
        assert (reply.status, pool_of(reply)) == (508, "too_many_hops")
    assert not server.seen
    assert pool_of(await rig.ask()) == "far"


async def test_one_that_has_passed_so_many_is_answered_by_a_pool_that_is_no_router(start):
    """The limit is of routers, not of pools."""
    rig = await start()
    assert pool_of(await rig.ask(hops="4")) == "cpu"


async def test_what_is_forbidden_to_a_client_closes_the_pool_to_nobody(server, start):
    """Headers of its own may bring it about. Where probes are forbidden too the pool closes."""
    rig = await start()
    server.mode = "403 but probes"
    for _ in range(20):
        assert pool_of(await rig.ask()) == "cpu"
    assert len(server.seen) == 20
    server.mode = "403"
    load = Load(rig)
    await until(lambda: not rig.takes())
    await load.stop()
    assert rig.explained()["words"] == "upstream: it forbids the request (403): policy_denied"


async def test_a_credential_is_read_again_when_its_file_changes(server, start, tmp_path):
    """And never shown."""
    token = tmp_path / "token"
    token.write_text("first\n")
    rig = await start(", authorization_file: token")
    await rig.ask()
    assert server.seen[-1][0]["authorization"] == "Bearer first"
    token.write_text("the-second")

    async def sent() -> str:
        await rig.ask()
        return server.seen[-1][0]["authorization"]

    async with asyncio.timeout(5):
        while await sent() != "Bearer the-second":
            await asyncio.sleep(0.05)
    assert "second" not in str(rig.explained()) + str(rig.settings.to_wire())


async def test_what_waits_there_from_others_is_in_the_load_report(server, start):
    """By Triton's own metric."""
    rig = await start(f', metrics_url: "{server.url}/metrics"')

    def waiting() -> int:
        views = {view.name: view for view in rig.state.fleet.snapshot(rig.clock.now_s()).pools}
        return views["far"].waiting_rows.get("mlp", 0)

    assert waiting() == 0
    server.pending = 500
    await until(lambda: waiting() == 500)
    server.pending = 0
    await until(lambda: waiting() == 0)
