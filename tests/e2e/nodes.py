"""A further node of a local Ray cluster, with whatever resources and labels it is told to have. Asserts nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil


@contextmanager
def joined(
    address: str, environment: Mapping[str, str], resources: Mapping[str, float], labels: Mapping[str, str]
) -> Iterator[None]:
    """A node with them. `resources` may name CPU and GPU; Ends with the block."""
    more = dict(resources)
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--address", address),
        *("--node-ip-address", "127.0.0.1", "--object-store-memory", str(100 * 2**20)),
        *("--num-cpus", f"{more.pop('CPU', 1):g}", "--num-gpus", f"{more.pop('GPU', 0):g}"),
        *("--resources", json.dumps(more), "--labels", ",".join(f"{key}={value}" for key, value in labels.items())),
    ]
    switches = {"RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    with Path(environment["RAY_TMPDIR"], "node.log").open("ab") as log:
        node = subprocess.Popen(command, env=os.environ | environment | switches, stdout=log, stderr=log)
    try:
        yield
    finally:
        # As a machine that is lost. Asked to end, it would drain what runs there for as long as that takes.
        processes = [*psutil.Process(node.pid).children(recursive=True), psutil.Process(node.pid)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        node.wait(30)
