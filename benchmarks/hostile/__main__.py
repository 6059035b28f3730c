"""What attackers cost everybody else: `python -m benchmarks.hostile [--seconds S] [--rate R] [--only NAME,…]`.

Normal clients ask at a fixed rate, far below what the listener could serve, alone and then under each attack. Goodput
is their answers per second that came in time, measured from when each request was due.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import uvloop

from benchmarks.hostile.attacks import head

ROOT = Path(__file__).resolve().parents[2]
KEY = "pm_0123456789abcdef0123456789abcdef"
ATTACKER = KEY + "x"
"""Another tenant's key."""
ATTACKS = (
    "slowloris", "idle", "bodies-strangers", "bodies-known", "bombs", "bad-gzip", "smuggling", "churn",
)  # fmt: skip
CLIENTS = 50
IN_TIME_S = 0.25
WARM_S = 0.5


@dataclass
class Seen:
    """What normal clients saw."""

    latencies_s: list[float] = field(default_factory=list)
    failed: int = 0
    seconds: float = 0.0
    attacker: str = ""
    rss_mib: float = 0.0
    cpu: float = 0.0

    @property
    def goodput(self) -> float:
        """Answers in time, per second."""
        return sum(latency_s <= IN_TIME_S for latency_s in self.latencies_s) / self.seconds

    def quantile_ms(self, share: float) -> float:
        """Of the latency of all that were answered."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3 if ordered else float("nan")


def small_request() -> bytes:
    """One row of the MLP."""
    tensor = {"name": "x", "shape": [1, 256], "datatype": "FP32", "data": [0.12345] * 256}
    body = json.dumps({"inputs": [tensor]}).encode()
    return head(KEY, content_length=len(body)) + body


async def client(port: int, start_s: float, every_s: float, end_s: float, seen: Seen, data: bytes) -> None:
    """One connection that asks at its times, or as soon after as it can."""
    reader = writer = None
    due_s = start_s
    while due_s < end_s:
        await asyncio.sleep(due_s - time.perf_counter())
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            lines = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5.0)).split(b"\r\n")
            length = next(int(line[16:]) for line in lines if line.startswith(b"content-length: "))
            await reader.readexactly(length)
            if lines[0].split()[1] != b"200":
                raise ConnectionError(lines[0])
            seen.latencies_s.append(time.perf_counter() - due_s)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            seen.failed += 1
            if writer is not None:
                writer.transport.abort()
            writer = None
        due_s += every_s


async def normal(port: int, rate: float, seconds: float) -> Seen:
    """Normal clients at this rate in all, their times spread evenly."""
    seen, data = Seen(seconds=seconds), small_request()
    start_s, every_s = time.perf_counter() + 0.1, CLIENTS / rate
    end_s = start_s + seconds
    starts = (start_s + number / rate for number in range(CLIENTS))
    await asyncio.gather(*(client(port, start, every_s, end_s, seen, data) for start in starts))
    return seen


def start(module: str, *arguments: str) -> subprocess.Popen[str]:
    """A process of this benchmark."""
    command = [sys.executable, "-m", f"benchmarks.hostile.{module}", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def measure(attack: str, rate: float, seconds: float) -> Seen:
    """A fresh listener, the attack under way, then normal clients."""
    server = start("server", KEY, json.dumps({"http": {"head_timeout": "5s"}}))
    assert server.stdout is not None
    port = int(server.stdout.readline())
    attacker = None
    try:
        uvloop.run(normal(port, rate, WARM_S))
        if attack:
            attacker = start("attacks", attack, str(port), ATTACKER)
            assert attacker.stdout is not None
            attacker.stdout.readline()
        process = psutil.Process(server.pid)
        process.cpu_percent()
        seen = uvloop.run(normal(port, rate, seconds))
        seen.cpu, seen.rss_mib = process.cpu_percent(), process.memory_info().rss / 2**20
        if attacker is not None:
            seen.attacker = attacker.communicate(timeout=30)[0].strip()
        return seen
    finally:
        for one in (attacker, server):
            if one is not None and one.poll() is None:
                one.terminate() if one is attacker else one.communicate(timeout=30)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=400.0)
    parser.add_argument("--only", default=",".join(ATTACKS))
    arguments = parser.parse_args()
    titles = f"{'goodput/s':>10}{'kept':>7}{'p50 ms':>8}{'p99 ms':>8}{'failed':>7}{'cpu %':>7}{'MiB':>6}"
    print(f"{'attack':18}{titles}  attacker")
    alone = 0.0
    for attack in ["", *arguments.only.split(",")]:
        seen = measure(attack, arguments.rate, arguments.seconds)
        alone = alone or seen.goodput
        print(
            f"{attack or 'none':18}{seen.goodput:10.1f}{seen.goodput / alone:7.1%}{seen.quantile_ms(0.5):8.1f}"
            f"{seen.quantile_ms(0.99):8.1f}{seen.failed:7}{seen.cpu:7.0f}{seen.rss_mib:6.0f}  {seen.attacker}",
            flush=True,
        )


if __name__ == "__main__":
    main()
