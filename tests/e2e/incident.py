"""What befalls a fleet under load, and what its clients and metrics saw of it. No request may be unaccounted for."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
from fleet import POINTSMAN, ROOT, Fleet, eventually
from load import Tally, load

BACK_S = 90.0
"""A replica is back in 5 to 10 s on an idle machine; only a fault takes this long."""
CLIENTS = 24


@dataclass
class Incident:
    """A time under load. Seconds by name in `figures`, for the report."""

    fleet: Fleet
    tally: Tally
    at_s: float = field(default_factory=time.monotonic)
    counted: float = 0.0
    """Requests that the metrics counted meanwhile; known once the load is over."""
    retried: float = 0.0
    figures: dict[str, object] = field(default_factory=dict)

    def kill(self, *pids: int, how: signal.Signals = signal.SIGKILL) -> None:
        """Signal these processes; the incident begins now."""
        self.at_s = time.monotonic()
        for pid in pids:
            os.kill(pid, how)

    def since_s(self, name: str, holds: Callable[[], object], timeout_s: float = BACK_S) -> float:
        """Wait for something and note how long after the incident it came."""
        eventually(holds, timeout_s)
        self.figures[name] = round(time.monotonic() - self.at_s, 2)
        return time.monotonic() - self.at_s

    def ready(self, pool: str, replicas: int) -> Callable[[], bool]:
        """Whether the routers see that many ready replicas of the pool."""
        return lambda: self.fleet.metric("pointsman_pool_ready_replicas", pool=pool) == replicas


@contextmanager
def incident(fleet: Fleet, tenant: str, **options: object) -> Iterator[Incident]:
    """Load of one tenant, with keep-alive and new connections, around the block.

    Afterwards every request that was sent has ended, for its client, exactly once.
    """
    fleet.flushed()
    counted, retried = fleet.metric("pointsman_requests_total"), fleet.metric("pointsman_retries_total")
    with load(fleet.http_url, fleet.headers(tenant), **options) as tally:  # type: ignore[arg-type]
        seen = Incident(fleet, tally)
        yield seen
    fleet.flushed()
    seen.counted = fleet.metric("pointsman_requests_total") - counted
    seen.retried = fleet.metric("pointsman_retries_total") - retried
    assert tally.sent == len(tally.ended)
    seen.figures |= {
        "sent": tally.sent, "failed": tally.failed(), "retried": int(seen.retried),
        "longest_s": round(tally.longest_s(), 2), "gap_s": round(tally.gap_s(), 2),
    }  # fmt: skip


def restart(fleet: Fleet, name: str) -> None:
    """`pointsman restart NAME`, to its end."""
    command = [POINTSMAN, "restart", name, "--config", fleet.config, "--state", fleet.state]
    done = subprocess.run(command, cwd=ROOT, env=fleet.environment, capture_output=True, text=True, timeout=BACK_S * 2)
    assert done.returncode == 0, done.stderr


def answers(fleet: Fleet) -> bool:
    """Whether the port answers at all."""
    try:
        return httpx.get(f"{fleet.http_url}/-/healthz", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
