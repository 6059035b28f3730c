"""Arrays against a TensorSpec: check, stack, split, and the form they have on the stream.

Owns what a well-formed tensor is. Never looks at values beyond what a spec declares, never copies without need.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence

import ml_dtypes
import numpy as np

from models.spec import BATCH_AXIS, TensorSpec

Arrays = dict[str, np.ndarray]
"""Tensor name to array. BYTES tensors are object arrays of bytes."""

DTYPES: dict[str, np.dtype] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "BYTES": np.dtype(object),
}
"""Open Inference Protocol datatype to numpy dtype (`.itemsize` is bytes per element; BYTES has no fixed size).

numpy has no bfloat16; the one of ml_dtypes computes, compares and pads as a number of its own type, never as uint16.
"""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_LENGTH = struct.Struct("<I")


class TensorError(ValueError):
    """A tensor that does not fit.

    `reason` is "shape_mismatch" for rank and axes, "malformed" for names, datatypes, bytes and values.
    The text names the tensor, what was expected and what came.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def datatype_of(array: np.ndarray) -> str:
    """Open Inference Protocol name of an array's dtype, or numpy's own name where the protocol has none."""
    return _NAMES.get(array.dtype) or str(array.dtype)


def check(accepted: tuple[tuple[TensorSpec, ...], ...], arrays: Mapping[str, np.ndarray]) -> int:
    """Rows of a request whose tensors are exactly one of the accepted sets. Raises TensorError.

    Checked: names, datatypes, ranks, fixed axes, limits and values a spec declares, and that every symbolic axis has
    one extent of at least 1 over all tensors of the request.
    """
    extents: dict[str, int] = {}
    for spec in _matching(accepted, arrays):
        array = arrays[spec.name]
        shape = array.shape
        if array.dtype != DTYPES[spec.datatype]:
            raise TensorError("malformed", f"{spec.name}: datatype {spec.datatype} expected, got {datatype_of(array)}")
        if len(shape) != len(spec.shape):
            raise _misfit(spec, shape, f"{len(spec.shape)} axes expected, got {len(shape)}")
        for axis, extent in zip(spec.shape, shape, strict=True):
            if isinstance(axis, int):
                if axis != extent:
                    raise _misfit(spec, shape, f"{axis} expected, got {extent}")
            elif extents.setdefault(axis, extent) != extent:
                raise _misfit(spec, shape, f"axis {axis} is {extents[axis]} in another tensor")
        if spec.max_length or spec.valid is not None:
            _check_limits(spec, array)
    for axis_name, extent in extents.items():
        if extent < 1:
            raise TensorError("shape_mismatch", f"axis {axis_name}: at least 1 expected, got {extent}")
    return extents[BATCH_AXIS]


def _matching(accepted: tuple[tuple[TensorSpec, ...], ...], arrays: Mapping[str, np.ndarray]) -> tuple[TensorSpec, ...]:
    for specs in accepted:
        if len(specs) == len(arrays):
            for spec in specs:
                if spec.name not in arrays:
                    break
            else:
                return specs
    sets = " or ".join("[" + ", ".join(s.name for s in specs) + "]" for specs in accepted)
    closest = max(accepted, key=lambda specs: len(arrays.keys() & {s.name for s in specs}))
    names = {s.name for s in closest}
    faults = [f"input {name} is missing" for name in sorted(names - arrays.keys())]
    known = {s.name for specs in accepted for s in specs}
    faults += [
        f"input {name!r} " + ("does not go with the others" if name in known else "is unknown")
        for name in sorted(arrays.keys() - names)
    ]
    raise TensorError("malformed", f"{', '.join(faults)}; accepted: {sets}")


def _check_limits(spec: TensorSpec, array: np.ndarray) -> None:
    if spec.max_length:
        for axis, extent in zip(spec.shape[1:], array.shape[1:], strict=True):
            if isinstance(axis, str) and extent > spec.max_length:
                raise _misfit(spec, array.shape, f"axis {axis}: at most {spec.max_length} expected, got {extent}")
    if spec.valid is not None and array.size:
        low, high = spec.valid
        if not (low <= array.min() and array.max() <= high):
            raise TensorError("malformed", f"{spec.name}: values from {low:g} to {high:g} expected, got others")


def _misfit(spec: TensorSpec, shape: tuple[int, ...], fault: str) -> TensorError:
    expected = ", ".join(map(str, spec.shape))
    return TensorError("shape_mismatch", f"{spec.name}: shape [{expected}] expected, got {list(shape)}: {fault}")


def ragged_lengths(specs: Iterable[TensorSpec], arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Extent of every ragged axis of one request, by axis name. Empty for models without one."""
    return {
        axis: extent
        for spec in specs
        for axis, extent in zip(spec.shape[1:], arrays[spec.name].shape[1:], strict=True)
        if isinstance(axis, str)
    }


def stack(specs: Iterable[TensorSpec], requests: Sequence[Arrays]) -> Arrays:
    """Checked requests as one batch, in order; ragged axes padded with `spec.pad` to the longest of the batch.

    One request alone is returned as it is.
    """
    if len(requests) == 1:
        return requests[0]
    return {spec.name: _stack_one(spec, [request[spec.name] for request in requests]) for spec in specs}


def _stack_one(spec: TensorSpec, arrays: list[np.ndarray]) -> np.ndarray:
    tails = {array.shape[1:] for array in arrays}
    if len(tails) == 1:
        return np.concatenate(arrays)
    longest = tuple(map(max, zip(*tails, strict=True)))
    rows = sum(array.shape[0] for array in arrays)
    pad = b"" if spec.datatype == "BYTES" else spec.pad
    out = np.full((rows, *longest), pad, arrays[0].dtype)
    start = 0
    for array in arrays:
        end = start + array.shape[0]
        out[(slice(start, end), *map(slice, array.shape[1:]))] = array
        start = end
    return out


def split(
    specs: Iterable[TensorSpec],
    outputs: Mapping[str, np.ndarray],
    rows: Sequence[int],
    lengths: Sequence[Mapping[str, int]],
) -> list[Arrays]:
    """The outputs of a batch by request: `rows[i]` rows each, ragged axes cut to `lengths[i]`, so no padding shows.

    `specs` are output specs; those not in `outputs` are passed over. An axis that is in no request's lengths is left
    whole. Answers are views of the batch's outputs. Raises TensorError if the rows do not add up.
    """
    wanted = [(spec, _ragged_axes(spec)) for spec in specs if spec.name in outputs]
    total = sum(rows)
    for spec, _ in wanted:
        if outputs[spec.name].shape[:1] != (total,):
            raise _misfit(spec, outputs[spec.name].shape, f"{total} rows expected")
    answers: list[Arrays] = []
    start = 0
    for count, own in zip(rows, lengths, strict=True):
        end = start + count
        answer = {spec.name: outputs[spec.name][start:end] for spec, _ in wanted}
        for spec, ragged in wanted:
            if ragged:
                answer[spec.name] = answer[spec.name][(slice(None), *(slice(own.get(axis)) for axis in ragged))]
        answers.append(answer)
        start = end
    return answers


def _ragged_axes(spec: TensorSpec) -> list[str]:
    """Names of the axes after the first, "" where fixed; empty if none is ragged."""
    axes = [axis if isinstance(axis, str) else "" for axis in spec.shape[1:]]
    return axes if any(axes) else []


def to_wire(array: np.ndarray, datatype: str, name: str = "tensor") -> memoryview:
    """Little-endian row-major bytes of `array`; no copy where it is that already. Raises TensorError."""
    dtype = _dtype(datatype, name)
    if array.dtype != dtype:
        raise TensorError("malformed", f"{name}: datatype {datatype} expected, got {datatype_of(array)}")
    if datatype == "BYTES":
        parts: list[bytes] = []
        for element in array.ravel().tolist():
            parts += (_LENGTH.pack(len(element)), element)
        return memoryview(b"".join(parts))
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def from_wire(datatype: str, shape: Sequence[int], data: memoryview, name: str = "tensor") -> np.ndarray:
    """The array that `data` holds, without a copy for numeric types (read-only if `data` is). Raises TensorError.

    Nothing is allocated before the shape is known to match the bytes.
    """
    dtype = _dtype(datatype, name)
    if any(extent < 0 for extent in shape):
        raise TensorError("malformed", f"{name}: shape {list(shape)} has a negative extent")
    count = math.prod(shape)
    if datatype == "BYTES":
        flat = _elements(data, count, name)
    else:
        if count * dtype.itemsize != data.nbytes:
            fault = f"{datatype} {list(shape)} takes {count * dtype.itemsize} bytes, got {data.nbytes}"
            raise TensorError("malformed", f"{name}: {fault}")
        if datatype == "BOOL" and count and np.frombuffer(data, np.uint8).max() > 1:
            raise TensorError("malformed", f"{name}: BOOL elements are 0 or 1")
        flat = np.frombuffer(data, dtype)
    try:
        return flat.reshape(tuple(shape))
    except (ValueError, OverflowError) as error:
        raise TensorError("malformed", f"{name}: shape {list(shape)} is too large: {error}") from None


def _elements(data: memoryview, count: int, name: str) -> np.ndarray:
    """`count` BYTES elements, each `u32 length | bytes`, that fill `data` exactly."""
    if count * _LENGTH.size > data.nbytes:
        raise TensorError("malformed", f"{name}: {count} BYTES elements expected, {data.nbytes} bytes cannot hold them")
    raw = data.tobytes()  # one copy, of which slices are elements: half the time of a view and a copy for each
    size, head, length_at = len(raw), _LENGTH.size, _LENGTH.unpack_from
    elements: list[bytes] = []
    at = 0
    for index in range(count):
        start = at + head
        if start > size:
            raise TensorError("malformed", f"{name}: element {index} has no length")
        at = start + length_at(raw, at)[0]
        if at > size:
            raise TensorError("malformed", f"{name}: element {index} ends {at - size} bytes after the tensor")
        elements.append(raw[start:at])
    if at != size:
        raise TensorError("malformed", f"{name}: {size - at} bytes left after {count} BYTES elements")
    flat = np.empty(count, object)
    flat[:] = elements
    return flat


def _dtype(datatype: str, name: str) -> np.dtype:
    dtype = DTYPES.get(datatype)
    if dtype is None:
        raise TensorError("malformed", f"{name}: datatype {datatype} is unknown; known: {', '.join(DTYPES)}")
    return dtype
