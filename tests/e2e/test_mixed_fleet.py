"""`make fleet`: text, ranking and vision over eight pools of four classes, one of them a real MLServer."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from example import openvino_runs
from fleet import ROOT, Fleet, eventually, start_fleet

from examples.mixed_fleet import MLSERVER, start_mlserver, wait_until_ready
from examples.mixed_traffic import MODELS, Seen, request_of, traffic

pytestmark = pytest.mark.cluster
VENDORS = {"nvidia-h20": "NVIDIA", "nvidia-a100-80g": "NVIDIA", "huawei-ascend-910b3": "Huawei", "acme-x1": "Acme"}


def config() -> dict:
    """The example, less what this machine cannot run."""
    config = yaml.safe_load((ROOT / "examples" / "fleet-h20-910b.yaml").read_text())
    for pool in config["pools"]:
        if "profile" in pool["backend"]:
            pool["backend"]["profile"] = str(ROOT / "examples" / pool["backend"]["profile"])
    if not openvino_runs():
        config["pools"] = [pool for pool in config["pools"] if pool["backend"].get("provider") != "openvino"]
    return config | {"tenants_file": "tenants.yaml"}


class Server:
    """The MLServer of the example, which a test may kill."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.process: subprocess.Popen[bytes] = start_mlserver(log)

    def again(self) -> None:
        """Once more, after its end."""
        self.process = start_mlserver(self.log)
        wait_until_ready(self.process, self.log)

    def kill(self) -> None:
        """As the kernel does where memory is short."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """MLServer with the bundled ranker."""
    assert MLSERVER.exists(), "make env-upstream"
    server = Server(tmp_path_factory.mktemp("mlserver") / "log")
    wait_until_ready(server.process, server.log)
    yield server
    server.kill()


@pytest.fixture(scope="module")
def mixed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The fleet, its upstream open."""
    with start_fleet(yaml.safe_dump(config(), sort_keys=False), tmp_path_factory.mktemp("mixed")) as running:
        eventually(lambda: running.metric("pointsman_pool_model_open", pool="mlserver") == 1, 30)
        yield running


@pytest.fixture(scope="module")
def seen(mixed: Fleet) -> Seen:
    """What two tenants got within some seconds."""
    both = Seen()
    for tenant in ("search", "moderation"):
        got = asyncio.run(traffic(mixed.http_url, mixed.keys[tenant], 8, 6.0, seed=1))
        both.refused += got.refused
        for pool, times in got.times_s.items():
            both.times_s[pool] += times
    print(both.table())
    return both


def test_every_pool_is_up(mixed: Fleet) -> None:
    """And says what it is: class, emulated or not, whose times it keeps, what really runs."""
    for pool in config()["pools"]:
        assert re.search(rf"^{pool['name']} .* up$", mixed.stdout(), re.MULTILINE), mixed.stdout()
    assert re.search(r"^h20-bj +nvidia-h20 +yes +assumed x40 +CPUExecutionProvider ", mixed.stdout(), re.MULTILINE)
    assert re.search(r"^mlserver +x86-cpu +no +own +oip_upstream +ranker ", mixed.stdout(), re.MULTILINE)


def test_mixed_traffic_is_answered_by_every_class(seen: Seen) -> None:
    """Two regions, three makers, the real upstream, and emulated answers are marked."""
    assert not seen.refused
    pools = {pool["name"]: pool for pool in config()["pools"]}
    served = {pool for _, pool, _ in seen.times_s}
    assert served == set(pools)
    assert {pools[name]["region"] for name in served} == {"cn-north", "cn-east"}
    assert {VENDORS.get(pools[name]["accelerator"]) for name in served} == {"NVIDIA", "Huawei", "Acme", None}
    for accelerator, pool, emulated in seen.times_s:
        assert (accelerator, emulated == "yes") == (pools[pool]["accelerator"], accelerator in VENDORS)


def test_share_and_latency_of_each_class_are_in_the_metrics(mixed: Fleet, seen: Seen) -> None:
    """What the client counted, and a histogram of the time for each pool."""
    mixed.flushed()
    for accelerator in {accelerator for accelerator, _, _ in seen.times_s}:
        answered = sum(len(times) for (each, _, _), times in seen.times_s.items() if each == accelerator)
        assert mixed.metric("pointsman_tenant_class_total", accelerator=accelerator) == answered
    for _, pool, _ in seen.times_s:
        assert mixed.metric("pointsman_stage_seconds_count", pool=pool, stage="total") > 0
        assert mixed.metric("pointsman_stage_seconds_sum", pool=pool, stage="total") > 0


def test_who_may_use_huawei_only_gets_huawei_only(mixed: Fleet, seen: Seen) -> None:
    """Every kind of request, whatever its target."""
    got = asyncio.run(traffic(mixed.http_url, mixed.keys["ascend-only"], 4, 4.0, seed=2))
    assert not got.refused
    assert {accelerator for accelerator, _, _ in got.times_s} == {"huawei-ascend-910b3"}


def test_what_is_interactive_never_meets_the_old_hardware(mixed: Fleet, seen: Seen) -> None:
    """A tenant that may ask for less gets there."""
    answer = httpx.post(
        f"{mixed.http_url}/v1/explain", headers=mixed.headers("search"), json={"model": "ranker"}, timeout=10
    ).json()
    assert "a100-bj" not in {pool["pool"] for pool in answer["pools"] if pool["status"] in {"chosen", "candidate"}}


def test_the_upstream_is_killed_and_comes_back(mixed: Fleet, server: Server) -> None:
    """Every request is answered meanwhile."""
    headers = mixed.headers("moderation")
    rng = random.Random(3)
    with httpx.Client(base_url=mixed.http_url, headers=headers, timeout=10) as client:

        def pool_of() -> str:
            reply = client.post("/v2/models/ranker/infer", json=request_of("ranker", rng))
            assert reply.status_code == 200, reply.text
            return reply.headers["x-pointsman-pool"]

        assert "mlserver" in {pool_of() for _ in range(300)}
        server.kill()
        eventually(lambda: pool_of() and mixed.metric("pointsman_pool_model_open", pool="mlserver") == 0, 5)
        assert "mlserver" not in {pool_of() for _ in range(100)}
        server.again()
        eventually(lambda: pool_of() == "mlserver", 10)


def test_models_are_those_of_the_traffic() -> None:
    """So that a model that is added to the fleet gets requests."""
    assert {model for pool in config()["pools"] for model in pool["models"]} == set(MODELS)
