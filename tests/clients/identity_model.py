"""Models that give back what they get, one for each datatype, for clients to try every form of a tensor.

`echo_<datatype>`: x [batch, n] -> y [batch, n]. `echo_pair`: a FP32, b INT64, each [batch, n] -> c, d the same.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import yaml
from onnx import TensorProto, helper

from models.repository import MODEL_FILE, load_model, sha256_of
from models.tensors import DTYPES
from models.zoo.graph import IR_VERSION, OPSET

ONNX_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
DATATYPES = tuple(name for name in ONNX_TYPES if name in DTYPES)
"""Those of the protocol that this router serves."""

_Tensors = list[tuple[str, str]]


def build_store(store: Path, *linked: Path) -> list[str]:
    """Build every identity model into `store`, link the models of the folders `linked` into it. Returns their names."""
    store.mkdir(parents=True, exist_ok=True)
    for datatype in DATATYPES:
        _build(store, f"echo_{datatype.lower()}", [("x", datatype)], [("y", datatype)])
    _build(store, "echo_pair", [("a", "FP32"), ("b", "INT64")], [("c", "FP32"), ("d", "INT64")])
    for folder in linked:
        (store / folder.name).symlink_to(folder.resolve())
    return sorted(child.name for child in store.iterdir())


def _build(store: Path, name: str, inputs: _Tensors, outputs: _Tensors) -> None:
    """One model of `<store>/<name>/1`: each output is the input at its place."""
    folder = store / name / "1"
    folder.mkdir(parents=True)
    nodes = [helper.make_node("Identity", [x], [y]) for (x, _), (y, _) in zip(inputs, outputs, strict=True)]
    declared = [
        [helper.make_tensor_value_info(tensor, ONNX_TYPES[datatype], ["batch", "n"]) for tensor, datatype in side]
        for side in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, name, *declared)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.save(model, folder / "model.onnx")
    facts = {
        "name": name,
        "version": "1",
        "description": "gives back what it gets",
        "licence": "Apache-2.0",
        "source": "tests/clients/identity_model.py",
        "inputs": [_spec(*tensor) for tensor in inputs],
        "outputs": [_spec(*tensor) for tensor in outputs],
        "variants": [{"name": "plain", "file": "model.onnx", "sha256": sha256_of(folder / "model.onnx")}],
    }
    (folder / MODEL_FILE).write_text(yaml.safe_dump(facts, sort_keys=False))
    load_model(folder)


def _spec(name: str, datatype: str) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": ["batch", "n"]}
