"""Batches at the few shapes that a variant runs: padded up to the next, and the answer cut back. Pure.

A padding row repeats the last real one, so that every index in it is valid; a ragged axis is padded as its tensor says.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from itertools import product

import numpy as np

from models.spec import BATCH_AXIS, ModelSpec, TensorSpec
from models.tensors import Arrays

Sizes = Mapping[str, tuple[int, ...]]
"""Axis name to the extents that are run, rising; see Variant.sizes."""


def padded(specs: tuple[TensorSpec, ...], arrays: Arrays, sizes: Sizes) -> tuple[Arrays, dict[str, int]]:
    """The arrays at the next listed extent of each axis, and the extents that they had.

    Raises ValueError for an extent above the last one listed.
    """
    extents = {
        axis: extent
        for spec in specs
        for axis, extent in zip(spec.shape, arrays[spec.name].shape, strict=True)
        if axis in sizes and isinstance(axis, str)
    }
    target = {axis: _next(axis, sizes[axis], extent) for axis, extent in extents.items()}
    if target == extents:
        return arrays, extents
    return {spec.name: _grown(spec, arrays[spec.name], target) for spec in specs}, extents


def cut(specs: tuple[TensorSpec, ...], outputs: Arrays, extents: Mapping[str, int]) -> Arrays:
    """The outputs at those extents again; views. Outputs that are not in `specs` are an error of the caller."""
    by_name = {spec.name: spec for spec in specs}
    return {
        name: array[tuple(slice(extents.get(axis) if isinstance(axis, str) else None) for axis in by_name[name].shape)]
        for name, array in outputs.items()
    }


def shapes(spec: ModelSpec) -> list[dict[str, int]]:
    """Every combination of extents that the model's only variant runs, by axis; [] where it takes any."""
    sizes = spec.variants[0].sizes
    if not sizes:
        return []
    rows = spec.batch.max_rows
    # A batch is never larger than the model allows, so neither is what it is padded to, but for the one size above.
    bounded = {
        axis: all_ if axis != BATCH_AXIS else all_[: bisect_left(all_, rows) + 1] for axis, all_ in sizes.items()
    }
    return [dict(zip(bounded, extents, strict=True)) for extents in product(*bounded.values())]


def _next(axis: str, sizes: tuple[int, ...], extent: int) -> int:
    at = bisect_left(sizes, extent)
    if at == len(sizes):
        raise ValueError(f"axis {axis}: at most {sizes[-1]} expected, got {extent}")
    return sizes[at]


def _grown(spec: TensorSpec, array: np.ndarray, target: Mapping[str, int]) -> np.ndarray:
    shape = [
        target.get(axis, extent) if isinstance(axis, str) else extent
        for axis, extent in zip(spec.shape, array.shape, strict=True)
    ]
    pad = b"" if spec.datatype == "BYTES" else spec.pad
    out = np.full(shape, pad, array.dtype)
    out[tuple(map(slice, array.shape))] = array
    out[len(array) :] = out[len(array) - 1]
    return out
