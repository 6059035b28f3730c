"""The table of systems under test: how each is started and reached. Never starts anything itself."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

PYTHON = sys.executable
PEERS = "benchmarks.http.peers"
RAY_ENV = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONUNBUFFERED": "1"}
HAPROXY_ENV = {
    **RAY_ENV,
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
}


@dataclass(frozen=True)
class System:
    """One configuration of one server.

    `family` groups variants of one product: ratios are taken to the fastest of a family that ran.
    """

    name: str
    family: str
    command: list[str]
    note: str
    env: dict[str, str] = field(default_factory=dict)
    port: int = 18000
    headers: dict[str, str] = field(default_factory=dict)
    health: str = ""
    """Path that says "success" once all is ready; "" where the system has none."""
    grace_s: float = 5.0
    """Seconds from SIGINT to SIGKILL."""


def ray_default(name: str, note: str, style: str = "inline", replicas: int = 1) -> System:
    """Plain Ray Serve as it comes: its Python proxy, its access log."""
    command = [PYTHON, "-m", f"{PEERS}.ray_serve", "--replicas", str(replicas), "--style", style]
    return System(name, "ray-default", command, f"default proxy, {note}", env=RAY_ENV, port=18010)


def ray_best(style: str, replicas: int) -> System:
    """Ray Serve's fast mode: HAProxy, throughput optimised, no access log."""
    command = [PYTHON, "-m", f"{PEERS}.ray_serve", "--replicas", str(replicas), "--style", style, "--no-access-log"]
    words = {"inline": "starlette handler", "batched": "@serve.batch", "asgi": "bare ASGI ingress"}[style]
    note = f"HAProxy, throughput mode, {words}, replicas: {replicas}"
    return System(f"ray-{style}-x{replicas}", "ray-best", command, note, env=HAPROXY_ENV, port=18011)


def mosec(workers: int, rows: int) -> System:
    """mosec with `workers` model processes and batches of at most `rows`."""
    command = [PYTHON, "-m", f"{PEERS}.mosec_server", "--address", "127.0.0.1", "--port", "18020"]
    env = {"BENCH_WORKERS": str(workers), "BENCH_BATCH": str(rows)}
    batching = f"batches to {rows}, 1 ms" if rows > 1 else "no batching"
    return System(
        f"mosec-b{rows}-x{workers}",
        "mosec",
        [*command, "--log-level", "warning"],
        f"{batching}, workers: {workers}",
        env=env,
        port=18020,
    )


def peers() -> dict[str, System]:
    """Every peer that needs no environment of its own, variants for tuning included."""
    table = [
        System("floor", "floor", [PYTHON, "-m", f"{PEERS}.floor"], "uvicorn, stored answer, no model", port=18030),
        ray_default("ray-default", "replicas: 1"),
        ray_default("ray-default-x3", "replicas: 3", replicas=3),
        ray_default("ray-default-batched", "replicas: 1, @serve.batch", "batched"),
    ]
    for many in (1, 2, 3):
        table += [ray_best(style, many) for style in ("inline", "batched", "asgi")]
        table += [mosec(many, rows) for rows in (1, 8, 16, 32)]
    return {system.name: system for system in table}


def pointsman(kind: str, config: Path, key: str) -> System:
    """This router on its own fleet file, its state beside it, with a tenant's key and a deadline on every request."""
    start = [PYTHON, "-c", "from deployments.cli import main; main()", "serve"]
    return System(
        f"pointsman-{kind}",
        "pointsman",
        [*start, "--config", str(config), "--state", str(config.parent / f"state-{kind}")],
        {"preferred": "three pools, one preferred", "equal": "three equal pools"}[kind],
        port=8000,
        headers={"Authorization": f"Bearer {key}", "x-pointsman-timeout": "1s"},
        health="/-/healthz",
        grace_s=30.0,
    )
