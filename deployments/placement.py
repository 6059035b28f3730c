"""Where a replica of a pool is placed: hardware of its class → what Ray is asked for, and words where no node has it.

Made of values: what a class needs comes from the catalogue or the fleet file, what a node has from cluster.py. Never
imports ray and never looks at the machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from deployments.providers import PROVIDERS
from router.config.settings import Hardware, PoolSettings

POOL_CPUS = 0.1
"""CPUs a replica asks Ray for. Ray's CPU is a scheduling token and limits nothing: a whole one each would let a
2-core machine hold two pools and no router, while the cores a pool really uses are set by its `threads` option."""

CLASS_LABEL = "pointsman.io/accelerator"
"""Label by which an operator says which class a node has. Where Ray cannot tell, only a labelled node will do."""

_TYPE = "accelerator_type:"
"""Beginning of the resource by which Ray says what it detected on a node."""
_KINDS_SHOWN = 8


class PlacementError(Exception):
    """A pool that cannot be placed as it is configured. The text says what to change."""


class ReplicaPlacement(msgspec.Struct, frozen=True):
    """What one replica of a pool asks Ray for."""

    num_cpus: float = POOL_CPUS
    num_gpus: float = 0.0
    resources: tuple[tuple[str, float], ...] = ()
    """Ray custom resources as (name, amount)."""
    accelerator_type: str = ""
    """Ray's accelerator type as Ray detects it on the node; "" where any node will do."""
    labels: tuple[tuple[str, str], ...] = ()
    """Labels that the node must have."""

    def ray_actor_options(self) -> dict[str, object]:
        """The options of a Ray Serve deployment, only those that are asked for."""
        options: dict[str, object] = {"num_cpus": self.num_cpus}
        if self.num_gpus:
            options["num_gpus"] = self.num_gpus
        if self.resources:
            options["resources"] = dict(self.resources)
        if self.accelerator_type:
            options["accelerator_type"] = self.accelerator_type
        if self.labels:
            options["label_selector"] = dict(self.labels)
        return options


class Node(msgspec.Struct, frozen=True):
    """A living node of the cluster: Ray resources in all and free, and its labels."""

    total: Mapping[str, float]
    free: Mapping[str, float]
    labels: Mapping[str, str]


def place(pool: PoolSettings) -> ReplicaPlacement:
    """Placement of one replica: only a CPU where the pool is emulated or another server. Raises PlacementError."""
    labels = tuple(sorted(pool.node_labels.items()))
    if CLASS_LABEL in pool.node_labels:
        raise PlacementError(f"node_labels: {CLASS_LABEL} follows from the accelerator class: leave it out")
    if pool.deviceless:
        return ReplicaPlacement(labels=labels)
    hardware = pool.hardware
    accelerator = pool.facts.accelerator.name
    _check(pool.facts.provider if pool.backend == "onnx" else "", accelerator, hardware)
    if not hardware.exact:
        # Ray sees one name for several classes, or none: what the operator says counts, and nothing else.
        labels = tuple(sorted({**dict(labels), CLASS_LABEL: accelerator}.items()))
    gpu = hardware.ray_resource == "GPU"
    return ReplicaPlacement(
        num_gpus=hardware.ray_amount if gpu else 0.0,
        resources=((hardware.ray_resource, hardware.ray_amount),) if hardware.ray_resource and not gpu else (),
        accelerator_type=hardware.ray_type if hardware.exact else "",
        labels=labels,
    )


def _check(provider: str, accelerator: str, hardware: Hardware) -> None:
    """An amount that Ray can hand out, and a provider on its own kind of device, not the CPU in another's name."""
    asked = hardware.ray_resource or "CPU"
    if hardware.ray_amount > 1 and hardware.ray_amount % 1:
        raise PlacementError(f"class {accelerator} asks for {hardware.ray_amount:g} {asked}: above 1, only whole ones")
    entry = PROVIDERS.get(provider)
    if entry is not None and entry.device != asked:
        raise PlacementError(
            f"provider {provider} runs on Ray's resource {entry.device}, but class {accelerator} asks for {asked}: "
            "name another provider or backend, or mend `ray:` of the class under `accelerators:`"
        )


def lacks(options: Mapping[str, Any], nodes: Sequence[Node]) -> str:
    """Why no node can ever hold a replica with these actor options as the cluster is, "" where one could."""
    asked, labels = _asked(options)
    if any(_has(node, node.total, asked, labels) for node in nodes):
        return ""
    words = f"no node has {_in_words(asked, labels)} (the cluster has: {_cluster(nodes)})"
    unlabelled = [node for node in nodes if CLASS_LABEL not in node.labels and _has(node, node.total, asked, {})]
    if CLASS_LABEL in labels and unlabelled:
        words += f"; a node of that class must carry the label: ray start --labels {CLASS_LABEL}={labels[CLASS_LABEL]}"
    return words


def full(options: Mapping[str, Any], nodes: Sequence[Node]) -> str:
    """Why no node has room now for a replica with these actor options, "" where one has."""
    asked, labels = _asked(options)
    able = [node for node in nodes if _has(node, node.total, asked, labels)]
    if not able or any(_has(node, node.free, asked, labels) for node in able):
        return ""
    used = (
        f"{name} {sum(node.total[name] - node.free.get(name, 0.0) for node in able):g} of "
        f"{sum(node.total[name] for node in able):g}"
        for name in asked
        if not name.startswith(_TYPE)
    )
    return f"every node that has {_in_words(asked, labels)} is in full use ({', '.join(used)})"


def _asked(options: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """(amounts by resource, labels) that actor options ask of one node."""
    asked = {"CPU": options.get("num_cpus"), "GPU": options.get("num_gpus")}
    asked |= options.get("resources") or {}
    if options.get("accelerator_type"):
        asked[f"{_TYPE}{options['accelerator_type']}"] = 0.001
    amounts = {name: float(amount) for name, amount in asked.items() if amount}
    return amounts, dict(options.get("label_selector") or {})


def _has(node: Node, room: Mapping[str, float], asked: Mapping[str, float], labels: Mapping[str, str]) -> bool:
    return all(room.get(name, 0.0) >= amount for name, amount in asked.items()) and all(
        node.labels.get(key) == value for key, value in labels.items()
    )


def _in_words(asked: Mapping[str, float], labels: Mapping[str, str]) -> str:
    """What is asked of one node; the token of CPU only where nothing else is."""
    device = [f"{name} {amount:g}" for name, amount in asked.items() if name != "CPU" and not name.startswith(_TYPE)]
    words = " and ".join(device or [f"CPU {asked.get('CPU', 0.0):g}"])
    conditions = [name for name in asked if name.startswith(_TYPE)]
    conditions += [f"label {key}={value}" for key, value in labels.items()]
    return f"{words} with {' and '.join(conditions)}" if conditions else words


def _cluster(nodes: Iterable[Node]) -> str:
    """Every kind of node with how many there are of it."""
    kinds = Counter(_node(node) for node in nodes)
    shown = [f"{count} × {kind}" if count > 1 else kind for kind, count in kinds.most_common(_KINDS_SHOWN)]
    return "; ".join(shown + [f"{len(kinds) - len(shown)} other kinds"] * (len(kinds) > len(shown))) or "no node"


def _node(node: Node) -> str:
    plain = {name: amount for name, amount in node.total.items() if not name.startswith(("node:", _TYPE))}
    amounts = [f"{name} {plain[name]:g}" for name in sorted(plain) if name not in {"memory", "object_store_memory"}]
    marks = [name for name in sorted(node.total) if name.startswith(_TYPE)]
    marks += [f"{key}={value}" for key, value in sorted(node.labels.items()) if not key.startswith("ray.io/")]
    return ", ".join([*amounts, *marks])
