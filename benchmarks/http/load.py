"""Load by wrk and what it measured. Never knows which system it loads, beyond its port and headers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import msgspec

from benchmarks.http.workload import ROUTE

SCRIPT = """
wrk.method = "POST"
wrk.body = {body}
wrk.headers["Content-Type"] = "application/json"
{headers}
done = function(summary, latency, requests)
  io.write(string.format(
    '\\nRESULT {{"requests":%d,"duration_us":%d,"p50_us":%d,"p90_us":%d,"p99_us":%d,"max_us":%d,'
    .. '"status_errors":%d,"socket_errors":%d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(90), latency:percentile(99),
    latency.max, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""


class Measured(msgspec.Struct, frozen=True):
    """One wrk run against one system. Errors should be 0; what failed is not in `answered_per_s`."""

    connections: int
    answered_per_s: float
    p50_s: float
    p90_s: float
    p99_s: float
    max_s: float
    status_errors: int
    socket_errors: int
    server_cpu_s: float
    """CPU seconds of the server's processes during the run."""
    server_cpu_per_request_s: float


def lua_string(text: str) -> str:
    """A Lua literal of `text` (JSON escapes of ASCII text are valid Lua)."""
    return json.dumps(text)


def write_script(path: Path, body: bytes, headers: dict[str, str]) -> None:
    """Write the wrk script that sends `body` and prints one RESULT line."""
    lines = "\n".join(f"wrk.headers[{lua_string(key)}] = {lua_string(value)}" for key, value in headers.items())
    path.write_text(SCRIPT.format(body=lua_string(body.decode()), headers=lines))
    path.chmod(0o600)


def wrk(script: Path, port: int, connections: int, seconds: int) -> dict[str, int]:
    """Run wrk with one thread, closed loop. Returns the RESULT object. Raises RuntimeError with wrk's words."""
    url = f"http://127.0.0.1:{port}{ROUTE}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            return json.loads(line.removeprefix("RESULT "))
    raise RuntimeError(f"wrk said nothing usable: {done.stdout}{done.stderr}")


def measured(raw: dict[str, int], connections: int, server_cpu_s: float) -> Measured:
    """wrk's numbers in seconds. `requests` of wrk counts error statuses too; they are taken out."""
    good = raw["requests"] - raw["status_errors"]
    return Measured(
        connections=connections,
        answered_per_s=good / (raw["duration_us"] / 1e6),
        p50_s=raw["p50_us"] / 1e6,
        p90_s=raw["p90_us"] / 1e6,
        p99_s=raw["p99_us"] / 1e6,
        max_s=raw["max_us"] / 1e6,
        status_errors=raw["status_errors"],
        socket_errors=raw["socket_errors"],
        server_cpu_s=server_cpu_s,
        server_cpu_per_request_s=server_cpu_s / max(good, 1),
    )
