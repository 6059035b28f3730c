"""Pools whose hardware is not in the cluster: told, in the way of nobody, and up by themselves once it is there."""

import json
import os
import re
import subprocess
import sys
import tempfile

import httpx
import pytest
from fleet import POINTSMAN, ROOT, eventually, start_fleet
from nodes import joined
from payloads import MLP_INFER, mlp

from deployments.placement import CLASS_LABEL

pytestmark = [pytest.mark.cluster, pytest.mark.own_network]

FLEET = """
pools:
  - {name: cpu, accelerator: x86-cpu, region: here, models: [mlp]}
  - {name: far, accelerator: x86-cpu, region: there, node_labels: {site: far}, models: [mlp]}
  - {name: h20-bj, accelerator: nvidia-h20, region: cn-north, models: [mlp]}
  - {name: a910-sh, accelerator: huawei-ascend-910b3, region: cn-east, models: [mlp]}
tenants:
  - {id: demo, labels: {region: here}}
  - {id: only-far, labels: {region: there}}
policies:
  - {name: own-region, when: "true", allow: pool.region == tenant.labels.region}
"""
MIXED = """
accelerators:
  acme-asic: {source: its maker, as_of: 2026-11-23, provider: acme, ray: {resource: ACME_NPU, amount: 2}}
pools:
  - {name: h20, accelerator: nvidia-h20, region: r, models: [m]}
  - {name: sxm, accelerator: nvidia-h100-sxm, region: r, models: [m]}
  - {name: pcie, accelerator: nvidia-h100-pcie, region: r, models: [m], backend: {type: onnx, provider: tensorrt}}
  - {name: a100, accelerator: nvidia-a100-80g, region: r, models: [m]}
  - {name: npu, accelerator: huawei-ascend-910b3, region: r, models: [m]}
  - {name: npu-b4, accelerator: huawei-ascend-910b4, region: r, models: [m]}
  - {name: edge, accelerator: x86-cpu, region: r, models: [m], node_labels: {site: edge}}
  - {name: l4, accelerator: nvidia-l4, region: r, models: [m], node_labels: {node: head}, backend: {type: emulated}}
  - {name: acme, accelerator: acme-asic, region: r, models: [m], backend: {type: emulated}}
  - {name: no-a100-40g, accelerator: nvidia-a100-40g, region: r, models: [m]}
  - {name: no-l20, accelerator: nvidia-l20, region: r, models: [m]}
"""
DEVICELESS = {"acme": "asic", "edge": "asic", "l4": "head"}
"""Ray knows no variable for a maker's own chip; the other two need none."""
HERE = r"\(the cluster has: CPU \d+\)"


def test_pools_without_hardware_wait_and_the_rest_serves(tmp_path):
    """The command says what is missing, shows it as state, and picks the pool up when a node with it joins."""
    with start_fleet(FLEET, tmp_path) as fleet:
        said = fleet.stderr()
        for line in (
            rf"pool-far: waits for hardware: no node has CPU 0\.1 with label site=far {HERE}",
            rf"pool-h20-bj: waits for hardware: no node has GPU 1 with accelerator_type:H20 {HERE}",
            rf"pool-a910-sh: waits for hardware: no node has NPU 1 with accelerator_type:Ascend910B3 {HERE}",
        ):
            assert re.search(line, said), said
        assert re.search(r"^far .* 0 up, waits for hardware$", fleet.stdout(), re.MULTILINE)
        here = httpx.post(fleet.http_url + MLP_INFER, json=mlp(), headers=fleet.headers("demo"))
        assert (here.status_code, here.headers["x-pointsman-pool"]) == (200, "cpu")
        there = httpx.post(fleet.http_url + MLP_INFER, json=mlp(), headers=fleet.headers("only-far"))
        assert (there.status_code, there.json()["reason"]) == (503, "no_ready_pool")
        status = subprocess.run(
            [POINTSMAN, "status", "--state", fleet.state],
            cwd=ROOT, env=fleet.environment, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert re.search(rf"^h20-bj .* waits for hardware: no node has GPU 1 .* {HERE}$", status, re.MULTILINE)
        assert re.search(r"^cpu .* running$", status, re.MULTILINE)

        address = (fleet.state / "run" / "cluster").read_text()
        with joined(address, fleet.environment, {"CPU": 1}, {"site": "far"}):
            eventually(lambda: "pool-far: running" in fleet.stderr(), 60)
            eventually(
                lambda: httpx.post(
                    fleet.http_url + MLP_INFER, json=mlp(), headers=fleet.headers("only-far")
                ).headers.get("x-pointsman-pool") == "far"
            )  # fmt: skip
    assert fleet.process.returncode == 0


def test_every_pool_lands_on_a_node_of_its_class_and_sees_its_device(tmp_path):
    """Nine classes on seven nodes: by detected type, by label where Ray cannot tell, by custom resource."""
    config = tmp_path / "fleet.yaml"
    config.write_text(MIXED)
    with tempfile.TemporaryDirectory(prefix="pm") as ray_folder:
        done = subprocess.run(
            [sys.executable, ROOT / "tests" / "e2e" / "landing.py", config],
            env=os.environ | {"RAY_TMPDIR": ray_folder, "PYTHONPATH": os.pathsep.join(sys.path)},
            cwd=ROOT, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.rpartition("\n")[2])
    landed = {name.removeprefix("pool-"): where for name, where in found.items() if "node" in where}
    nothing = {"CUDA_VISIBLE_DEVICES": "", "ASCEND_RT_VISIBLE_DEVICES": ""}
    for pool, node in {"h20": "h20", "sxm": "sxm", "pcie": "pcie", "a100": "a100"}.items():
        device = landed.pop(pool)
        assert device["node"] == node
        assert device["CUDA_VISIBLE_DEVICES"] in {"0", "1"}
    for pool, node in {"npu": "npu", "npu-b4": "asic"}.items():
        device = landed.pop(pool)
        assert device["node"] == node
        assert device["ASCEND_RT_VISIBLE_DEVICES"] in {"0", "1"}
    assert landed == {name: {"node": node, **nothing} for name, node in DEVICELESS.items()}
    waits = {name: where["waits"] for name, where in found.items() if "waits" in where}
    assert set(waits) == {"pool-no-a100-40g", "pool-no-l20"}
    assert "WAITING waits for hardware: no node has GPU 1 with accelerator_type:L20 " in waits["pool-no-l20"]
    assert f"no node has GPU 1 with label {CLASS_LABEL}=nvidia-a100-40g " in waits["pool-no-a100-40g"]
    assert waits["pool-no-a100-40g"].endswith(f"must carry the label: ray start --labels {CLASS_LABEL}=nvidia-a100-40g")
