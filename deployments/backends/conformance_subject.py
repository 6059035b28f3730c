"""A backend class with one model, and what its answers are held against. Part of conformance.py."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from deployments.backends import registry
from deployments.backends.base import Arrays, Backend, LoadContext
from deployments.backends.onnx import OnnxBackend
from models import tensors
from models.spec import ModelSpec, TensorSpec

TOLERANCE = 1e-3
"""Of 1 + the reference's value: what fp16 arithmetic may differ by."""
_RAGGED = 16
"""Extent of every ragged axis."""


class Subject:
    """`kind` in words, `options` as under `backend: options:`, `accelerator` as a pool would name it."""

    def __init__(
        self,
        kind: str,
        factory: type[Backend],
        spec: ModelSpec,
        options: Mapping[str, Any],
        accelerator: str = "",
        tolerance: float = TOLERANCE,
    ) -> None:
        self.kind, self.factory, self.spec, self.options = kind, factory, spec, options
        self.tolerance = tolerance
        self._context = LoadContext("check", accelerator)
        self._rng = np.random.default_rng(11)
        self.rows = spec.batch.max_rows

    def load(self) -> Backend:
        """A new one, as a replica would load it. Raises BackendError."""
        return registry.load(self.kind, self.factory, self.spec, self.options, self._context)

    @cached_property
    def backend(self) -> Backend:
        """The one that most checks run."""
        return self.load()

    @cached_property
    def reference(self) -> OnnxBackend:
        """ONNX Runtime on the CPU."""
        return OnnxBackend(self.spec, {"provider": "cpu"})

    @cached_property
    def batch(self) -> Arrays:
        """A batch of the model's most rows."""
        return self.inputs(self.rows)

    def inputs(self, rows: int) -> Arrays:
        """A batch of random values that the model takes, in memory that cannot be written."""
        arrays = {tensor.name: _values(self._rng, tensor, rows) for tensor in self.spec.inputs}
        for array in arrays.values():
            array.flags.writeable = False
        return arrays

    def differ(self, got: Arrays, wanted: Arrays) -> str:
        """How two answers differ by more than the tolerance, "" if they do not."""
        for name, right in wanted.items():
            if name not in got:
                return f"output {name} is missing"
            if got[name].shape != right.shape:
                return f"output {name} has shape {list(got[name].shape)}, not {list(right.shape)}"
            if right.dtype == object or right.dtype.kind in "biu":
                off = 0.0 if np.array_equal(got[name], right) else float("inf")
            else:
                left, exact = got[name].astype(np.float64), right.astype(np.float64)
                off = float(np.max(np.abs(left - exact) / (1 + np.abs(exact)), initial=0.0))
            if not off <= self.tolerance:
                return f"output {name} is off by {off:.2g}, at most {self.tolerance:g} is allowed"
        return ""


def _values(rng: np.random.Generator, tensor: TensorSpec, rows: int) -> np.ndarray:
    ragged = min(_RAGGED, tensor.max_length or _RAGGED)
    shape = [rows, *(ragged if isinstance(axis, str) else axis for axis in tensor.shape[1:])]
    if tensor.datatype == "BYTES":
        flat = np.array([b"word %d" % index for index in range(int(np.prod(shape)))], object)
        return flat.reshape(shape)
    dtype = tensors.DTYPES[tensor.datatype]
    if dtype.kind in "biu":
        low, high = tensor.valid or (0, 1)
        return rng.integers(int(low), int(high), shape, endpoint=True).astype(dtype)
    low, high = tensor.valid or (-1.0, 1.0)
    return rng.uniform(low, high, shape).astype(dtype)
