"""The chart under a real helm: rendered documents and what helm says when it refuses. Asserts nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm"
TOOLS = ROOT / ".venv-helm" / "bin"
HELMS = ("helm3", "helm4")
VALUES = ("cpu", "h20-910b-asic")


def helm(version: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of the helms."""
    return subprocess.run([TOOLS / version, *arguments], capture_output=True, text=True, timeout=60, check=False)


def template(values: str, *sets: str, version: str = "helm4") -> subprocess.CompletedProcess[str]:
    """`helm template` with a value file of the chart and `--set-json` for each of `sets`."""
    more = [part for one in sets for part in ("--set-json", one)]
    return helm(version, "template", "pm", str(CHART), "--values", str(CHART / f"values-{values}.yaml"), *more)


def documents(values: str, *sets: str, version: str = "helm4") -> list[dict[str, Any]]:
    """What helm renders. Raises RuntimeError with its words where it refuses."""
    done = template(values, *sets, version=version)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def rayservice(values: str, *sets: str, version: str = "helm4") -> dict[str, Any]:
    """The RayService that helm renders."""
    (found,) = (document for document in documents(values, *sets, version=version) if document["kind"] == "RayService")
    return found


def serve_config(service: dict[str, Any]) -> dict[str, Any]:
    """Ray Serve's configuration in a RayService."""
    config: dict[str, Any] = yaml.safe_load(service["spec"]["serveConfigV2"])
    return config


def groups(service: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Worker groups by name."""
    return {group["groupName"]: group for group in service["spec"]["rayClusterConfig"]["workerGroupSpecs"]}
