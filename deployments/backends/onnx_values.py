"""Tensors that ONNX Runtime's Python API does not take or give as arrays of ours: BYTES and BF16. Part of onnx.py.

Its strings are text, and given bytes it would take their repr; BF16 goes in and out as OrtValue only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deployments.backends.base import Arrays, BackendError, InputError
from models.tensors import DTYPES

_STRING, _BF16 = "tensor(string)", "tensor(bfloat16)"
_BF16_ONNX = 16
"""onnx.TensorProto.BFLOAT16."""


class UnusualTensors:
    """Those of one model. False where it has none: session.run will do."""

    def __init__(self, session: Any, model: str, ort_value: Any) -> None:
        """`ort_value` is ONNX Runtime's class OrtValue. Raises BackendError for what its API cannot do."""
        inputs = {tensor.name: tensor.type for tensor in session.get_inputs()}
        outputs = {tensor.name: tensor.type for tensor in session.get_outputs()}
        if _BF16 in outputs.values() and _STRING in {*inputs.values(), *outputs.values()}:
            raise BackendError(f"{model}: ONNX Runtime's Python API gives no BF16 output of a model with BYTES tensors")
        self._inputs = {name: kind for name, kind in inputs.items() if kind in (_STRING, _BF16)}
        self._outputs = {name: kind for name, kind in outputs.items() if kind in (_STRING, _BF16)}
        self._ort_value = ort_value

    def __bool__(self) -> bool:
        return bool(self._inputs or self._outputs)

    def run(self, session: Any, names: list[str], inputs: Arrays) -> list[np.ndarray]:
        """session.run with and for arrays of ours. Raises InputError, BackendError, and whatever session.run does."""
        feed: dict[str, Any] = dict(inputs)
        for name, kind in self._inputs.items():
            if name in feed:
                feed[name] = _text(name, feed[name]) if kind == _STRING else self._bf16(name, feed[name])
        if all(self._outputs.get(name) != _BF16 for name in names):
            values = session.run(names, feed)
            return [_mapped(value, str.encode) if value.dtype == object else value for value in values]
        for name in feed.keys() - self._inputs.keys():
            feed[name] = self._ort_value.ortvalue_from_numpy(np.ascontiguousarray(feed[name]))
        return [self._array(value) for value in session.run_with_ort_values(names, feed)]

    def _bf16(self, name: str, array: np.ndarray) -> Any:
        if array.dtype != DTYPES["BF16"]:
            raise BackendError(f"{name}: BF16 expected, got {array.dtype}")
        # It takes any array of two-byte elements, and reads one with gaps as if it had none.
        return self._ort_value.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(array), _BF16_ONNX)

    def _array(self, value: Any) -> np.ndarray:
        """An output as an array of its own."""
        if value.data_type() != _BF16:
            return value.numpy()
        array = np.empty(value.shape(), DTYPES["BF16"])
        self._bf16("", array).update_inplace(value)
        return array


def _text(name: str, array: np.ndarray) -> np.ndarray:
    try:
        return _mapped(array, bytes.decode)
    except UnicodeDecodeError:
        raise InputError(f"{name}: elements that are not UTF-8, as the strings of an ONNX model are") from None


def _mapped(array: np.ndarray, convert: Callable[[Any], object]) -> np.ndarray:
    flat = np.empty(array.size, object)
    flat[:] = [convert(element) for element in array.ravel().tolist()]
    return flat.reshape(array.shape)
