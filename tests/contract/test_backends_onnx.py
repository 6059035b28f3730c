"""The contract of deployments/backends/base.py, held against the real runtime on each provider it can use here."""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from deployments.backends.base import BackendError
from deployments.backends.onnx import OnnxBackend
from deployments.devices import tiny_model
from models.repository import load_store
from models.spec import BatchRule, ModelSpec, TensorSpec, Variant
from models.zoo.build import DEFAULT_STORE

INTEL = any(device.device.vendor_id == 0x8086 for device in onnxruntime.get_ep_devices())
"""As ONNX Runtime sees it, not as the code under test does: where it is true OpenVINO must work."""

needs_intel = pytest.mark.skipif(not INTEL, reason="the OpenVINO plugin offers no device on a CPU that is not Intel's")
PROVIDERS = ["cpu", pytest.param("openvino", marks=needs_intel)]
EP = {"cpu": "CPUExecutionProvider", "openvino": "OpenVINOExecutionProvider"}


def saved(folder, name, nodes, inputs, outputs, weights) -> ModelSpec:
    """Write a graph of (name, onnx type, datatype, shape) tensors; its spec."""
    values = [
        [helper.make_tensor_value_info(n, kind, shape) for n, kind, _, shape in side] for side in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, name, *values, [numpy_helper.from_array(w, n) for n, w in weights.items()])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    Path(folder, f"{name}.onnx").write_bytes(data)
    tensors = [
        tuple(TensorSpec(n, datatype, tuple(shape)) for n, _, datatype, shape in side) for side in (inputs, outputs)
    ]
    variant = Variant("f32", f"{name}.onnx", hashlib.sha256(data).hexdigest())
    return ModelSpec(name, "1", *tensors, batch=BatchRule(), variants=(variant,), folder=str(folder))


def padded(rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Token rows padded with 0 to the longest, and the mask of what is real."""
    longest = max(map(len, rows))
    ids = np.stack([np.pad(row, (0, longest - len(row))) for row in rows])
    mask = np.stack([np.arange(longest) < len(row) for row in rows]).astype(np.int64)
    return ids, mask


@pytest.fixture
def text_like(tmp_path) -> ModelSpec:
    """A text model in small: embedding, masked self-attention, masked mean, unit length; ragged axis `tokens`."""
    rng = np.random.default_rng(7)
    weights = {
        "table": rng.standard_normal((50, 32)).astype(np.float32),
        "one": np.array(1, np.float32),
        "far": np.array(-1e9, np.float32),
        "axis1": np.array([1], np.int64),
        "axis2": np.array([2], np.int64),
    } | {name: (rng.standard_normal((32, 32)) / 6).astype(np.float32) for name in ("q", "k", "v")}
    node = helper.make_node
    nodes = [
        node("Cast", ["mask"], ["m"], to=TensorProto.FLOAT),
        node("Gather", ["table", "ids"], ["e"]),
        *(node("MatMul", ["e", name], [f"e{name}"]) for name in ("q", "k", "v")),
        node("Transpose", ["ek"], ["ekt"], perm=[0, 2, 1]),
        node("MatMul", ["eq", "ekt"], ["raw"]),
        node("Sub", ["one", "m"], ["hidden"]),
        node("Mul", ["hidden", "far"], ["penalty"]),
        node("Unsqueeze", ["penalty", "axis1"], ["penalty1"]),
        node("Add", ["raw", "penalty1"], ["masked"]),
        node("Softmax", ["masked"], ["p"], axis=-1),
        node("MatMul", ["p", "ev"], ["a"]),
        node("Unsqueeze", ["m", "axis2"], ["m2"]),
        node("Mul", ["a", "m2"], ["am"]),
        node("ReduceSum", ["am", "axis1"], ["sum"], keepdims=0),
        node("LpNormalization", ["sum"], ["y"], axis=-1, p=2),
    ]
    ragged = [(name, TensorProto.INT64, "INT64", ["batch", "tokens"]) for name in ("ids", "mask")]
    return saved(tmp_path, "text", nodes, ragged, [("y", TensorProto.FLOAT, "FP32", ["batch", 32])], weights)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_node_runs_on_the_provider_asked_for(provider, tmp_path):
    """The placement is what the runtime assigned, with no node elsewhere."""
    spec, _, _ = tiny_model(tmp_path)
    placement = OnnxBackend(spec, {"provider": provider}).placement
    assert placement.provider == EP[provider]
    assert placement.nodes > 0
    assert placement.other_nodes == 0
    assert placement.device


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("threads", [1, 2])
def test_an_answer_is_that_of_numpy_to_1e_5(provider, threads, tmp_path):
    """Every provider computes in f32, so all agree with numpy and so with each other."""
    spec, inputs, expected = tiny_model(tmp_path)
    answer = OnnxBackend(spec, {"provider": provider, "threads": threads}).run(inputs, ())
    np.testing.assert_allclose(answer["y"], expected["y"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_neighbours_in_a_text_batch_do_not_change_an_answer(provider, text_like):
    """A row padded to its longest neighbour answers as it does alone, to 1e-5."""
    backend = OnnxBackend(text_like, {"provider": provider})
    rng = np.random.default_rng(3)
    rows = [rng.integers(0, 50, size=length) for length in (1, 3, 9, 17, 40)]
    ids, mask = padded(rows)
    together = backend.run({"ids": ids, "mask": mask}, ("y",))["y"]
    for i, row in enumerate(rows):
        ids, mask = padded([row])
        alone = backend.run({"ids": ids, "mask": mask}, ("y",))["y"]
        np.testing.assert_allclose(together[i], alone[0], atol=1e-5, rtol=0)


@pytest.mark.skipif(not DEFAULT_STORE.is_dir(), reason=f"{DEFAULT_STORE} is not built: python -m models.zoo.build")
@pytest.mark.parametrize("provider", PROVIDERS)
def test_minilm_answers_the_same_alone_padded_and_on_every_provider(provider):
    """The real weights: each row of a ragged batch as it is alone on the CPU provider, to 1e-5."""
    spec = load_store(DEFAULT_STORE)["minilm"]["1"]
    backend, on_cpu = OnnxBackend(spec, {"provider": provider}), OnnxBackend(spec, {"provider": "cpu"})
    rng = np.random.default_rng(4)
    rows = [rng.integers(1000, 20000, size=length) for length in (3, 7, 16, 33)]
    ids, mask = padded(rows)
    together = backend.run({"input_ids": ids, "attention_mask": mask}, ("embedding",))["embedding"]
    for i, row in enumerate(rows):
        ids, mask = padded([row])
        alone = on_cpu.run({"input_ids": ids, "attention_mask": mask}, ())["embedding"]
        np.testing.assert_allclose(together[i], alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_only_the_outputs_asked_for_come_back(provider, tmp_path):
    """A subset is respected, () means all, an unknown name is an error with words."""
    nodes = [helper.make_node("Relu", ["x"], ["up"]), helper.make_node("Neg", ["x"], ["down"])]
    tensor = ("FP32", ["batch", 2])
    spec = saved(tmp_path, "two", nodes, [("x", 1, *tensor)], [("up", 1, *tensor), ("down", 1, *tensor)], {})
    backend = OnnxBackend(spec, {"provider": provider})
    x = np.array([[1, -2]], np.float32)
    np.testing.assert_array_equal(backend.run({"x": x}, ("down",))["down"], -x)
    assert list(backend.run({"x": x}, ("down",))) == ["down"]
    assert list(backend.run({"x": x}, ())) == ["up", "down"]
    with pytest.raises(BackendError, match="sideways"):
        backend.run({"x": x}, ("sideways",))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_two_backends_run_from_two_threads(provider, tmp_path):
    """Sessions of one process share nothing that changes an answer."""
    spec, inputs, expected = tiny_model(tmp_path)
    backends = [OnnxBackend(spec, {"provider": provider}) for _ in range(2)]

    def many(backend):
        return [backend.run({"x": inputs["x"][: 1 + i % 4]}, ())["y"] for i in range(200)]

    with ThreadPoolExecutor(2) as threads:
        for answers in threads.map(many, backends):
            for i, answer in enumerate(answers):
                np.testing.assert_allclose(answer, expected["y"][: 1 + i % 4], atol=1e-5, rtol=0)


@needs_intel
def test_a_model_that_openvino_cannot_hold_whole_does_not_start(tmp_path):
    """No node falls to the CPU provider in silence."""
    strings = TensorProto.STRING, "BYTES", [None]
    nodes = [helper.make_node("StringNormalizer", ["x"], ["y"], case_change_action="LOWER")]
    spec = saved(tmp_path, "strings", nodes, [("x", *strings)], [("y", *strings)], {})
    with pytest.raises(BackendError, match="OpenVINOExecutionProvider could not load"):
        OnnxBackend(spec, {"provider": "openvino"})


@pytest.mark.skipif(INTEL, reason="OpenVINO finds an Intel device here")
def test_openvino_without_an_intel_device_does_not_start(tmp_path):
    """The error names the provider, what is here, and what to do instead."""
    spec, _, _ = tiny_model(tmp_path)
    with pytest.raises(
        BackendError, match=r"openvino: .* offers no CPU device .*CPU.* Intel .*`make env-openvino`.*provider cpu"
    ):
        OnnxBackend(spec, {"provider": "openvino"})


@pytest.mark.parametrize(
    ("hide", "words"),
    [
        (
            "sys.modules['onnxruntime_ep_openvino'] = None",
            "onnxruntime-ep-openvino is not installed (import of onnxruntime_ep_openvino halted; None in sys.modules): "
            "install it beside onnxruntime, or `make env-openvino`",
        ),
        (
            "import onnxruntime_ep_openvino as p; p.get_library_path = lambda: '/nowhere/libplugin.so'",
            "the plugin library of onnxruntime-ep-openvino cannot be loaded: no such library: /nowhere/libplugin.so",
        ),
        (
            "import onnxruntime_ep_openvino as p; p.get_library_path = lambda: __import__('os').__file__",
            "the plugin library of onnxruntime-ep-openvino cannot be loaded: [ONNXRuntimeError]",
        ),
    ],
    ids=["package absent", "library absent", "library broken"],
)
def test_openvino_with_its_library_hidden_says_what_is_missing(hide, words, tmp_path):
    """In a process of its own, because a plugin once registered stays."""
    tiny_model(tmp_path)
    script = f"""
import sys, pathlib
{hide}
from deployments.backends.base import BackendError
from deployments.backends.onnx import OnnxBackend
from deployments.devices import tiny_model
spec, _, _ = tiny_model(pathlib.Path({str(tmp_path)!r}))
try:
    OnnxBackend(spec, {{"provider": "openvino"}})
except BackendError as error:
    print(error)
"""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert words in done.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"provder": "cpu"}, "provder"),
        ({"provider": "cpu", "threads": "2"}, "threads"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"provider": "vulkan"}, "unknown provider 'vulkan', known: cpu, openvino"),
        (
            {"provider": "cuda"},
            r"not in this build, onnxruntime 1.* onnxruntime-gpu, .*`make env-cuda`.*pointsman-cuda",
        ),
        (
            {"provider": "tensorrt"},
            r"onnxruntime-gpu, .*`make env-cuda`\) or an image that has it \(pointsman-tensorrt",
        ),
        ({"provider": "cann"}, r"onnxruntime-cann, .*an environment of its own \(`make env-cann`\) or an image"),
    ],
)
def test_options_that_cannot_be_met_are_refused_by_name(options, words, tmp_path):
    """A typo, a wrong type and a provider of another build are each told apart."""
    spec, _, _ = tiny_model(tmp_path)
    with pytest.raises(BackendError, match=words):
        OnnxBackend(spec, options)


def test_a_file_that_was_altered_is_not_loaded(tmp_path):
    """The digest is checked before the runtime sees the file."""
    spec, _, _ = tiny_model(tmp_path)
    with (tmp_path / "tiny.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BackendError, match="tiny"):
        OnnxBackend(spec, {})


def test_a_file_that_is_no_model_is_an_error_with_words(tmp_path):
    """Its digest is right, its content is not."""
    spec, _, _ = tiny_model(tmp_path)
    data = b"not a graph"
    (tmp_path / "tiny.onnx").write_bytes(data)
    spec = msgspec.structs.replace(spec, variants=(Variant("f32", "tiny.onnx", hashlib.sha256(data).hexdigest()),))
    with pytest.raises(BackendError, match=r"could not load .*tiny\.onnx"):
        OnnxBackend(spec, {})


def test_a_bad_batch_is_an_error_and_the_session_still_well(tmp_path):
    """Wrong shape, dtype, name and a missing tensor each raise; the next batch is answered."""
    spec, inputs, expected = tiny_model(tmp_path)
    backend = OnnxBackend(spec, {})
    x = inputs["x"]
    for bad in ({"x": x[:, :5]}, {"x": x.astype(np.float64)}, {"z": x}, {}):
        with pytest.raises(BackendError, match="tiny"):
            backend.run(bad, ())
    np.testing.assert_allclose(backend.run(inputs, ())["y"], expected["y"], atol=1e-5, rtol=0)


def test_a_closed_backend_says_so(tmp_path):
    """Closing twice is harmless, running afterwards is an error."""
    spec, inputs, _ = tiny_model(tmp_path)
    backend = OnnxBackend(spec, {})
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.run(inputs, ())
