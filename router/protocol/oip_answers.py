"""Open Inference Protocol v2 answers: tensors to JSON, with binary data behind it for the outputs wanted so.

Owns what an answer says, exactly or not at all. Binary tensors leave as they came from the replica, without a copy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import orjson

from models.tensors import DTYPES, TensorError, from_wire
from router.core.errors import RequestError, UpstreamError
from router.protocol.codec import BINARY_ONLY, Encoded, ParsedInfer
from router.protocol.link import Tensor
from router.protocol.oip_binary import JSON_LENGTH

JSON_LINES = b"content-type: application/json\r\n"
_BINARY_LINES = b"content-type: application/octet-stream\r\n" + JSON_LENGTH.encode() + b": %d\r\n"


def encode_infer(model: str, version: str, infer_id: str, outputs: Sequence[Tensor]) -> bytes:
    """The answer as JSON, data flat in row-major order; floats are written so that they read back to the same bits.

    Raises UpstreamError (backend_failed) for what JSON cannot say truly: NaN, infinity, BYTES that are not UTF-8, data
    that are not of their shape. null in their place would be a silent substitution. RequestError (malformed) for FP16.
    """
    entries: list[dict[str, object]] = [
        {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape, "data": _json_data(tensor)}
        for tensor in outputs
    ]
    return _document(model, version, infer_id, entries, outputs)


def encode_mixed(model: str, version: str, asked: ParsedInfer, outputs: Sequence[Tensor]) -> Encoded:
    """The answer with those outputs as binary data that `asked` wants so; plain JSON where it wants none.

    Raises as encode_infer; binary data may hold any bits, but must be of their shape.
    """
    entries: list[dict[str, object]] = []
    text: list[Tensor] = []
    binary: list[memoryview] = []
    for tensor in outputs:
        entry: dict[str, object] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if asked.wants_binary(tensor.name):
            _array(tensor)
            entry["parameters"] = {"binary_data_size": tensor.data.nbytes}
            binary.append(tensor.data)
        else:
            entry["data"] = _json_data(tensor)
            text.append(tensor)
        entries.append(entry)
    body = _document(model, version, asked.id, entries, text)
    return Encoded(_BINARY_LINES % len(body), body, binary) if binary else Encoded(JSON_LINES, body)


def _document(
    model: str, version: str, infer_id: str, entries: list[dict[str, object]], text: Iterable[Tensor]
) -> bytes:
    """The JSON of an answer; `text` are the tensors whose data are in it."""
    answer: dict[str, object] = {"model_name": model, "model_version": version}
    if infer_id:
        answer["id"] = infer_id
    answer["outputs"] = entries
    document = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    if b"null" in document:  # how orjson writes what is not finite; a search costs less than asking every array
        _refuse_not_finite(text)
    return document


def _refuse_not_finite(outputs: Iterable[Tensor]) -> None:
    for tensor in outputs:
        dtype = DTYPES[tensor.datatype]
        if dtype.kind == "f" and not np.isfinite(np.frombuffer(tensor.data, dtype)).all():
            detail = f"output {tensor.name!r} holds NaN or infinity, which JSON cannot carry: ask for it as binary data"
            raise UpstreamError("backend_failed", detail)


def _json_data(tensor: Tensor) -> np.ndarray | list[str]:
    """Flat data in a form orjson writes."""
    if tensor.datatype in BINARY_ONLY:
        detail = f"output {tensor.name!r}: {tensor.datatype} has no JSON form, it travels as binary data only"
        raise RequestError("malformed", detail)
    dtype = DTYPES.get(tensor.datatype)
    if dtype is not None and dtype.kind in "fiu" and tensor.data.nbytes == math.prod(tensor.shape) * dtype.itemsize:
        array = np.frombuffer(tensor.data, dtype)
        # A tensor starts anywhere in its frame; orjson reads it with native loads.
        return array if array.flags.aligned else array.copy()
    # BYTES and BOOL, whose values are looked at, and whatever does not hold together.
    array = _array(tensor).reshape(-1)
    if tensor.datatype == "BYTES":
        try:
            return [element.decode() for element in array]
        except UnicodeDecodeError:
            detail = f"output {tensor.name!r} holds bytes that are not UTF-8: ask for it as binary data"
            raise UpstreamError("backend_failed", detail) from None
    return array


def _array(tensor: Tensor) -> np.ndarray:
    """The tensor, looked through. Raises UpstreamError where its data are not what it says."""
    try:
        return from_wire(tensor.datatype, tensor.shape, tensor.data, tensor.name)
    except TensorError as error:
        raise UpstreamError("backend_failed", f"the replica's answer is broken: {error}") from None
