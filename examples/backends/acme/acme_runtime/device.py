"""Stands in for Acme's driver and compiler: takes an ONNX graph of dense layers and runs it with numpy, on the CPU.

A vendor replaces this file by its own runtime. Knows nothing of Pointsman.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import onnx
from onnx import numpy_helper

NAME = "Acme NPU, computed by numpy on the CPU"


class Unsupported(Exception):
    """The compiler cannot place a graph on the chip. The text says which part."""


def _gemm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | float = 0.0, **attributes: float) -> np.ndarray:
    if attributes.get("transA"):
        raise Unsupported("Gemm with transA mixes rows")
    product = x @ (weight.T if attributes.get("transB") else weight)
    return attributes.get("alpha", 1.0) * product + attributes.get("beta", 1.0) * bias


_OPERATORS: dict[str, Callable[..., np.ndarray]] = {
    "MatMul": np.matmul,
    "Gemm": _gemm,
    "Add": np.add,
    "Relu": lambda x: np.maximum(x, np.float32(0)),
}


class Program:
    """One compiled graph in the memory of the device. One caller at a time."""

    def __init__(self, path: str) -> None:
        """Raises Unsupported where any node of the file has no kernel here, OSError where it cannot be read."""
        graph = onnx.load(path).graph
        missing = sorted({node.op_type for node in graph.node} - _OPERATORS.keys())
        if missing:
            raise Unsupported(f"no kernel for {', '.join(missing)}; there are: {', '.join(_OPERATORS)}")
        self._weights = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        self._steps = [
            (
                _OPERATORS[node.op_type],
                list(node.input),
                node.output[0],
                {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute},
            )
            for node in graph.node
        ]
        self.inputs = [each.name for each in graph.input if each.name not in self._weights]
        self.outputs = [each.name for each in graph.output]
        self._one_caller = threading.Lock()

    @property
    def nodes(self) -> int:
        """Nodes that run on the device: all of them, or there would be no program."""
        return len(self._steps)

    def run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every output. The arrays are new ones."""
        if not self._one_caller.acquire(blocking=False):
            raise RuntimeError("the device is busy: one caller at a time")
        try:
            values = self._weights | feed
            for operator, inputs, output, attributes in self._steps:
                values[output] = operator(*(values[name] for name in inputs), **attributes)
            return {name: values[name] for name in self.outputs}
        finally:
            self._one_caller.release()
