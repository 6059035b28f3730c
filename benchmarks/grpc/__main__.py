"""What gRPC costs, without replicas and Ray: `python -m benchmarks.grpc` (the load needs `h2load` and `wrk`).

First the codec, microseconds a request, the least of many short runs. Then both listeners over one handler whose pool
gives back what it gets, so that what differs is the wire: requests a second, latency (h2load: mean, wrk: median), and
CPU of the router a request.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import orjson
import psutil
import uvloop

from benchmarks.exchange.__main__ import CURVE, ROOT, least_us
from benchmarks.http.fleets import pointsman_fleet
from deployments.runtime import LoopTimers, router_state
from models.repository import load_store
from router.api.grpc_listener import GrpcListener
from router.api.grpc_servicer import SERVICE
from router.api.heads import RequestIds
from router.api.listener import Listener
from router.api.plane import DataPlane
from router.config.load import load
from router.config.settings import GrpcSettings
from router.protocol import oip
from router.protocol.codec import ParseLimits
from router.protocol.link import Answer, ModelGrant, Tensor
from router.protocol.oip_grpc import MessageCodec, decode
from router.protocol.proto import open_inference_pb2 as pb
from router.service.clock import SystemClock
from router.telemetry.metrics import Metrics

ROW = np.random.default_rng(1).random((1, 256)).astype("<f4")
SECONDS = 5
LIMITS = ParseLimits(1 << 20, 1 << 23)


class Echo:
    """A dispatcher that answers with the input, one turn of the loop later."""

    replica, waited_s = "r1", 0.0

    def send(self, pool, item, nbytes, deadline_s, on_answer, without=()):
        """Answer soon."""
        x = item.tensors[0]
        answer = Answer(item.id, "", "", True, 1, 1, 1, 1, [Tensor("y", "FP32", x.shape, x.data)], "1")
        asyncio.get_running_loop().call_soon(on_answer, answer)
        return self

    def cancel(self) -> None:
        """Nothing is under way."""


def message(raw: bool) -> bytes:
    """A request of 256 floats."""
    request = pb.ModelInferRequest(model_name="mlp")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 256])
    if raw:
        request.raw_input_contents.append(ROW.tobytes())
    else:
        tensor.contents.fp32_contents.extend(ROW[0].tolist())
    return request.SerializeToString()


def json_body() -> bytes:
    """The same as JSON, four digits an element."""
    data = ROW[0].round(4).tolist()
    return orjson.dumps({"inputs": [{"name": "x", "shape": [1, 256], "datatype": "FP32", "data": data}]})


def codec_table() -> None:
    """Microseconds of parsing and encoding, JSON beside protobuf."""
    output = [Tensor("y", "FP32", [1, 256], memoryview(ROW).cast("B"))]
    rows = {}
    for name, raw in (("raw", True), ("typed", False)):
        body = message(raw)
        codec = MessageCodec(decode(body))
        asked = codec.parse(b"", LIMITS)

        def answer(codec=codec, asked=asked) -> bytes:
            encoded = codec.encode("mlp", "1", asked, output)
            return b"".join((encoded.body, *encoded.more))

        rows[f"{name} in, 256 floats"] = lambda body=body: MessageCodec(decode(body)).parse(b"", LIMITS)
        rows[f"{name} out, 256 floats"] = answer
    text = json_body()
    rows["JSON in, 256 floats"] = lambda: oip.parse_infer(text, LIMITS)
    rows["JSON out, 256 floats"] = lambda: oip.encode_infer("mlp", "1", "", output)
    for name, call in rows.items():
        print(f"{name:28}{least_us(call):8.1f} µs")


async def serve() -> None:
    """Both listeners, until killed; their ports and the key on stdout."""
    with tempfile.TemporaryDirectory() as folder:
        path, key = pointsman_fleet("preferred", ROOT, Path(folder), ROOT / "build/models/mlp/1/model.onnx")
        settings, specs = load(path, None), load_store(ROOT / "build" / "models")
        timers, metrics = LoopTimers(asyncio.get_running_loop()), Metrics(Path(folder) / "metrics")
        state = router_state(settings, specs, timers, SystemClock(), metrics)
        state.handler.dispatcher = Echo()
        for pool in settings.pools:
            state.fleet.replica_up(pool.facts.name, "r1", [ModelGrant("mlp", "1", 32, 4096, 1 << 28, CURVE)])
        plane = DataPlane(state.handler, RequestIds("bench"), settings.server.http, settings.limits.body_bytes, "0")
        _, http = await Listener(plane).open("127.0.0.1", 0)
        listener = GrpcListener(plane)
        _, grpc = await listener.open(GrpcSettings(True, "127.0.0.1", 0))
        print(json.dumps([http, grpc, key]), flush=True)
        await asyncio.Event().wait()


def load_table() -> None:
    """Both listeners at 1 and 32 clients."""
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.grpc", "--serve"], stdout=subprocess.PIPE)
    http, grpc, key = json.loads(server.stdout.readline())
    process = psutil.Process(server.pid)
    with tempfile.TemporaryDirectory() as folder:
        framed, script = Path(folder, "body"), Path(folder, "post.lua")
        body = message(True)
        framed.write_bytes(b"\0" + struct.pack(">I", len(body)) + body)
        text = json_body().decode()
        auth = f"authorization: Bearer {key}"
        script.write_text(f"wrk.method='POST'\nwrk.headers['authorization']='Bearer {key}'\nwrk.body='{text}'\n")
        for clients in (1, 32):
            h2load = [
                "h2load", "-D", SECONDS, "--warm-up-time=1", "-c", clients, "-m", 1, "-d", framed, "-H", auth,
                "-H", "content-type: application/grpc", "-H", "te: trailers",
                f"http://127.0.0.1:{grpc}/{SERVICE}/ModelInfer",
            ]  # fmt: skip
            wrk = ["wrk", "-t1", f"-c{clients}", f"-d{SECONDS}s", "--latency", "-s", script]
            for name, command in (("gRPC", h2load), ("HTTP", [*wrk, f"http://127.0.0.1:{http}/v2/models/mlp/infer"])):
                before = sum(process.cpu_times()[:2])
                out = subprocess.run([str(part) for part in command], capture_output=True, text=True).stdout
                cpu_s = sum(process.cpu_times()[:2]) - before
                rates = re.search(r"([\d.]+) req/s|Requests/sec:\s+([\d.]+)", out)
                latency = re.search(r"time for request:\s+\S+\s+\S+\s+(\S+)|50%\s+(\S+)", out)
                rate, said = float(rates[1] or rates[2]), latency[1] or latency[2]
                seconds = SECONDS + (name == "gRPC")
                print(f"{name} c={clients:3} {rate:8.0f}/s  {said:>9}  {cpu_s / seconds / rate * 1e6:6.0f} µs CPU")
    server.terminate()
    server.wait()


if __name__ == "__main__":
    if "--serve" in sys.argv:
        uvloop.run(serve())
    codec_table()
    if shutil.which("h2load") and shutil.which("wrk"):
        load_table()
