"""Large tensors and small requests on one stream: `python -m benchmarks.large`. Linux only.

Two processes under uvloop, a RouterEnd here and a ReplicaEnd there, over loopback. Small items of 1 KiB are sent at a
steady rate whatever the answers do, alone and beside large items sent back to back; then large ones alone. The peer
echoes. Alone and beside take turns, so that what else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import sys
import time

import uvloop

from benchmarks.large import bare
from benchmarks.large.replica import KEY, MEASURE, Memory, cpu_s
from deployments.link_router import RouterEnd
from router.protocol.link import Answer, Item, Load, Tensor, Welcome

MIB = 1 << 20
SMALL_BYTES = 1024


class Sent:
    """One item on its way; link_router.Outgoing."""

    def __init__(self, item: Item, nbytes: int) -> None:
        self.item, self.nbytes = item, nbytes
        self.deadline_s, self.ended = time.perf_counter() + 60, False
        self.answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.at_s = time.perf_counter()
        self.took_s = 0.0


class Client:
    """The router's process. Implements link_router.RouterListener."""

    def __init__(self) -> None:
        self.open: dict[int, Sent] = {}
        self.ids = 0
        self.end = RouterEnd(KEY, self, asyncio.get_running_loop(), time.perf_counter)

    def submit(self, model: str, data: memoryview) -> Sent:
        """Send one item."""
        self.ids += 1
        tensors = [Tensor("x", "UINT8", [1, data.nbytes], data)]
        sent = Sent(Item(self.ids, model, "1", 0, 1, "bench", "p", "r", 1, [], tensors), data.nbytes)
        self.open[self.ids] = sent
        self.end.submit(sent)
        return sent

    def on_welcome(self, stream: RouterEnd, welcome: Welcome) -> None:
        """Ready."""

    def on_answers(self, stream: RouterEnd, answers: list[Answer], load: Load) -> None:
        """Each ends its item."""
        now_s = time.perf_counter()
        for answer in answers:
            sent = self.open.pop(answer.id)
            sent.took_s = now_s - sent.at_s
            sent.answered.set_result(answer)

    def on_unsent(self, stream: RouterEnd, answer: Answer) -> None:
        """Never here."""
        raise AssertionError(answer)

    def on_drain(self, stream: RouterEnd) -> None:
        """Never here."""

    def on_lost(self, stream: RouterEnd, why: str) -> None:
        """The end of the bench, or a fault: whoever waits is told."""
        for sent in self.open.values():
            sent.answered.set_exception(ConnectionError(why))


async def small(client: Client, rate: float, seconds: float) -> list[float]:
    """Latencies in seconds of small items sent at `rate` a second."""
    data = memoryview(bytes(SMALL_BYTES))
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    sent = []
    for number in range(int(rate * seconds)):
        due_s = begun_s + number / rate
        if (wait_s := due_s - loop.time()) > 0:
            await asyncio.sleep(wait_s)
        sent.append(client.submit("echo", data))
    await asyncio.gather(*(each.answered for each in sent))
    return [each.took_s for each in sent]


async def large(client: Client, data: memoryview, until_s: float) -> int:
    """Echo large items one after the other; how many."""
    count = 0
    while time.perf_counter() < until_s:
        answer = await client.submit("echo", data).answered
        assert answer.tensors[0].data.nbytes == data.nbytes
        del answer
        count += 1
    return count


async def beside(client: Client, data: memoryview, args: argparse.Namespace) -> tuple[list[float], float]:
    """Small items beside large ones: their latencies, and MB/s of the large ones in each direction."""
    started_s = time.perf_counter()
    until_s = started_s + args.seconds
    tasks = [asyncio.create_task(large(client, data, until_s)) for _ in range(args.inflight)]
    latencies = await small(client, args.rate, args.seconds) if args.rate else []
    count = sum(await asyncio.gather(*tasks))
    return latencies, count * data.nbytes / (time.perf_counter() - started_s) / 1e6


async def measure(client: Client) -> tuple[int, float]:
    """Peak memory growth of the replica since the last reading, and its CPU seconds."""
    answer = await client.submit(MEASURE, memoryview(b"x")).answered
    grown, used_s = answer.detail.split()
    return int(grown), float(used_s)


async def memory(client: Client, data: memoryview) -> tuple[float, float]:
    """Growth of both processes while one large item is echoed, in sizes of that item. The item is there already."""
    own, here, there = Memory(), [], []
    for _ in range(5):
        gc.collect()
        await measure(client)
        own.reading()
        answer = await client.submit("echo", data).answered
        here.append(own.reading() / data.nbytes)
        del answer
        there.append((await measure(client))[0] / data.nbytes)
    return statistics.median(here), statistics.median(there)


def quantiles_ms(latencies: list[float]) -> tuple[float, float]:
    """p50 and p99 in milliseconds."""
    cuts = statistics.quantiles(latencies, n=100)
    return cuts[49] * 1e3, cuts[98] * 1e3


async def bench(port: int, args: argparse.Namespace) -> dict[str, float]:
    """All of it, against the replica on that port."""
    client = Client()
    await asyncio.get_running_loop().create_connection(lambda: client.end, "127.0.0.1", port)
    await client.end.settled.wait()
    data = memoryview(bytearray(b"\x5a") * (args.mib * MIB))
    rows: dict[str, list[float]] = {}

    def note(**values: float) -> None:
        for name, value in values.items():
            rows.setdefault(name, []).append(value)

    await small(client, 200, 0.5)
    for _ in range(args.rounds):
        p50, p99 = quantiles_ms(await small(client, args.rate, args.seconds))
        note(alone_p50_ms=p50, alone_p99_ms=p99)
        latencies, speed = await beside(client, data, args)
        p50, p99 = quantiles_ms(latencies)
        note(beside_p50_ms=p50, beside_p99_ms=p99, beside_large_mb_per_s=speed)
        quiet = argparse.Namespace(seconds=args.seconds, inflight=args.inflight, rate=0)
        here_s, (_, there_s), began_s = cpu_s(), await measure(client), time.perf_counter()
        _, speed = await beside(client, data, quiet)
        gigabytes = speed * (time.perf_counter() - began_s) / 1e3
        note(large_mb_per_s=speed, bare_mb_per_s=bare.megabytes_per_s(data.nbytes, 10))
        note(router_cpu_ms_per_gb=(cpu_s() - here_s) / gigabytes * 1e3)
        note(replica_cpu_ms_per_gb=((await measure(client))[1] - there_s) / gigabytes * 1e3)
    here, there = await memory(client, data)
    note(router_growth=here, replica_growth=there)
    client.end.close("done")
    return {name: statistics.median(values) for name, values in rows.items()}


def main() -> None:
    """Start the replica, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--rate", type=float, default=500.0, help="small items a second")
    parser.add_argument("--inflight", type=int, default=2, help="large items at the same time")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each phase")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    command = [sys.executable, "-m", "benchmarks.large.replica"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as replica:
        assert replica.stdout is not None
        port = int(replica.stdout.readline())
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(json.dumps(runner.run(bench(port, args)), indent=1))


if __name__ == "__main__":
    main()
