"""A graph in half precision: weights and arithmetic FP16, inputs and outputs as they were. Bytes in, bytes out."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_SMALLEST = np.float16(6e-8)
"""The smallest FP16 above 0: what guards a division must not become 0."""


def halved(data: bytes) -> bytes:
    """The ONNX model with every FP32 constant as FP16, and a Cast behind each FP32 input and before each FP32 output.

    Raises ValueError for a constant beyond what FP16 holds.
    """
    model = onnx.load_from_string(data)
    graph = model.graph
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(_half(tensor.name, numpy_helper.to_array(tensor)), tensor.name))
    for shape in graph.value_info:
        if shape.type.tensor_type.elem_type == TensorProto.FLOAT:
            shape.type.tensor_type.elem_type = TensorProto.FLOAT16
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
    entries = [_boundary(graph, value, inward=True) for value in graph.input if _is_float(value)]
    exits = [_boundary(graph, value, inward=False) for value in graph.output if _is_float(value)]
    nodes = [*entries, *graph.node, *exits]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _half(name: str, array: np.ndarray) -> np.ndarray:
    if array.size and np.abs(array).max() > np.finfo(np.float16).max:
        raise ValueError(f"{name}: a value beyond what FP16 holds")
    half = array.astype(np.float16)
    lost = (half == 0) & (array != 0)
    return np.where(lost, np.sign(array).astype(np.float16) * _SMALLEST, half).astype(np.float16)


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == TensorProto.FLOAT)


def _boundary(graph: onnx.GraphProto, value: onnx.ValueInfoProto, *, inward: bool) -> onnx.NodeProto:
    """A Cast at an input or output; what used that name inside uses NAME.half."""
    inside = f"{value.name}.half"
    for node in graph.node:
        names = node.input if inward else node.output
        for index, name in enumerate(names):
            if name == value.name:
                names[index] = inside
        if not inward:  # an output may be read inside too
            node.input[:] = [inside if name == value.name else name for name in node.input]
    if inward:
        return helper.make_node("Cast", [value.name], [inside], name=inside, to=TensorProto.FLOAT16)
    return helper.make_node("Cast", [inside], [value.name], name=f"{value.name}.float", to=TensorProto.FLOAT)
