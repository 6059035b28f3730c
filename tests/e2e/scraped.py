"""A real Prometheus beside a fleet, and traffic for it to see."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from fleet import Fleet, free_ports
from payloads import MINILM_INFER, MLP_INFER, mlp, text

Ask = Callable[[str], list[dict[str, Any]]]
"""PromQL to the samples that it finds now."""
SCRAPES = 8


def traffic(fleet: Fleet, client: httpx.Client) -> None:
    """One of everything that metrics tell apart."""
    for tenant in ("demo", "ascend-only"):
        for path, body in ((MLP_INFER, mlp()), (MINILM_INFER, text(["a"]))):
            client.post(path, json=body, headers=fleet.headers(tenant))
    client.post(MLP_INFER, json=mlp(), headers=fleet.headers("ascend-only", x_pointsman_timeout="1ms"))
    client.post(MLP_INFER, content=b"{", headers=fleet.headers("demo"))


@contextlib.contextmanager
def prometheus(fleet: Fleet, folder: Path) -> Iterator[Ask]:
    """Scrapes the fleet four times a second. An expression that is not sound raises AssertionError with its words."""
    (port,) = free_ports(1)
    target = fleet.metrics_url.removeprefix("http://").removesuffix("/metrics")
    job = {"job_name": "pointsman", "scrape_interval": "250ms", "scrape_timeout": "250ms"}
    job["static_configs"] = [{"targets": [target]}]
    (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": [job]}))
    arguments = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    arguments += [f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(["prometheus", *arguments], stdout=log, stderr=log)

    def ask(query: str) -> list[dict[str, Any]]:
        with contextlib.suppress(httpx.TransportError):
            reply = httpx.get(f"http://127.0.0.1:{port}/api/v1/query", params={"query": query}, timeout=10)
            if reply.status_code != 503:  # not ready yet
                assert reply.status_code == 200, reply.text
                return reply.json()["data"]["result"]
        return []

    try:
        yield ask
    finally:
        process.terminate()
        process.wait(30)


def scrape(ask: Ask, traffic: Callable[[], None]) -> None:
    """Send traffic until Prometheus has scraped it often enough for rates."""
    until_s = time.monotonic() + 30
    while time.monotonic() < until_s:
        if sum(float(each["value"][1]) for each in ask("count_over_time(up{job='pointsman'}[1h])")) >= SCRAPES:
            break
        traffic()
    assert ask("up{job='pointsman'}")[0]["value"][1] == "1"
