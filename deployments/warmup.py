"""What a pool runs before it is ready: inputs of every size up to the largest batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from models import tensors
from models.spec import BatchRule, TensorSpec

TYPICAL_LENGTH = 16
"""Extent of a ragged axis."""


def sizes(rule: BatchRule) -> list[int]:
    """Rows to try: powers of two, and the most that is allowed."""
    found = []
    rows = 1
    while rows < rule.max_rows:
        found.append(rows)
        rows *= 2
    return [*found, rule.max_rows]


def filled(specs: Iterable[TensorSpec], **extents: int) -> tensors.Arrays:
    """A well-formed request, all ones. `extents`: of axes by name, `batch` above all; others get a typical length."""
    return {spec.name: _ones(spec, extents) for spec in specs}


def _ones(spec: TensorSpec, extents: Mapping[str, int]) -> np.ndarray:
    shape = [extents.get(axis, TYPICAL_LENGTH) if isinstance(axis, str) else axis for axis in spec.shape]
    return np.full(shape, b"1" if spec.datatype == "BYTES" else 1, tensors.DTYPES[spec.datatype])
