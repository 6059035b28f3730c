"""Tensors of every datatype whose bits a careless server would change. Needs numpy alone (and ml_dtypes for BF16)."""

from __future__ import annotations

import ml_dtypes
import numpy as np

NUMPY = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
BINARY_ONLY = ("FP16", "BF16")
"""What JSON has no form for."""
_TEXT = ["", "plain", "æøå\x00", "東京", 'a\nb\t"quoted" \\', "0" * 3000]
"""UTF-8, as the strings of an ONNX model have to be."""


def sample(datatype: str, *, finite: bool = True) -> np.ndarray:
    """A tensor [2, n]: extremes, -0.0, subnormals, long strings; with `finite` False NaN and infinity too."""
    if datatype == "BYTES":
        return np.array([text.encode() for text in _TEXT], np.object_).reshape(2, -1)
    kind = np.dtype(NUMPY[datatype])
    if datatype == "BOOL":
        return np.array([[True, False, True], [False, False, True]])
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return np.array([[limits.min, 0, 1], [limits.max, 7, limits.max - 1]], kind)
    limits = ml_dtypes.finfo(kind)
    values = [0.0, -0.0, 1 / 3, -np.pi, float(limits.max), float(limits.min)]
    values += [float(limits.tiny), float(limits.smallest_subnormal), 1e-3, 1e-4]
    values += [] if finite else [np.inf, -np.inf, np.nan, -np.nan]
    return np.array(values, np.float64).astype(kind).reshape(2, -1)


def as_bytes(array: np.ndarray) -> np.ndarray:
    """A BYTES tensor with bytes where JSON gave text."""
    flat = np.empty(array.size, np.object_)
    flat[:] = [one.encode() if isinstance(one, str) else one for one in array.ravel().tolist()]
    return flat.reshape(array.shape)


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    """Whether shapes, dtypes and every bit agree."""
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    return left.tolist() == right.tolist() if left.dtype == object else left.tobytes() == right.tobytes()
