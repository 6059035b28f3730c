"""A cluster with a node for each class of accelerator, as far as Ray can tell, and where the replicas of a fleet land.

Run as a process: `python landing.py FLEET.yaml`. Its pools are placed by deployments.app as ever; what they serve is
replaced by a replica that says where it is. Prints {pool: where or what it waits for} as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from deployments import cluster  # isort: skip  (sets Ray's environment)

import ray
from fleet import eventually
from msgspec.structs import replace
from nodes import joined
from ray import serve

from deployments import app
from router.config.load import load
from router.config.settings import Settings

CLASS = "pointsman.io/accelerator"
NODES: dict[str, tuple[dict[str, float], dict[str, str]]] = {
    "h20": ({"GPU": 2, "accelerator_type:H20": 1}, {}),
    "sxm": ({"GPU": 2, "accelerator_type:H100": 1}, {CLASS: "nvidia-h100-sxm"}),
    "pcie": ({"GPU": 2, "accelerator_type:H100": 1}, {CLASS: "nvidia-h100-pcie"}),
    "a100": ({"GPU": 1, "accelerator_type:A100": 1}, {CLASS: "nvidia-a100-80g"}),
    "npu": ({"NPU": 2, "accelerator_type:Ascend910B3": 1}, {}),
    "asic": ({"ACME_NPU": 2, "NPU": 1, "accelerator_type:Ascend910B4": 1}, {"site": "edge"}),
}
"""Node name, which is its label `node` too, to its resources and labels."""


class Where:
    """A replica that knows where it is."""

    def where(self) -> dict[str, Any]:
        """The `node` label of its node, and what Ray lets it see."""
        labels = ray.get_runtime_context().get_node_labels()
        visible = {name: os.environ.get(name, "") for name in ("CUDA_VISIBLE_DEVICES", "ASCEND_RT_VISIBLE_DEVICES")}
        return {"node": labels.get("node", "head"), **visible}


def build_pool(args: Mapping[str, Any]) -> serve.Application:
    """In place of deployments.app:build_pool: the same actor options, another replica."""
    return serve.deployment(Where, name="Where", ray_actor_options=args["options"]["ray_actor_options"]).bind()


def landed(config: Path) -> dict[str, dict[str, Any]]:
    """Deploy the pools of a fleet file on such a cluster; where each one landed, or {"waits": words}."""
    settings = _with_vendor(load(config, None))
    paths = app.Paths(store="", key_file="", metrics_dir="")
    pools = [each for each in app.applications(settings, paths) if each["name"] != app.ROUTER_APP]
    for pool in pools:
        pool["import_path"] = "landing:build_pool"
    address_file = config.parent / "run" / "cluster"
    with cluster.local_cluster(address_file, {"CPU": 8}, {"node": "head"}), ExitStack() as stack:
        for count, (name, (resources, labels)) in enumerate(NODES.items(), start=2):
            stack.enter_context(joined(address_file.read_text(), os.environ, resources, labels | {"node": name}))
            # One after the other: several at once on one machine time out on each other.
            eventually(lambda count=count: sum(node["Alive"] for node in ray.nodes()) == count, 60)
        cluster.deploy(pools)
        watch = cluster.Watch([pool["name"] for pool in pools], lambda name, status: None)
        cluster.wait_settled(watch, 40)
        found = {}
        for name, status in cluster.statuses().items():
            if status.running:
                found[name] = serve.get_app_handle(name).where.remote().result(timeout_s=30)
            else:
                found[name] = {"waits": f"{status.status} {status.message}"}
        return found


def _with_vendor(settings: Settings) -> Settings:
    """The pool `acme` as if its maker's backend were installed, which a fleet file may name only then."""
    pools = [
        replace(pool, backend="acme", facts=replace(pool.facts, emulated=False, provider="acme"))
        if pool.facts.name == "acme"
        else pool
        for pool in settings.pools
    ]
    return replace(settings, pools=tuple(pools))


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(landed(Path(sys.argv[1]))))
