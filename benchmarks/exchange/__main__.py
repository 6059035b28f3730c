"""Microseconds of the router per request and stage: `python -m benchmarks.exchange`. No socket, no replica, no Ray.

Each figure is the least of many short runs: what the code costs when nothing disturbs it. A live router pays about
twice that, since its caches are shared with everything else that runs.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson

from benchmarks.http.fleets import pointsman_fleet
from deployments.runtime import LoopTimers, router_state
from models import tensors
from models.repository import load_store
from router.api.heads import RequestIds, infer_path, read_head
from router.api.http import InferProtocol
from router.api.plane import DataPlane
from router.config.load import load
from router.protocol.codec import ParseLimits
from router.protocol.link import Answer, ModelGrant, Tensor
from router.protocol.oip import parse_infer
from router.protocol.oip_answers import encode_infer
from router.service.clock import SystemClock
from router.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
CURVE = [(1, 1e-4), (8, 2.5e-4), (32, 1e-3)]
PATH = b"/v2/models/mlp/infer"
LIMITS = ParseLimits(max_elements=1 << 20, max_json_bytes=1 << 20)


class Wire(asyncio.Transport):
    """Swallows what is written."""

    def write(self, data: object) -> None:
        """Dropped."""

    def is_closing(self) -> bool:
        """Never."""
        return False


class Echo:
    """A dispatcher that keeps the last item; the bench answers it."""

    replica, waited_s = "r1", 0.0

    def send(self, pool, item, nbytes, deadline_s, on_answer, without=()):
        """Keep it."""
        self.item, self.on_answer = item, on_answer
        return self

    def cancel(self) -> None:
        """Nothing is under way."""


def least_us(call: Callable[[], object], repeat: int = 60, number: int = 300) -> float:
    """Least mean time of one call over `repeat` runs of `number`."""
    best = float("inf")
    for _ in range(repeat):
        started = time.perf_counter()
        for _ in range(number):
            call()
        best = min(best, (time.perf_counter() - started) / number)
    return best * 1e6


async def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        path, key = pointsman_fleet("preferred", ROOT, Path(folder), ROOT / "build/models/mlp/1/model.onnx")
        settings, specs = load(path, None), load_store(ROOT / "build" / "models")
        state = router_state(
            settings, specs, LoopTimers(asyncio.get_running_loop()), SystemClock(), Metrics(Path(folder) / "metrics")
        )
        handler, echo = state.handler, Echo()
        handler.dispatcher = echo
        for pool in settings.pools:
            state.fleet.replica_up(pool.facts.name, "r1", [ModelGrant("mlp", "1", 32, 128, 1 << 26, CURVE)])
        rng = np.random.default_rng(1)
        row = rng.random((1, 256)).astype("f4")
        body = orjson.dumps(
            {"inputs": [{"name": "x", "shape": [1, 256], "datatype": "FP32", "data": row[0].round(4).tolist()}]}
        )
        output = [Tensor("y", "FP32", [1, 256], memoryview(row).cast("B"))]
        headers = [(b"host", b"a"), (b"authorization", b"Bearer " + key.encode()), (b"x-pointsman-timeout", b"1s")]
        ids = RequestIds("bench")
        plane = DataPlane(handler, ids, settings.server.http, settings.limits.body_bytes, "0")
        protocol = InferProtocol(plane)
        protocol.connection_made(Wire())
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        request = b"POST %b HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n%b" % (PATH, lines, len(body), body)
        accepted = specs["mlp"]["1"].accepted_inputs()
        parsed = parse_infer(body, LIMITS)

        def answer() -> Answer:
            return Answer(echo.item.id, "", "", True, 100, 20, 300, 8, output, "1")

        def exchange() -> None:
            handler.start(read_head(("mlp", ""), headers, ids), body, lambda reply: None)
            echo.on_answer(answer())

        def whole() -> None:
            protocol.data_received(request)
            echo.on_answer(answer())

        whole()
        rows = {
            "HTTP in, exchange, HTTP out": whole,
            "exchange alone, new connection": exchange,
            "  head": lambda: read_head(infer_path(PATH), headers, ids),
            "  JSON in, 256 floats": lambda: parse_infer(body, LIMITS),
            "  check": lambda: tensors.check(accepted, parsed.inputs),
            "  snapshot of 3 pools": lambda: state.fleet.snapshot(time.perf_counter()),
            "  JSON out, 256 floats": lambda: encode_infer("mlp", "1", "", output),
        }
        for name, call in rows.items():
            print(f"{name:34}{least_us(call):8.1f} µs")


if __name__ == "__main__":
    asyncio.run(main())
