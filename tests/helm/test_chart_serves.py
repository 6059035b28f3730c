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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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
STORE = f'modelStore.path="{MODELS}"'
DETECTED = {"nvidia-h20": "H20"}
"""What Ray would find on the device itself."""
TEXT = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a quick brown fox"]}]}

pytestmark = [pytest.mark.cluster, pytest.mark.own_network]


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


@dataclass
class Running:
    """A rendered chart that runs."""

    values: str
    folder: Path
    ports: dict[str, int]
    keys: dict[str, str]
    driver: subprocess.Popen[str]

    @property
    def url(self) -> str:
        """Of the data listener."""
        return f"http://127.0.0.1:{self.ports['http']}"

    def statuses(self) -> dict[str, list[str]]:
        """Status and message by application, once they were as expected."""
        file = self.folder / "plan.statuses"
        eventually(lambda: file.exists() or self.driver.poll() is not None, START_S)
        assert file.exists(), (self.folder / "driver.err").read_text()
        return json.loads(file.read_text())

    def replicas(self, name: str) -> dict[int, psutil.Process]:
        """Processes of Serve's replicas whose name begins so, by their ids."""
        found = psutil.Process(self.driver.pid).children(recursive=True)
        return {process.pid: process for process in found if f"ServeReplica:{name}" in title(process)}

    def upgrade(self, *sets: str) -> None:
        """What KubeRay does with the Serve configuration of `helm upgrade`."""
        config = here(chart.serve_config(chart.rayservice(self.values, STORE, *sets)), self.folder, self.ports)
        self.driver.stdin.write(json.dumps(config) + "\n")
        self.driver.stdin.flush()

    def infer(self, tenant: str) -> httpx.Response:
        """One MiniLM request."""
        headers = {"x-api-key": self.keys[tenant]}
        return httpx.post(f"{self.url}/v2/models/minilm/infer", json=TEXT, headers=headers, timeout=10)


def vendor(folder: Path) -> Path:
    """A folder that has Acme's package as an image of its class would."""
    folder.mkdir()
    shutil.copytree(chart.ROOT / "examples" / "backends" / "acme" / "acme_runtime", folder / "acme_runtime")
    info = folder / "acme_runtime-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-runtime\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[pointsman.backends]\nacme = acme_runtime.backend:AcmeBackend\n")
    return folder


def here(config: dict, folder: Path, ports: dict[str, int]) -> dict:
    """The same with folders and ports of this machine for those that a pod has to itself."""
    text = json.dumps(config).replace("/etc/pointsman", str(folder / "etc"))
    config = json.loads(text.replace("/tmp/pointsman", str(folder / "var")))
    for application in config["applications"]:
        fleets = [d["user_config"]["fleet"] for d in application["deployments"] if "user_config" in d]
        for fleet in (application["args"]["fleet"], *fleets):
            for listener, port in ports.items():
                fleet["server"].setdefault(listener, {}).update(host="127.0.0.1", port=port)
    return config


@contextmanager
def started(
    values: str,
    folder: Path,
    tenants: list[str],
    sets: tuple[str, ...] = (),
    absent: tuple[str, ...] = (),
    **until: list,
) -> Iterator[Running]:
    """The rendered chart on a node for each pod but those of absent classes; `until`: see serve_chart.py."""
    service = chart.rayservice(values, STORE, *sets)
    ports = dict(zip(("http", "grpc", "metrics", "admin"), free_ports(4), strict=True))
    plan = {"nodes": nodes(service, absent), "config": here(chart.serve_config(service), folder, ports)} | until
    (folder / "plan.json").write_text(json.dumps(plan))
    keys = secrets(folder / "etc", tenants)
    path = os.pathsep.join([str(chart.ROOT), str(vendor(folder / "vendor"))])
    environment = os.environ | {"RAY_TMPDIR": tempfile.mkdtemp(prefix="pm"), "PYTHONPATH": path}
    with (folder / "driver.err").open("wb") as errors:
        driver = subprocess.Popen(
            [sys.executable, DRIVER, folder / "plan.json"], cwd=chart.ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=errors, stderr=errors,
        )  # fmt: skip
    try:
        yield Running(values, folder, ports, keys, driver)
    finally:
        driver.stdin.close()
        driver.wait(60)
        shutil.rmtree(environment["RAY_TMPDIR"], ignore_errors=True)


def eventually(holds: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Wait until `holds()` is true, or the time is up."""
    deadline_s = time.monotonic() + timeout_s
    while not holds() and time.monotonic() < deadline_s:
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in sockets]


def title(process: psutil.Process) -> str:
    """Command line, "" of what has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def listened(process: psutil.Process) -> set[str]:
    """Addresses that a process listens on."""
    return {c.laddr.ip for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}


def test_the_fleet_of_the_cpu_values_serves_the_main_job_and_is_upgraded(tmp_path):
    """Pools and routers land on the pods meant for them; both pools answer, one of them emulated and saying so. New
    rules and numbers of replicas are taken up by the routers and pools that run.
    """
    names = ["pool-cpu", "pool-a910-trial", "router"]
    with started("cpu", tmp_path, ["demo"], expected=names, failing=[]) as fleet:
        assert {name: status for name, (status, _) in fleet.statuses().items()} == dict.fromkeys(names, "RUNNING")
        answer = fleet.infer("demo")
        assert answer.status_code == 200, f"a router listens before its pools are ready: {answer.text}"
        assert answer.json()["outputs"][0]["shape"] == [1, 384]
        assert httpx.post(f"{fleet.url}/v2/models/minilm/infer", json=TEXT).status_code == 401
        headers = {"x-api-key": fleet.keys["demo"]}
        told = httpx.post(f"{fleet.url}/v1/explain", json={"model": "minilm"}, headers=headers).json()
        assert {pool["pool"]: pool["emulated"] for pool in told["pools"]} == {"cpu": False, "a910-trial": True}
        # Streams on the node's own address; Serve's server, which unpickles, still on loopback
        pods = [listened(process) for process in fleet.replicas("pool-").values()]
        assert len(pods) == 3
        assert all("127.0.0.1" not in hosts and "::ffff:127.0.0.1" in hosts for hosts in pods), pods

        pools, routers = fleet.replicas("pool-").keys(), fleet.replicas("router").keys()
        fleet.upgrade('fleet.policies=[{"name":"closed","when":"true","deny":"true"}]', "fleet.pools[0].replicas=1")
        eventually(lambda: fleet.infer("demo").status_code == 404 and len(fleet.replicas("pool-")) == 2)
        assert {fleet.infer("demo").status_code for _ in range(8)} == {404}
        assert len(routers) == 2
        assert fleet.replicas("router").keys() == routers
        assert fleet.replicas("pool-").keys() < pools


def test_the_mixed_fleet_serves_on_what_is_there_and_says_what_is_not(tmp_path):
    """H20 pods whose devices are fakes refuse in words, no Ascend pod came up; the CPU pool and the vendor's serve."""
    with started(
        "h20-910b-asic", tmp_path, ["search", "reports"], ("router.settleSeconds=5",), ("huawei-ascend-910b3",),
        expected=["pool-asic-sh", "pool-cpu", "router"], failing=["pool-h20-bj"],
    ) as fleet:  # fmt: skip
        statuses = fleet.statuses()
        assert {name: status for name, (status, _) in statuses.items() if name != "pool-a910-sh"} == {
            "pool-asic-sh": "RUNNING", "pool-cpu": "RUNNING", "router": "RUNNING", "pool-h20-bj": "DEPLOY_FAILED",
        }  # fmt: skip
        assert "an image that has it (pointsman-cuda)" in statuses["pool-h20-bj"][1]
        assert statuses["pool-a910-sh"][0] != "RUNNING"
        answer = fleet.infer("search")
        assert (answer.status_code, answer.headers["x-pointsman-pool"]) == (200, "cpu")
        refused = fleet.infer("reports")
        assert (refused.status_code, refused.json()["reason"]) == (503, "no_ready_pool")
