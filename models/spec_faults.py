"""What is wrong with a model's facts that their types alone do not say. Values only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath

from models.spec import BATCH_AXIS, VARIANT_DTYPES, ModelSpec, TensorSpec, Variant
from models.tensors import DTYPES


def faults(spec: ModelSpec, name: str, version: str) -> Iterator[tuple[str, str]]:
    """(key path, what is wrong) for what the types alone do not say. `name` and `version` are the folder's."""
    if (spec.name, spec.version) != (name, version):
        yield "$.name", f"{spec.name}/{spec.version} lies in folder {name}/{version}"
    if spec.batch.max_rows < 1:
        yield "$.batch.max_rows", f"at least 1 expected, got {spec.batch.max_rows}"
    for key, tensors in (("inputs", spec.inputs), ("outputs", spec.outputs)):
        yield from _tensor_faults(f"$.{key}", tensors)
    if not spec.variants:
        yield "$.variants", "at least one expected"
    for index, variant in enumerate(spec.variants):
        if variant.name in {other.name for other in spec.variants[:index]}:
            yield f"$.variants[{index}].name", f"{variant.name} twice"
        yield from _variant_faults(f"$.variants[{index}]", spec, variant)
    if spec.text is not None:
        yield from _tensor_faults("$.text.tensor", (spec.text.tensor,))
        yield from _file_faults("$.text.tokenizer", spec.text.tokenizer, spec.text.sha256)
        if (spec.text.tensor.datatype, spec.text.tensor.shape) != ("BYTES", (BATCH_AXIS,)):
            yield "$.text.tensor", "datatype BYTES and shape [batch] expected"
        if spec.text.tensor.name in {tensor.name for tensor in spec.inputs}:
            yield "$.text.tensor.name", f"{spec.text.tensor.name} is an input of the graph too"


def _tensor_faults(key: str, tensors: tuple[TensorSpec, ...]) -> Iterator[tuple[str, str]]:
    if not tensors:
        yield key, "at least one tensor expected"
    for index, tensor in enumerate(tensors):
        at = f"{key}[{index}]"
        if not tensor.name or tensor.name in {other.name for other in tensors[:index]}:
            yield f"{at}.name", f"{tensor.name!r} is empty or there twice"
        if tensor.datatype not in DTYPES:
            yield f"{at}.datatype", f"{tensor.datatype} is unknown; known: {', '.join(DTYPES)}"
        if tensor.shape[:1] != (BATCH_AXIS,) or BATCH_AXIS in tensor.shape[1:]:
            yield f"{at}.shape", f"the first axis and no other is {BATCH_AXIS}"
        for axis in tensor.shape:
            if axis == "" or (isinstance(axis, int) and axis < 1):
                yield f"{at}.shape", f"axes are names or whole numbers of at least 1, got {axis!r}"


def _variant_faults(key: str, spec: ModelSpec, variant: Variant) -> Iterator[tuple[str, str]]:
    yield from _file_faults(f"{key}.file", variant.file, variant.sha256)
    if not variant.name:
        yield f"{key}.name", "a name expected"
    if variant.dtype not in VARIANT_DTYPES:
        yield f"{key}.dtype", f"{variant.dtype} is unknown; known: {', '.join(VARIANT_DTYPES)}"
    longest = {axis: tensor.max_length for tensor in spec.inputs for axis in tensor.shape if isinstance(axis, str)}
    for axis, sizes in variant.sizes.items():
        at = f"{key}.sizes.{axis}"
        if axis not in longest:
            yield at, "no input has such an axis"
        elif not sizes or sizes[0] < 1 or list(sizes) != sorted(set(sizes)):
            yield at, f"extents that rise from at least 1 expected, got {list(sizes)}"
        elif axis != BATCH_AXIS and not 0 < longest[axis] <= sizes[-1]:
            # Else the variant would refuse what the model takes.
            yield at, f"the last must reach the axis's max_length, {longest[axis] or 'which has none'}"


def _file_faults(key: str, name: str, sha256: str) -> Iterator[tuple[str, str]]:
    if not name or PurePath(name).name != name:
        yield key, f"the name of a file beside model.yaml expected, got {name!r}"
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        yield key, f"its sha256 is 64 hex digits, got {sha256!r}"
