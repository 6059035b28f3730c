"""Keeps one metrics server process alive per node: whichever router replica holds the lock owns it.

The server reads what all routers of the node write, so a scrape never costs a router anything. It ends with its owner;
then another router replica takes the lock and starts the next.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import sys
from pathlib import Path

log = logging.getLogger("pointsman.metrics")

RETRY_S = 0.5


class MetricsProcess:
    """Call `keep` as a task; cancelling it ends the server process, if this replica owns it."""

    def __init__(self, folder: Path, host: str, port: int) -> None:
        self._folder = folder
        self._host = host
        self._port = port

    async def keep(self) -> None:
        """Wait for the lock, then run the server again and again until cancelled."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._folder / "server.owner", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            while not _locked(lock):  # noqa: ASYNC110  (another process holds it: there is no event to await)
                await asyncio.sleep(RETRY_S)
            while True:
                status = await self._run()
                log.warning("metrics server on %s:%d ended with status %s", self._host, self._port, status)
                await asyncio.sleep(RETRY_S)
        finally:
            os.close(lock)

    async def _run(self) -> int:
        """One server process, from start to end. It ends when its standard input does, so it cannot outlive us."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "router.telemetry.server",
            "--dir", str(self._folder), "--host", self._host, "--port", str(self._port),
            stdin=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            return await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
