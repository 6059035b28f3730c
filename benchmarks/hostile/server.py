"""The data listener as a router runs it, before one pool that echoes: `python -m benchmarks.hostile.server KEY JSON`.

Everything up to the dispatcher is the product's: listener, handler, policy, decision, metrics. No replica, no Ray.
JSON: {"http": {…}, "limits": {…}} of a fleet file, less what it has anyway. Prints its port; ends with its stdin.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvloop
import yaml

from deployments.runtime import LoopTimers, RouterState, router_state
from models.repository import load_store
from router.api.heads import RequestIds
from router.api.listener import Listener
from router.api.plane import DataPlane
from router.config.load import load
from router.policy.credentials import digest
from router.protocol.link import Answer, ModelGrant, Tensor
from router.service.clock import SystemClock
from router.telemetry.metrics import Metrics

STORE = Path(__file__).resolve().parents[2] / "build" / "models"
CURVE = [(1, 1e-4), (8, 2.5e-4), (32, 1e-3)]


class Ticket:
    """One item that is being echoed, or kept."""

    replica, waited_s = "r1", 0.0

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        """Nobody waits for it."""
        self.cancelled = True


class Echo:
    """A dispatcher that gives back x as y a turn of the loop later, or when it is let go."""

    def __init__(self) -> None:
        self.hold = False
        """Keep what comes until `let_go`."""
        self.held: list[tuple[Ticket, Any, Any]] = []

    def send(self, pool, item, nbytes, deadline_s, on_answer, without=()):
        """Take it."""
        ticket = Ticket()
        self.held.append((ticket, item, on_answer))
        if not self.hold:
            asyncio.get_running_loop().call_soon(self.let_go)
        return ticket

    def let_go(self, count: int | None = None) -> None:
        """Answer the first `count` of what is held."""
        now, self.held = self.held[:count], self.held[count:] if count else []
        for ticket, item, on_answer in now:
            if not ticket.cancelled:
                outputs = [Tensor("y", t.datatype, t.shape, memoryview(bytes(t.data)).cast("B")) for t in item.tensors]
                on_answer(Answer(item.id, "", "", True, 100, 20, 300, 1, outputs, "1"))


def fleet_text(key: str, changes: dict[str, Any]) -> str:
    """The fleet file: one pool, the tenants `demo` (this key) and `other` (the same key with an x behind it)."""
    http = {"host": "127.0.0.1", "port": 0} | changes.get("http", {})
    tenants = [{"id": name, "keys": [f"sha256:{digest(k)}"]} for name, k in (("demo", key), ("other", key + "x"))]
    pool = {"name": "cpu", "accelerator": "x86-cpu", "region": "here", "backend": {"type": "onnx"}, "models": ["mlp"]}
    return yaml.safe_dump(
        {
            "pools": [pool], "tenants": tenants, "policy_default": "allow",
            "models": {"mlp": {"deadline": "5s"}}, "server": {"http": http}, "limits": changes.get("limits", {}),
        }
    )  # fmt: skip


async def serve(key: str, changes: dict[str, Any], folder: Path) -> tuple[Listener, RouterState, Echo, int]:
    """Open a listener on the running loop. Returns its parts and port."""
    path = folder / "fleet.yaml"
    path.write_text(fleet_text(key, changes))
    settings = load(path)
    timers = LoopTimers(asyncio.get_running_loop())
    state = router_state(settings, load_store(STORE), timers, SystemClock(), Metrics(folder / "metrics"))
    echo = Echo()
    state.handler.dispatcher = echo
    state.fleet.replica_up("cpu", "r1", [ModelGrant("mlp", "1", 32, 100_000, 1 << 30, CURVE)])
    http = settings.server.http
    listener = Listener(DataPlane(state.handler, RequestIds("hostile"), http, settings.limits.body_bytes, "0"))
    _, port = await listener.open(http.host, http.port)
    return listener, state, echo, port


async def main() -> None:
    """Serve until stdin ends."""
    with tempfile.TemporaryDirectory() as folder:
        listener, state, _, port = await serve(sys.argv[1], json.loads(sys.argv[2]), Path(folder))
        print(port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await listener.leave(0.0, 1.0)
        state.metrics.close()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        uvloop.run(main())
