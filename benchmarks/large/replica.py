"""The replica's process: answers each item with its own tensors, and says what its memory did."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import uvloop

from deployments.link_replica import ReplicaEnd
from router.protocol.link import Answer, Item, Load, ModelGrant, Welcome

KEY = b"a key for the bench, 32 bytes..."
MEASURE = "measure"
"""Model whose answer is a Memory reading instead of an echo."""


class Memory:
    """Peak of this process's resident memory since the last reading, in bytes, above what it was then."""

    def __init__(self) -> None:
        self._before = 0

    def reading(self) -> int:
        """The growth since the last reading; starts the next."""
        status = Path("/proc/self/status").read_text()
        kib = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if line.startswith("Vm")}
        grown = int(kib["VmHWM"]) * 1024 - self._before
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        self._before = int(kib["VmRSS"]) * 1024
        return grown


def cpu_s() -> float:
    """CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Echo:
    """Implements link_replica.ReplicaListener."""

    def __init__(self) -> None:
        self._memory = Memory()

    def on_open(self, stream: ReplicaEnd) -> None:
        """Greet."""
        grant = ModelGrant("echo", "1", 1, 1 << 20, 1 << 40, [(1, 0.0)])
        stream.send(Welcome(1, "bench", "r1", "x86-cpu", "none", False, [grant], ""))

    def on_items(self, stream: ReplicaEnd, items: list[Item]) -> None:
        """Answer at once."""
        for item in items:
            measure = item.model == MEASURE
            detail = f"{self._memory.reading()} {cpu_s()}" if measure else ""
            stream.answer(Answer(item.id, "", detail, True, 0, 0, 0, 1, item.tensors))

    def on_cancel(self, stream: ReplicaEnd, ids: list[int]) -> None:
        """Everything has been answered."""

    def on_lost(self, stream: ReplicaEnd, why: str) -> None:
        """The bench is over."""
        asyncio.get_running_loop().stop()

    def load(self) -> Load:
        """None."""
        return Load({}, False, 0)


async def _listen() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: ReplicaEnd(KEY, Echo(), loop), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)


def main() -> None:
    """Print the port, echo until the router's end is gone."""
    loop = uvloop.new_event_loop()
    loop.run_until_complete(_listen())
    loop.run_forever()


if __name__ == "__main__":
    main()
