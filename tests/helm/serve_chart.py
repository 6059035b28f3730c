"""Starts what a chart rendered on this machine: `python serve_chart.py PLAN`, until its standard input ends.
Each line there is another configuration of Serve's in JSON, to be put in force.

PLAN is JSON: `nodes`, each with what Ray is told of a pod (cpus, gpus, resources, labels), and `config`, Serve's. Once
the applications in `expected` run and those in `failing` have failed, PLAN with the suffix .statuses holds JSON:
application to [status, message].
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

# As in a cluster of several machines, or every node would have the address of the first
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"

from deployments import cluster

import ray  # isort: skip
from ray import serve
from ray.cluster_utils import Cluster

SETTLE_S = 120.0


def main(file: Path) -> None:
    """A Ray node for each pod, Serve as KubeRay starts it, and the applications."""
    plan = json.loads(file.read_text())
    pods = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "node_ip_address": "127.0.0.1"})
    for number, node in enumerate(plan["nodes"], start=2):
        pods.add_node(
            num_cpus=node["cpus"], num_gpus=node["gpus"], resources=node["resources"], labels=node["labels"],
            node_ip_address=f"127.0.0.{number}", wait=False,
        )  # fmt: skip
    pods.wait_for_nodes()
    ray.init(address=pods.address, log_to_driver=False, configure_logging=False)
    try:
        serve.start(proxy_location=plan["config"]["proxy_location"])
        cluster.deploy(plan["config"]["applications"])
        told = file.with_suffix(".told")
        told.write_text(json.dumps(settled(plan["expected"], plan["failing"])))
        told.rename(file.with_suffix(".statuses"))
        for line in sys.stdin:
            cluster.deploy(json.loads(line)["applications"])
    finally:
        ray.shutdown()
        for node in list(pods.worker_nodes):
            pods.remove_node(node, allow_graceful=False)
        pods.shutdown()


def settled(expected: list[str], failing: list[str]) -> dict[str, tuple[str, str]]:
    """Statuses, as soon as they are as they should be, or the time is up."""
    deadline_s = time.monotonic() + SETTLE_S
    while True:
        now = {name: (each.status, each.message) for name, each in cluster.statuses().items()}
        up = all(now.get(name, ("", ""))[0] == "RUNNING" for name in expected)
        down = all(now.get(name, ("", ""))[0] == "DEPLOY_FAILED" for name in failing)
        if (up and down) or time.monotonic() > deadline_s:
            return now
        time.sleep(0.2)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
