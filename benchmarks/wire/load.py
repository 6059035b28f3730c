"""The two load generators, each for all servers: wrk for JSON and binary bodies, h2load for gRPC.

One thread, closed loop, one request at a time on each connection.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.http.load import SCRIPT, lua_string, wrk

GRPC_PATH = "/inference.GRPCInferenceService/ModelInfer"
GRPC_HEADERS = {"content-type": "application/grpc", "te": "trailers"}


class Run(msgspec.Struct, frozen=True):
    """One run of one generator. What failed is not in `answered_per_s`."""

    connections: int
    answered_per_s: float
    p50_s: float
    p99_s: float
    errors: int
    data_bytes: float = 0.0
    """Of a gRPC answer, on average: an error has none, and HTTP says 200 to both."""


def over_http(folder: Path, body: Path, headers: dict[str, str], port: int, connections: int, seconds: int) -> Run:
    """wrk with a body that may be any bytes."""
    script = folder / "request.lua"
    lines = "\n".join(f"wrk.headers[{lua_string(key)}] = {lua_string(value)}" for key, value in headers.items())
    script.write_text(SCRIPT.format(body=f"assert(io.open({lua_string(str(body))}, 'rb')):read('*a')", headers=lines))
    raw = wrk(script, port, connections, seconds)
    good = raw["requests"] - raw["status_errors"]
    return Run(
        connections, good / (raw["duration_us"] / 1e6), raw["p50_us"] / 1e6, raw["p99_us"] / 1e6,
        raw["status_errors"] + raw["socket_errors"],
    )  # fmt: skip


def over_grpc(folder: Path, body: Path, headers: dict[str, str], port: int, connections: int, seconds: int) -> Run:
    """h2load with one stream a connection. Raises RuntimeError with its words."""
    log = folder / "h2load.log"
    log.unlink(missing_ok=True)
    command = ["h2load", "-t1", f"-c{connections}", "-m1", f"-D{seconds}", f"-d{body}", f"--log-file={log}"]
    for name, value in (GRPC_HEADERS | headers).items():
        command += ["-H", f"{name}: {value}"]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{GRPC_PATH}"], capture_output=True, text=True, timeout=seconds + 60
    )
    if done.returncode or not log.exists():
        raise RuntimeError(f"h2load: {done.stdout}{done.stderr}")
    times = np.loadtxt(log, dtype=np.int64, ndmin=2)
    good = times[times[:, 1] == 200, 2] / 1e6
    sizes = re.search(r"\((\d+)\) data", done.stdout)
    data_bytes = int(sizes.group(1)) / max(1, len(times)) if sizes else 0.0
    p50_s, p99_s = (float(np.percentile(good, q)) for q in (50, 99)) if len(good) else (0.0, 0.0)
    return Run(connections, len(good) / seconds, p50_s, p99_s, len(times) - len(good), data_bytes)
