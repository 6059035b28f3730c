"""What the chart hands to KubeRay, started on this machine: a Ray node for each pod, devices faked, requests real."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import chart
import httpx
import psutil
import pytest

from router.config.load import tenants_yaml
from router.policy.credentials import digest, new_key

DRIVER = Path(__file__).with_name("serve_chart.py")
MODELS = chart.ROOT / "build" / "models"
START_S = 180.0
DETECTED = {"nvidia-h20": "H20"}
"""What Ray would find on the device itself."""
TEXT = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a quick brown fox"]}]}

pytestmark = pytest.mark.cluster


def nodes(service: dict, absent: tuple[str, ...]) -> list[dict]:
    """What Ray would be told of each pod, by KubeRay and by the pod's device."""
    found = []
    for name, group in chart.groups(service).items():
        offers = {resource: int(amount) for resource, amount in group["resources"].items()}
        cpus, gpus = offers.pop("CPU"), offers.pop("GPU", 0)
        if name in DETECTED:
            offers[f"accelerator_type:{DETECTED[name]}"] = 1
        node = {"cpus": cpus, "gpus": gpus, "resources": offers, "labels": group["labels"]}
        found += [node] * (0 if name in absent else group["replicas"])
    return found


def secrets(folder: Path, tenants: list[str]) -> dict[str, str]:
    """The Secrets as they are mounted; keys of the tenants."""
    keys = {tenant: new_key(os.urandom(16)) for tenant in tenants}
    for name, text in {
        "stream/stream.key": os.urandom(32).hex(),
        "tenants/tenants.yaml": tenants_yaml({tenant: digest(key) for tenant, key in keys.items()}),
    }.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    return keys


@contextmanager
def started(values: str, folder: Path, tenants: list[str], expected: list[str], **how: tuple[str, ...]) -> Iterator:
    """The rendered chart running: its URL, keys, status and message by application, and processes."""
    service = chart.rayservice(values, f'modelStore.path="{MODELS}"', *how.get("sets", ()))
    config = json.dumps(chart.serve_config(service))
    # The folders and ports that pods have to themselves
    config = config.replace("/etc/pointsman", str(folder / "etc")).replace("/tmp/pointsman", str(folder / "var"))
    ports = dict(zip(("http", "grpc", "metrics", "admin"), free_ports(4), strict=True))
    loaded = json.loads(config)
    for application in loaded["applications"]:
        for fleet in fleets(application):
            for listener, port in ports.items():
                fleet["server"].setdefault(listener, {}).update(host="127.0.0.1", port=port)
    plan = {
        "nodes": nodes(service, how.get("absent", ())), "config": loaded,
        "expected": expected, "failing": how.get("failing", ()),
    }  # fmt: skip
    (folder / "plan.json").write_text(json.dumps(plan))
    keys = secrets(folder / "etc", tenants)
    environment = os.environ | {"RAY_TMPDIR": tempfile.mkdtemp(prefix="pm"), "PYTHONPATH": str(chart.ROOT)}
    with (folder / "driver.err").open("wb") as errors:
        driver = subprocess.Popen(
            [sys.executable, DRIVER, folder / "plan.json"], cwd=chart.ROOT, env=environment,
            stdin=subprocess.PIPE, stdout=errors, stderr=errors,
        )  # fmt: skip
    try:
        statuses = folder / "plan.statuses"
        deadline_s = time.monotonic() + START_S
        while not statuses.exists() and driver.poll() is None and time.monotonic() < deadline_s:
            time.sleep(0.1)
        assert statuses.exists(), (folder / "driver.err").read_text()
        processes = psutil.Process(driver.pid).children(recursive=True)
        yield f"http://127.0.0.1:{ports['http']}", keys, json.loads(statuses.read_text()), processes
    finally:
        driver.stdin.close()
        driver.wait(60)
        shutil.rmtree(environment["RAY_TMPDIR"], ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in sockets]


def fleets(application: dict) -> list[dict]:
    """Every fleet file in an application's configuration."""
    given = [application["args"]["fleet"]]
    return given + [d["user_config"]["fleet"] for d in application["deployments"] if "user_config" in d]


def listened(process: psutil.Process) -> set[str]:
    """Addresses that a process listens on."""
    return {c.laddr.ip for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}


def infer(url: str, key: str) -> httpx.Response:
    """One MiniLM request."""
    return httpx.post(f"{url}/v2/models/minilm/infer", json=TEXT, headers={"x-api-key": key}, timeout=10)


def test_the_fleet_of_the_cpu_values_serves_the_main_job(tmp_path):
    """Pools and routers land on the pods meant for them; both pools answer, one of them emulated and saying so."""
    names = ["pool-cpu", "pool-a910-trial", "router"]
    with started("cpu", tmp_path, ["demo"], names) as (url, keys, statuses, processes):
        assert {name: status for name, (status, _) in statuses.items()} == dict.fromkeys(names, "RUNNING")
        answer = infer(url, keys["demo"])
        assert answer.status_code == 200, f"a router listens before its pools are ready: {answer.text}"
        assert answer.json()["outputs"][0]["shape"] == [1, 384]
        assert httpx.post(f"{url}/v2/models/minilm/infer", json=TEXT).status_code == 401
        pods = [listened(process) for process in processes if "ServeReplica:pool-" in " ".join(process.cmdline())]
        assert len(pods) == 3
        # Streams on the node's own address; Serve's server, which unpickles, still on loopback
        assert all("127.0.0.1" not in hosts and "::ffff:127.0.0.1" in hosts for hosts in pods), pods
        told = httpx.post(f"{url}/v1/explain", json={"model": "minilm"}, headers={"x-api-key": keys["demo"]}).json()
        assert {pool["pool"]: (pool["emulated"], pool["status"]) for pool in told["pools"]}.keys() == {
            "cpu",
            "a910-trial",
        }


def test_the_mixed_fleet_serves_on_what_is_there_and_says_what_is_not(tmp_path):
    """H20 pods whose devices are fakes refuse in words; no Ascend pod came up; requests are served by the CPU pool."""
    with started(
        "h20-910b-asic", tmp_path, ["search", "reports"], ["pool-cpu", "router"],
        absent=("huawei-ascend-910b3",), failing=("pool-h20-bj",), sets=("router.settleSeconds=5",),
    ) as (url, keys, statuses, _):  # fmt: skip
        assert {name: statuses[name][0] for name in ("pool-cpu", "router", "pool-h20-bj")} == {
            "pool-cpu": "RUNNING", "router": "RUNNING", "pool-h20-bj": "DEPLOY_FAILED",
        }  # fmt: skip
        assert "it needs the package onnxruntime-gpu" in statuses["pool-h20-bj"][1]
        assert statuses["pool-a910-sh"][0] != "RUNNING"
        answer = infer(url, keys["search"])
        assert (answer.status_code, answer.headers["x-pointsman-pool"]) == (200, "cpu")
        refused = infer(url, keys["reports"])
        assert (refused.status_code, refused.json()["reason"]) == (503, "no_ready_pool")
