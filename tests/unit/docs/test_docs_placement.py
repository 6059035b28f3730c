"""docs/placement.md against the code: its table of providers, and every refusal that it quotes."""

import re
import sys
from types import SimpleNamespace

import pytest
from docs_pages import ROOT, blocks, table

from deployments.backends import libraries, onnx
from deployments.backends.base import BackendError
from deployments.placement import Node, PlacementError, full, lacks, place
from deployments.providers import PROVIDERS
from models.spec import BatchRule, ModelSpec, Variant
from router.config.load import load
from router.config.settings import Hardware, PoolSettings
from router.core.facts import AcceleratorFacts, PoolFacts

PAGE = ROOT / "docs" / "placement.md"
CPU = Node({"CPU": 4.0}, {}, {})
H100 = Node({"CPU": 8.0, "GPU": 2.0, "accelerator_type:H100": 1.0}, {}, {})
H20 = Node({"CPU": 8.0, "GPU": 2.0, "accelerator_type:H20": 1.0}, {"CPU": 7.0, "accelerator_type:H20": 1.0}, {})


def quoted(heading: str) -> list[str]:
    """First cells of the table under a heading, as they stand between backticks."""
    section = PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `([^`\n]+)` \|", section, re.MULTILINE)


def pool(accelerator: str, provider: str, hardware: Hardware) -> PoolSettings:
    """A pool of that class."""
    facts = PoolFacts("p", AcceleratorFacts(accelerator), "r", provider, False, {}, 1.0, ("m",))
    return PoolSettings(facts, 1, 1, "onnx", {}, hardware)


def missing(provider: str, *names: str) -> str:
    """What a session says of libraries that are not found."""
    return f"Missing: {libraries.words(names, PROVIDERS[provider].parts)}."


def refusal(provider: str, tmp_path) -> str:
    """What the backend says of a provider in this environment, or of a model file that was altered."""
    (tmp_path / "m.onnx").write_bytes(b"changed")
    spec = ModelSpec(
        name="m",
        version="1",
        inputs=(),
        outputs=(),
        batch=BatchRule(),
        variants=(Variant("f32", "m.onnx", "0" * 64),),
        folder=str(tmp_path),
    )
    with pytest.raises(BackendError) as raised:
        onnx.OnnxBackend(spec, {"provider": provider})
    return str(raised.value)


def openvino(monkeypatch) -> list[str]:
    """What is said where the plugin finds no device of its own, and where it is not installed."""
    said = []
    with monkeypatch.context() as patch:
        patch.setattr(onnx, "_register", lambda name, provider: None)
        patch.setattr(onnx.ort, "get_ep_devices", list)
        with pytest.raises(BackendError) as raised:
            onnx._plugin_device("openvino", PROVIDERS["openvino"])
        said.append(str(raised.value))
    with monkeypatch.context() as patch:
        patch.setattr(onnx, "_registered", set())
        patch.setitem(sys.modules, "onnxruntime_ep_openvino", None)
        with pytest.raises(BackendError) as raised:
            onnx._register("openvino", PROVIDERS["openvino"])
        said.append(str(raised.value))
    return said


def several(monkeypatch) -> str:
    """What is said of two forks in one environment."""
    with monkeypatch.context() as patch:
        forks = [SimpleNamespace(name=name, version="1") for name in ("onnxruntime", "onnxruntime-gpu")]
        patch.setattr(onnx, "_owners", lambda: forks)
        return onnx._several_builds()


def test_the_table_of_providers_is_that_of_the_code():
    """Resource, packages, environment and image of each."""
    rows = [[cell.strip("`") for cell in row] for row in table(PAGE, "provider")]
    assert rows == [
        [name, p.device, ", or ".join(filter(None, (p.plugin, p.fork))) or "onnxruntime", p.environment, p.image]
        for name, p in PROVIDERS.items()
    ]


def test_what_a_waiting_pool_says_is_quoted_whole():
    """Word for word, with a cluster as the page has it."""
    h20 = {"num_cpus": 0.1, "num_gpus": 1.0, "accelerator_type": "H20"}
    pcie = place(pool("nvidia-h100-pcie", "cuda", Hardware("GPU", 1, "H100", exact=False))).ray_actor_options()
    assert quoted("A pool that waits") == [lacks(h20, [CPU]), lacks(pcie, [H100]), full(h20, [H20])]


def test_every_refusal_that_is_quoted_is_said(tmp_path, monkeypatch):
    """As a part of what the code says, in the order of the page."""
    said = [
        refusal("cuda", tmp_path),
        missing("cuda", "libcuda.so.1"),
        missing("cuda", "libcublasLt.so.13"),
        missing("cuda", "libcudnn.so.9"),
        missing("tensorrt", "libnvinfer.so.10", "libnvonnxparser.so.10"),
        missing("cann", "libascendcl.so"),
        onnx._hint(RuntimeError("fallback to CPU EP has been explicitly disabled")),
        *openvino(monkeypatch),
        several(monkeypatch),
        refusal("vulkan", tmp_path),
        refusal("cpu", tmp_path),
    ]
    for quote, words in zip(quoted("A pool that refuses"), said, strict=True):
        assert quote in words
    with pytest.raises(PlacementError) as raised:
        place(pool("amd-mi300x", "cpu", Hardware("GPU", 1)))
    assert f"`{str(raised.value).partition(':')[0]}`" in PAGE.read_text()


def test_the_classes_of_the_example_are_placed_as_the_page_says(tmp_path):
    """By the type that the operator vouches for; by a resource that only such nodes have."""
    config = tmp_path / "fleet.yaml"
    pools = "pools: [{name: sxm, accelerator: nvidia-h100-sxm, region: r, models: [m]}]"
    config.write_text(f"{blocks(PAGE, 'yaml')[0]}\n{pools}\n")
    (sxm,) = load(config, None).pools
    assert place(sxm).ray_actor_options() == {"num_cpus": 0.1, "num_gpus": 1.0, "accelerator_type": "H100"}
