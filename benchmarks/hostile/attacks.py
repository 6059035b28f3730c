"""One attack on a listener, from a process of its own: `python -m benchmarks.hostile.attacks NAME PORT KEY`.

Prints `ready` once it is under way and goes on until its stdin ends; then prints what came of it. Knows nothing of the
server but its port.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import resource
import sys
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

import uvloop

INFER = "/v2/models/mlp/infer"
LARGE_BYTES = 6 * 1024 * 1024
PARALLEL = 16
DONE: Counter[str] = Counter()


def head(key: str, **headers: object) -> bytes:
    """An inference head; `a_b` among the headers is `a-b`."""
    lines = [f"POST {INFER} HTTP/1.1", "host: a", *([f"authorization: Bearer {key}"] if key else [])]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def large_json() -> bytes:
    """As large as JSON may nearly be, and well-formed; refused by the model only once all of it is parsed."""
    rows = LARGE_BYTES // (256 * 8)
    numbers = ",".join(["0.12345"] * (256 * rows))
    tensor = f'{{"name":"x","shape":[{rows},256],"datatype":"FP32","data":[{numbers}]}}'
    return f'{{"inputs":[{tensor}]}}'.encode()


def bomb() -> bytes:
    """A GiB of zeros in about a MiB of gzip."""
    machine = zlib.compressobj(9, wbits=31)
    block = bytes(1 << 20)
    return b"".join(machine.compress(block) for _ in range(1024)) + machine.flush()


async def again_and_again(port: int, once: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]):
    """A new connection for each, for ever, whatever becomes of the last."""
    while True:
        writer = None
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            DONE["connections"] += 1
            await once(reader, writer)
        if writer is None:
            await asyncio.sleep(0.01)
        else:
            writer.transport.abort()


async def answer(reader: asyncio.StreamReader) -> None:
    """Read the first line of an answer and count its status."""
    line = await reader.readline()
    DONE[line.split()[1].decode() if line else "hung up on"] += 1


def sending(data: bytes):
    """Send these bytes, read the beginning of the answer."""

    async def once(reader, writer):
        writer.write(data)
        await asyncio.gather(writer.drain(), answer(reader))

    return once


async def slowly(reader, writer):
    """A byte of a head a second."""
    gone = asyncio.ensure_future(answer(reader))
    for byte in head("", x_junk="a" * 10_000):
        writer.write(bytes([byte]))
        await asyncio.wait([gone], timeout=1.0)
        if gone.done():
            return


async def silent(reader, writer):
    """Nothing."""
    await answer(reader)


def attacks(key: str) -> dict[str, tuple[int, Callable]]:
    """Number of connections and what each does, by name."""
    body = large_json()
    small = json.dumps({"inputs": []}).encode()
    tries = (
        head(key, content_length=5, transfer_encoding="chunked") + b"0\r\n\r\n",
        head(key, transfer_encoding="identity, chunked") + b"0\r\n\r\n",
        head(key, content_length="2 ") + b"{}" + b"GET / HTTP/1.1\n\n",
    )
    packed, inflating = gzip.compress(small), bomb()
    return {
        "nothing": (0, silent),
        "slowloris": (1000, slowly),
        "idle": (10_000, silent),
        "bodies-strangers": (PARALLEL, sending(head("", content_length=len(body)) + body)),
        "bodies-known": (PARALLEL, sending(head(key, content_length=len(body)) + body)),
        "bombs": (PARALLEL, sending(head(key, content_encoding="gzip", content_length=len(inflating)) + inflating)),
        "bad-gzip": (PARALLEL, sending(head(key, content_encoding="gzip", content_length=len(packed)) + packed[::-1])),
        "smuggling": (PARALLEL, sending(b"".join(tries))),
        "churn": (PARALLEL, sending(b"GET /-/healthz HTTP/1.1\r\nhost: a\r\n\r\n")),
    }


async def main() -> None:
    """Attack until stdin ends."""
    name, port, key = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.nice(5)
    number, once = attacks(key)[name]
    tasks = []
    for begun in range(number):
        tasks.append(asyncio.ensure_future(again_and_again(port, once)))
        if begun % 100 == 99:
            await asyncio.sleep(0.02)
    await asyncio.sleep(1.0)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(", ".join(f"{count} {what}" for what, count in sorted(DONE.items())), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
