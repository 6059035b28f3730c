"""What an upstream says beside its answers is bounded, goes with no other request, and is believed for a while only."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from faulty_upstream import FaultyUpstream
from stream_rig import rows, until
from upstream_rig import Rig, pool_of


@pytest.fixture
async def server() -> AsyncIterator[FaultyUpstream]:
    """The other server."""
    upstream = await FaultyUpstream().listen()
    yield upstream
    await upstream.kill()


@asynccontextmanager
async def joined(server: FaultyUpstream, folder: Path, more: str = "", **options: bool) -> AsyncIterator[Rig]:
    """A rig for that server."""
    rig = await Rig(server.url, folder, more, **options).start()
    try:
        yield rig
    finally:
        await rig.stop()


def waiting(rig: Rig) -> int:
    """Rows that wait there, as its next report to the router says."""
    return rig.far.load().waiting_rows.get("mlp", 0)


@pytest.mark.parametrize("broken", ["", "1e999", "1.2.3", "e"])
async def test_metrics_that_go_wrong_end_nothing_and_are_soon_forgotten(server, tmp_path, broken):
    """What waited by the last good page counts for a second; the watch goes on."""
    async with joined(server, tmp_path, f', metrics_url: "{server.url}/metrics"') as rig:
        server.pending = 500
        await until(lambda: waiting(rig) == 500)
        server.pending = broken
        await asyncio.sleep(0.3)
        assert waiting(rig) == 500
        await until(lambda: waiting(rig) == 0, 3)
        server.pending = 7
        await until(lambda: waiting(rig) == 7)
        rig.upstream.check()


async def test_a_cookie_goes_with_no_other_request(server, tmp_path):
    """The next one may be another tenant's."""
    server.headers = {"set-cookie": "session=someone; path=/"}
    server_url = server.url
    async with joined(server, tmp_path) as rig:
        rig.upstream.lanes["mlp"].client._url = server_url.replace("127.0.0.1", "localhost")
        for _ in range(3):
            assert pool_of(await rig.ask()) == "far"
    assert all("cookie" not in headers for headers, _ in server.seen)


async def test_another_pointsman_without_a_pool_is_away_and_not_full(server, tmp_path):
    """What waiting does not help is not 429."""
    async with joined(server, tmp_path, with_cpu=False) as rig:
        server.mode = "no pool"
        replies = [await rig.ask() for _ in range(5)]
        assert {(reply.status, pool_of(reply)) for reply in replies} == {(503, "no_ready_pool")}
        assert not rig.takes()


async def test_a_length_of_many_digits_is_a_bad_answer_and_closes_the_pool(server, tmp_path):
    """Like any that cannot be read."""
    async with joined(server, tmp_path) as rig:
        server.json_length = "9" * 5000
        assert {pool_of(await rig.ask()) for _ in range(4)} == {"cpu"}
        assert not rig.takes()
        assert "is no number" in rig.explained()["words"]


async def test_a_request_that_ends_in_a_fault_of_ours_counts_as_a_failure(server, tmp_path, monkeypatch):
    """Or every request would be tried there, for ever."""
    async with joined(server, tmp_path) as rig:

        async def faulty(*given: object) -> None:
            raise KeyError

        monkeypatch.setattr(rig.upstream.lanes["mlp"], "ask", faulty)
        assert {pool_of(await rig.ask()) for _ in range(4)} == {"cpu"}
        assert not rig.takes()


async def test_readiness_that_never_ends_is_not_read_to_its_end(server, tmp_path):
    """A few bytes say it."""
    async with joined(server, tmp_path) as rig:
        server.padding = 5000
        await until(lambda: not rig.takes())
        assert rig.explained()["words"] == "upstream: its answer has more than 4096 bytes"


@pytest.mark.parametrize(("pinned", "asked", "told"), [
    ("", "", "7"), ("", "1", None), (", versions: {mlp: '7'}", "", "7"), (", versions: {mlp: '7'}", "1", "1"),
])  # fmt: skip
async def test_the_version_told_is_the_one_that_answered(server, tmp_path, pinned, asked, told):
    """One asked for is refused where another answers, unless the configuration says that this is the one."""
    server.version = "7"
    async with joined(server, tmp_path, pinned, with_cpu=False) as rig:
        reply = await rig.ask(version=asked)
        if told is None:
            assert (reply.status, pool_of(reply)) == (503, "no_ready_pool")
            assert rig.takes(), "nobody else may notice"
        else:
            assert msgspec.json.decode(reply.body)["model_version"] == told


async def test_an_upstream_that_comes_back_with_other_limits_is_measured_again(server, tmp_path):
    """Larger requests go elsewhere; and back, once it takes them again."""
    async with joined(server, tmp_path) as rig:
        for most, pool in ((8, "cpu"), (1024, "far")):
            await server.kill()
            await until(lambda: not rig.takes())
            server.max_rows = most
            await server.listen()
            await until(rig.takes)
            assert pool_of(await rig.ask(rows(1, 8))) == "far"
            assert {pool_of(await rig.ask(rows(1, 32))) for _ in range(4)} == {pool}


@pytest.mark.parametrize("content", ["", "x" * 100_000, None])
async def test_a_credential_file_that_holds_no_token_closes_the_pool(server, tmp_path, content):
    """Nothing is sent without it; a pipe, which would block, is not opened."""
    token = tmp_path / "token"
    token.write_text("first")
    async with joined(server, tmp_path, ", authorization_file: token") as rig:
        assert pool_of(await rig.ask()) == "far"
        token.unlink()
        if content is None:
            os.mkfifo(token)
        else:
            token.write_text(content)
        await until(lambda: not rig.takes(), 5)
        sent = len(server.seen)
        assert {pool_of(await rig.ask()) for _ in range(3)} == {"cpu"}
        assert len(server.seen) == sent
        assert rig.explained()["words"] == "upstream: authorization_file cannot be read"
