"""A thin hand for writing ONNX graphs: named nodes and constants in order, bytes equal on every run.

Owns the form of the file (opset, IR version, names). Knows no model, reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
"""Old enough for every execution provider of the catalogue, new enough for LayerNormalization."""
IR_VERSION = 8


class Graph:
    """An ONNX graph under construction. Nodes run in the order in which they are added."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._shapes: list[onnx.ValueInfoProto] = []

    def constant(self, name: str, value: np.ndarray | float | Iterable[int]) -> str:
        """Add `value` once under `name` (lists become INT64, floats FP32) and return the name."""
        if name not in self._constants:
            array = np.asarray(value)
            array = array.astype(np.float32) if array.dtype == np.float64 else array
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def node(self, op: str, *inputs: str, name: str, **attributes: Any) -> str:
        """Add one node with one output, called `name` like the node, and return that name."""
        self._nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def dense(self, x: str, weight: np.ndarray, bias: np.ndarray, name: str) -> str:
        """x @ weight + bias, weight of shape [in, out]."""
        product = self.node("MatMul", x, self.constant(f"{name}.weight", weight), name=f"{name}.matmul")
        return self.node("Add", product, self.constant(f"{name}.bias", bias), name=name)

    def declare(self, name: str, datatype: int, *shape: int | str) -> str:
        """State the shape of a value where inference loses it: runtimes fuse only what they know the shape of."""
        self._shapes.append(value(name, datatype, *shape))
        return name

    def serialize(self, inputs: Iterable[onnx.ValueInfoProto], outputs: Iterable[onnx.ValueInfoProto]) -> bytes:
        """Check the whole and return the bytes of the model file. Raises onnx.checker.ValidationError."""
        graph = helper.make_graph(
            self._nodes,
            self._name,
            list(inputs),
            list(outputs),
            initializer=list(self._constants.values()),
            value_info=self._shapes,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="pointsman",
        )
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))


def value(name: str, datatype: int, *shape: int | str) -> onnx.ValueInfoProto:
    """Declare a graph input or output. `datatype` is a TensorProto number such as INT64 or FLOAT."""
    return helper.make_tensor_value_info(name, datatype, list(shape))


FLOAT = TensorProto.FLOAT
INT64 = TensorProto.INT64
