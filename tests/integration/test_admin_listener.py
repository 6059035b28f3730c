"""The admin listener on a real socket: few connections, none of them for long, small heads; apart from any other."""

import asyncio
from contextlib import asynccontextmanager

import httpx
import pytest

from router.api import admin
from router.api.admin import AdminListener

pytestmark = pytest.mark.asyncio


class Plane:
    """What the health path needs; the others have their tests in tests/unit/router/api."""

    leaving = False
    request_ids = None


@asynccontextmanager
async def listening():
    """A listener on a free port."""
    listener = AdminListener(Plane(), dict)
    try:
        yield listener, *await listener.open("127.0.0.1", 0)
    finally:
        listener.close()


async def ends(reader) -> bytes:
    """What still comes until the server hangs up."""
    try:
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b""


async def test_connections_beyond_a_few_are_closed_and_a_free_place_is_given_again(monkeypatch):
    """Also while the others say nothing."""
    monkeypatch.setattr(admin, "MAX_CONNECTIONS", 3)
    async with listening() as (_, host, port):
        held = [await asyncio.open_connection(host, port) for _ in range(3)]
        reader, writer = await asyncio.open_connection(host, port)
        assert await ends(reader) == b""
        writer.close()
        for _, each in held:
            each.close()
            await each.wait_closed()
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
            assert (await client.get("/-/healthz")).text == "success\n"


@pytest.mark.parametrize(
    "sent", [b"", b"GET /-/healthz HTTP/1.1\r\nx: ", b"GET /-/healthz HTTP/1.1\r\nhost: a\r\n\r\n"]
)
async def test_a_connection_does_not_live_long(monkeypatch, sent):
    """Whether it is silent, slow with its head, or idle after an answer."""
    monkeypatch.setattr(admin, "LIFE_S", 0.2)
    async with listening() as (_, host, port):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(sent)
        assert (b"success" in await ends(reader)) == sent.endswith(b"\r\n\r\n")
        writer.close()


async def test_an_endless_head_is_refused():
    """Before it is whole."""
    async with listening() as (_, host, port):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET /-/healthz HTTP/1.1\r\nx: " + b"a" * 2 * admin.MAX_HEAD_BYTES)
        assert (await ends(reader)).startswith(b"HTTP/1.1 4")
        writer.close()


async def test_listeners_share_their_port_and_a_closed_one_hangs_up():
    """As router replicas of one node do."""
    async with listening() as (first, host, port):
        second = AdminListener(Plane(), dict)
        assert await second.open(host, port) == (host, port)
        assert (first.is_open, second.is_open) == (True, True)
        readers = [(await asyncio.open_connection(host, port))[0] for _ in range(8)]
        await asyncio.sleep(0)
        first.close()
        second.close()
        assert [await ends(reader) for reader in readers] == [b""] * 8
        assert not first.is_open
