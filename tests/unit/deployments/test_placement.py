"""Hardware of a class to what Ray is asked for, and words where no node has it."""

import msgspec
import pytest

from deployments.environments import ENVIRONMENTS
from deployments.placement import CLASS_LABEL, POOL_CPUS, Node, PlacementError, full, lacks, place
from deployments.providers import PROVIDERS
from router.config import build
from router.config.settings import Hardware, PoolSettings
from router.core.facts import AcceleratorFacts, PoolFacts

CPU_NODE = Node({"CPU": 4.0, "memory": 1e10, "node:10.0.0.1": 1.0}, {"CPU": 3.0}, {"ray.io/node-id": "a1"})
H20 = {"CPU": 8.0, "GPU": 2.0, "accelerator_type:H20": 1.0}
H20_NODE = Node(H20, H20, {})


def pool(accelerator="x86-cpu", provider="cpu", hardware=None, emulated=False, backend="onnx", **node_labels):
    """A pool of that class; `node_labels` name labels."""
    facts = PoolFacts(
        name="p",
        accelerator=AcceleratorFacts(name=accelerator),
        region="here",
        provider=provider,
        emulated=emulated,
        labels={},
        cost=1.0,
        models=("mlp",),
    )
    return PoolSettings(facts, 1, 1, backend, {}, hardware or Hardware(), node_labels=node_labels)


@pytest.mark.parametrize(
    ("accelerator", "provider", "hardware", "options"),
    [
        ("x86-cpu", "cpu", Hardware(), {}),
        ("nvidia-h20", "cuda", Hardware("GPU", 1, "H20"), {"num_gpus": 1.0, "accelerator_type": "H20"}),
        ("shared-l20", "tensorrt", Hardware("GPU", 0.5, "L20"), {"num_gpus": 0.5, "accelerator_type": "L20"}),
        ("two-h20", "cuda", Hardware("GPU", 2, "H20"), {"num_gpus": 2.0, "accelerator_type": "H20"}),
        (
            "nvidia-a100-80g",
            "cuda",
            Hardware("GPU", 1, "A100", exact=False),
            {"num_gpus": 1.0, "label_selector": {CLASS_LABEL: "nvidia-a100-80g"}},
        ),
        (
            "huawei-ascend-910b3",
            "cann",
            Hardware("NPU", 1, "Ascend910B3"),
            {"resources": {"NPU": 1.0}, "accelerator_type": "Ascend910B3"},
        ),
    ],
)
def test_a_class_asks_ray_for_its_device(accelerator, provider, hardware, options):
    """By the type where it names the class alone; by the operator's label and nothing else where it does not."""
    placement = place(pool(accelerator, provider, hardware))
    assert placement.ray_actor_options() == {"num_cpus": POOL_CPUS} | options


def test_a_class_of_a_fleet_file_needs_no_code():
    """A chip that Ray does not know asks for its custom resource alone; its backend is not ours to judge."""
    placement = place(pool("acme-npu", "acme", Hardware("ACME_NPU", 2), backend="acme"))
    assert placement.ray_actor_options() == {"num_cpus": POOL_CPUS, "resources": {"ACME_NPU": 2}}


@pytest.mark.parametrize("hardware", [Hardware("NPU", 1, "Ascend910B3"), Hardware("ACME_NPU", 8, exact=False)])
def test_an_emulated_pool_is_placed_as_a_cpu_pool(hardware):
    """Whatever it emulates; where its nodes are is still the operator's to say."""
    emulated = pool("any", hardware=hardware, emulated=True, backend="emulated", zone="a")
    assert place(emulated).ray_actor_options() == {"num_cpus": POOL_CPUS, "label_selector": {"zone": "a"}}


def test_labels_of_a_pool_and_of_its_class_hold_together():
    """A node needs both."""
    placement = place(pool("nvidia-h100-sxm", "cuda", Hardware("GPU", 1, "H100", exact=False), zone="a"))
    assert dict(placement.labels) == {"zone": "a", CLASS_LABEL: "nvidia-h100-sxm"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (pool("amd-mi300x", "cpu", Hardware("GPU", 1, "MI300X")), "provider cpu runs on Ray's resource CPU, but class"),
        (pool("some-chip", "cuda"), "provider cuda runs on Ray's resource GPU, but class some-chip asks for CPU"),
        (pool("acme", "acme", Hardware("ACME", 1.5), backend="acme"), "asks for 1.5 ACME: above 1, only whole ones"),
        (pool(**{CLASS_LABEL: "nvidia-h20"}), f"{CLASS_LABEL} follows from the accelerator class"),
    ],
)
def test_a_pool_that_would_land_on_other_hardware_is_refused(settings, words):
    """At load, before anything starts."""
    with pytest.raises(PlacementError, match=words):
        place(settings)


def test_the_tables_of_providers_agree():
    """What a configuration may name is what can be run, each with an image and a way to get its fork."""
    assert set(PROVIDERS) == build.PROVIDERS
    for name, provider in PROVIDERS.items():
        assert {PROVIDERS[other].device for other in build.KINDRED[name]} == {provider.device}
        assert provider.image.startswith("pointsman")
        assert (provider.environment in ENVIRONMENTS) == bool(provider.fork)


def test_a_type_that_no_node_has_is_told_with_what_the_cluster_has():
    """In the words of the cluster; what nobody asks a node for is left out."""
    options = {"num_cpus": 0.1, "num_gpus": 1.0, "accelerator_type": "H20"}
    npu = Node({"CPU": 4.0, "NPU": 2.0, "accelerator_type:Ascend910B3": 1.0}, {}, {"zone": "a"})
    assert lacks(options, [CPU_NODE, npu, CPU_NODE]) == (
        "no node has GPU 1 with accelerator_type:H20 "
        "(the cluster has: 2 × CPU 4; CPU 4, NPU 2, accelerator_type:Ascend910B3, zone=a)"
    )
    assert lacks(options, []).endswith("(the cluster has: no node)")
    assert lacks(options, [CPU_NODE, H20_NODE]) == ""


def test_a_label_that_is_missing_is_told_with_how_to_set_it():
    """Only where some node would do but for the label."""
    options = place(pool("nvidia-h100-pcie", "cuda", Hardware("GPU", 1, "H100", exact=False))).ray_actor_options()
    assert lacks(options, [H20_NODE]) == (
        "no node has GPU 1 with label pointsman.io/accelerator=nvidia-h100-pcie (the cluster has: CPU 8, GPU 2, "
        "accelerator_type:H20); a node of that class must carry the label: "
        "ray start --labels pointsman.io/accelerator=nvidia-h100-pcie"
    )
    assert "must carry" not in lacks(options, [CPU_NODE])
    labelled = msgspec.structs.replace(H20_NODE, labels={CLASS_LABEL: "nvidia-h100-pcie"})
    assert lacks(options, [labelled]) == ""


def test_a_device_in_use_is_told_from_one_that_is_not_there():
    """Both wait; only one needs a machine."""
    options = {"num_cpus": 0.1, "num_gpus": 1.0, "accelerator_type": "H20"}
    taken = msgspec.structs.replace(H20_NODE, free=H20 | {"GPU": 0.0})
    assert full(options, [CPU_NODE, taken]) == (
        "every node that has GPU 1 with accelerator_type:H20 is in full use (CPU 0 of 8, GPU 2 of 2)"
    )
    assert full(options, [taken, H20_NODE]) == ""
    assert full(options, [CPU_NODE]) == ""
