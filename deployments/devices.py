"""What this machine can run: each provider loads and runs a tiny graph, and the runtime says where its nodes went.

Reports what happened and nothing else: a provider that is listed but does not run is not there.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import msgspec
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from deployments.backends.base import Arrays, BackendError, Placement
from deployments.backends.onnx import PROVIDERS, OnnxBackend
from models.spec import BatchRule, ModelSpec, TensorSpec, Variant

_WIDTH = 16
_TOLERANCE = 1e-5


class DeviceReport(msgspec.Struct, frozen=True):
    """One provider of the table on this machine. `missing` is "" where it runs, else why it does not."""

    provider: str
    """Name as a pool's configuration gives it."""
    placement: Placement | None
    """Where the tiny graph ran; None where it did not."""
    missing: str


def probe() -> list[DeviceReport]:
    """A report for every provider of the table, in its order. Takes up to about a second."""
    with tempfile.TemporaryDirectory() as folder:
        spec, inputs, expected = tiny_model(Path(folder))
        return [_report(name, spec, inputs, expected) for name in PROVIDERS]


def tiny_model(folder: Path) -> tuple[ModelSpec, Arrays, Arrays]:
    """Write relu(x·w) into the folder; its spec, an input x f32[4, 16] and the answer y as numpy computes it."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((_WIDTH, _WIDTH)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["product"]), helper.make_node("Relu", ["product"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", _WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", _WIDTH])],
        [numpy_helper.from_array(weight, "w")],
    )
    # An older IR and opset: onnx writes newer ones than the oldest runtime in use reads.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data = model.SerializeToString()
    (folder / "tiny.onnx").write_bytes(data)
    spec = ModelSpec(
        name="tiny",
        version="1",
        inputs=(TensorSpec("x", "FP32", ("batch", _WIDTH)),),
        outputs=(TensorSpec("y", "FP32", ("batch", _WIDTH)),),
        batch=BatchRule(),
        variants=(Variant("f32", "tiny.onnx", hashlib.sha256(data).hexdigest()),),
        folder=str(folder),
    )
    x = rng.standard_normal((4, _WIDTH)).astype(np.float32)
    return spec, {"x": x}, {"y": np.maximum(x @ weight, 0)}


def _report(provider: str, spec: ModelSpec, inputs: Arrays, expected: Arrays) -> DeviceReport:
    try:
        backend = OnnxBackend(spec, {"provider": provider})
        answer = backend.run(inputs, ())
    except BackendError as error:
        return DeviceReport(provider, None, str(error))
    backend.close()
    off = float(np.abs(answer["y"] - expected["y"]).max())
    if not off <= _TOLERANCE:
        return DeviceReport(provider, None, f"{backend.placement.provider} computes wrongly: off by {off:.2g}")
    return DeviceReport(provider, backend.placement, "")
