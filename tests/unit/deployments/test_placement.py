"""The placement table."""

import pytest

from deployments.placement import POOL_CPUS, PlacementError, place


@pytest.mark.parametrize(
    ("accelerator", "provider", "options"),
    [
        ("x86-cpu", "cpu", {}),
        ("nvidia-h100-sxm", "cuda", {"num_gpus": 1.0, "accelerator_type": "H100"}),
        ("nvidia-a100-80g", "cuda", {"num_gpus": 1.0, "accelerator_type": "A100"}),
        ("nvidia-h20", "cuda", {"num_gpus": 1.0, "accelerator_type": "H20"}),
        ("huawei-ascend-910b3", "cann", {"resources": {"NPU": 1.0}, "accelerator_type": "Ascend910B3"}),
    ],
)
def test_a_class_asks_ray_for_its_device(accelerator, provider, options):
    """One whole device a replica, on a node where Ray detected that type."""
    placement = place(accelerator, emulated=False)
    assert placement.provider == provider
    assert placement.ray_actor_options() == {"num_cpus": POOL_CPUS} | options


@pytest.mark.parametrize("accelerator", ["huawei-ascend-910b3", "an-in-house-chip"])
def test_an_emulated_pool_is_placed_as_a_cpu_pool(accelerator):
    """Whatever it emulates, known to the table or not."""
    assert place(accelerator, emulated=True) == place("x86-cpu", emulated=False)


def test_an_unknown_class_lists_the_known_ones():
    """It never lands on just any node."""
    with pytest.raises(PlacementError, match="'nvidia-h21', known: x86-cpu, nvidia-h100-sxm"):
        place("nvidia-h21", emulated=False)
