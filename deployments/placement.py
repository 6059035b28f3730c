"""Where a replica of an accelerator class is placed: class → Ray resources and default provider. A table of values.

Never imports ray and never looks at the machine.
"""

from __future__ import annotations

import msgspec

POOL_CPUS = 0.1
"""CPUs a replica asks Ray for. Ray's CPU is a scheduling token and limits nothing: a whole one each would let a
2-core machine hold two pools and no router, while the cores a pool really uses are set by its `threads` option."""


class ReplicaPlacement(msgspec.Struct, frozen=True):
    """What one replica of a pool asks Ray for, and the provider its backend uses where the pool names none."""

    provider: str
    """Name in the provider table of deployments/backends/onnx.py."""
    num_cpus: float = POOL_CPUS
    num_gpus: float = 0.0
    resources: tuple[tuple[str, float], ...] = ()
    """Ray custom resources as (name, amount)."""
    accelerator_type: str = ""
    """Ray's accelerator type as Ray detects it on the node; "" where any node will do."""

    def ray_actor_options(self) -> dict[str, object]:
        """The options of a Ray Serve deployment, only those that are asked for."""
        options: dict[str, object] = {"num_cpus": self.num_cpus}
        if self.num_gpus:
            options["num_gpus"] = self.num_gpus
        if self.resources:
            options["resources"] = dict(self.resources)
        if self.accelerator_type:
            options["accelerator_type"] = self.accelerator_type
        return options


class PlacementError(Exception):
    """An accelerator class that the table does not know. The text names the known ones."""


def _nvidia(accelerator_type: str) -> ReplicaPlacement:
    return ReplicaPlacement("cuda", num_gpus=1, accelerator_type=accelerator_type)


def _ascend(accelerator_type: str) -> ReplicaPlacement:
    return ReplicaPlacement("cann", resources=(("NPU", 1.0),), accelerator_type=accelerator_type)


_ON_CPU = ReplicaPlacement("cpu")

# Ray cannot tell the forms of one chip apart (SXM, PCIe; 40 or 80 GB): where a cluster mixes them, its operator labels
# the nodes.
_TABLE: dict[str, ReplicaPlacement] = {
    "x86-cpu": _ON_CPU,
    "nvidia-h100-sxm": _nvidia("H100"),
    "nvidia-h20": _nvidia("H20"),
    "nvidia-a100-40g": _nvidia("A100"),
    "nvidia-a100-80g": _nvidia("A100"),
    "huawei-ascend-910b1": _ascend("Ascend910B1"),
    "huawei-ascend-910b2": _ascend("Ascend910B2"),
    "huawei-ascend-910b3": _ascend("Ascend910B3"),
    "huawei-ascend-910b4": _ascend("Ascend910B4"),
}


def place(accelerator: str, emulated: bool) -> ReplicaPlacement:
    """Placement of one replica of that class; an emulated one needs only a CPU. Raises PlacementError."""
    if emulated:
        return _ON_CPU
    if accelerator not in _TABLE:
        raise PlacementError(f"no placement for accelerator class {accelerator!r}, known: {', '.join(_TABLE)}")
    return _TABLE[accelerator]
