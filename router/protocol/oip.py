"""Open Inference Protocol v2, JSON: requests to arrays, tensors to answers. Its documents are in metadata.py.

Owns what is well-formed. Never knows whether tensors fit a model (models/tensors.py) nor which status an error has.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Annotated, Any, NoReturn

import msgspec
import numpy as np
import orjson
from msgspec import Meta

from models.tensors import DTYPES, TensorError, from_wire
from router.core.errors import RequestError, UpstreamError
from router.protocol.codec import Body, Encoded, InferParameters, ParsedInfer
from router.protocol.link import Tensor

_MAX_AXES = 32
_BINARY_ONLY = frozenset({"FP16", "BF16"})
_REFUSED = frozenset({"sequence_id", "sequence_start", "sequence_end", "binary_data_size", "classification"})
_REFUSED_PREFIX = "shared_memory_"
"""Parameters that would change what the answer means. Others are ignored, as the protocol has it."""

_ELEMENTS: dict[str, tuple[type, str]] = {
    "BOOL": (bool, "?"),
    "UINT8": (int, "B"),
    "UINT16": (int, "H"),
    "UINT32": (int, "I"),
    "UINT64": (int, "Q"),
    "INT8": (int, "b"),
    "INT16": (int, "h"),
    "INT32": (int, "i"),
    "INT64": (int, "q"),
    "FP32": (float, "f"),
    "FP64": (float, "d"),
    "BYTES": (str, ""),
}
"""Datatype to the JSON type of its elements and the struct code that packs them and checks their range."""

_Name = Annotated[str, Meta(min_length=1, max_length=256)]
_Shape = Annotated[list[Annotated[int, Meta(ge=1)]], Meta(max_length=_MAX_AXES)]
_Parameters = dict[str, Any]


class _Input(msgspec.Struct):
    name: _Name
    shape: _Shape
    datatype: str
    data: msgspec.Raw = msgspec.Raw()
    parameters: _Parameters | None = None


class _Output(msgspec.Struct):
    name: _Name
    parameters: _Parameters | None = None


class _Request(msgspec.Struct):
    inputs: Annotated[list[_Input], Meta(min_length=1)]
    id: str | None = None
    outputs: list[_Output] | None = None
    parameters: _Parameters | None = None


_NO_PARAMETERS = InferParameters()
_decode_request = msgspec.json.Decoder(_Request).decode


JSON_LINES = b"content-type: application/json\r\n"


class JsonCodec:
    """The protocol's JSON form. Implements codec.Codec."""

    def parse(self, body: Body, max_elements: int) -> ParsedInfer:
        """See parse_infer."""
        return parse_infer(body, max_elements)

    def encode(self, model: str, version: str, asked: ParsedInfer, outputs: Sequence[Tensor]) -> Encoded:
        """See encode_infer."""
        return Encoded(JSON_LINES, encode_infer(model, version, asked.id, outputs))


JSON = JsonCodec()


def parse_infer(body: Body, max_elements: int) -> ParsedInfer:
    """An inference request of at most `max_elements` tensor elements in all.

    Raises RequestError: malformed (not the protocol), shape_mismatch (data are not of the shape they claim), too_large.
    """
    try:
        request = _decode_request(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _malformed(f"the body is not an inference request: {error}")
    parameters = _parameters(request.parameters)
    inputs: dict[str, np.ndarray] = {}
    elements = 0
    for tensor in request.inputs:
        name = tensor.name
        if name in inputs:
            _malformed(f"input {name!r} is given twice")
        if tensor.parameters:
            _refuse(tensor.parameters, f"input {name!r}")
        values = _values(tensor)
        elements += len(values)
        if elements > max_elements:
            raise RequestError("too_large", f"more than {max_elements} tensor elements, reached at input {name!r}")
        inputs[name] = _array(tensor, values)
    return ParsedInfer(request.id or "", inputs, _outputs(request.outputs or ()), parameters)


def _malformed(detail: str) -> NoReturn:
    raise RequestError("malformed", detail) from None


def _refuse(parameters: Mapping[str, object], where: str) -> None:
    for key in parameters:
        if key in _REFUSED or key.startswith(_REFUSED_PREFIX):
            _malformed(f"{where}: parameter {key!r} is not supported and would change the meaning of the request")


def _parameters(given: _Parameters | None) -> InferParameters:
    if not given:
        return _NO_PARAMETERS
    _refuse(given, "request")
    for key in ("timeout", "priority"):
        value = given.get(key)
        if value is not None and (type(value) is not int or value < 0):
            _malformed(f"request: parameter {key!r} must be an integer of at least 0")
    return InferParameters(given.get("timeout"), given.get("priority"))


def _outputs(wanted: Iterable[_Output]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for output in wanted:
        if output.parameters:
            _refuse(output.parameters, f"output {output.name!r}")
        if output.name in names:
            _malformed(f"output {output.name!r} is asked for twice")
        names[output.name] = None
    return tuple(names)


@lru_cache(maxsize=4 * _MAX_AXES)
def _decoder(element: type, axes: int) -> msgspec.json.Decoder[list[Any]]:
    """Decodes `axes` (>= 1) nested lists of `element`, strictly: no bool is a number, no float an integer."""
    kind: Any = element
    for _ in range(axes):
        kind = list[kind]
    return msgspec.json.Decoder(kind)


def _values(tensor: _Input) -> list[Any]:
    """The elements in row-major order, as many as the shape says."""
    name, datatype, shape = tensor.name, tensor.datatype, tensor.shape
    if datatype not in _ELEMENTS:
        if datatype in _BINARY_ONLY:
            _malformed(f"input {name!r}: {datatype} has no JSON form, it travels as binary data only")
        _malformed(f"input {name!r}: unknown datatype {datatype!r}, expected one of {', '.join(_ELEMENTS)}")
    if not tensor.data:
        _malformed(f"input {name!r}: data is missing")
    element = _ELEMENTS[datatype][0]
    try:
        try:
            values = _decoder(element, 1).decode(tensor.data)
        except msgspec.ValidationError as error:
            if len(shape) < 2 or "got `array`" not in str(error):
                raise
            values = _flat(name, shape, _decoder(element, len(shape)).decode(tensor.data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _malformed(f"input {name!r}: data must be {datatype} elements, flat or nested as {shape}: {error}")
    if len(values) != math.prod(shape):
        raise RequestError("shape_mismatch", f"input {name!r}: shape {shape} does not take {len(values)} elements")
    return values


def _flat(name: str, shape: list[int], nested: list[Any]) -> list[Any]:
    """Nested lists as one, after checking that every list is as long as its axis says."""
    level: list[Any] = [nested]
    for axis, length in enumerate(shape):
        if any(len(part) != length for part in level):
            raise RequestError(
                "shape_mismatch", f"input {name!r}: shape {shape} expects lists of {length} on axis {axis} everywhere"
            )
        level = list(chain.from_iterable(level))
    return level


def _array(tensor: _Input, values: list[Any]) -> np.ndarray:
    if tensor.datatype == "BYTES":
        array = np.empty(len(values), dtype=object)
        array[:] = [value.encode() for value in values]
        array.flags.writeable = False
        return array.reshape(tensor.shape)
    try:
        # Twice as fast as numpy from a list, and it checks ranges where numpy wraps or overflows to infinity.
        packed = struct.pack(f"<{len(values)}{_ELEMENTS[tensor.datatype][1]}", *values)
    except (struct.error, OverflowError):
        _malformed(f"input {tensor.name!r}: an element is out of range for {tensor.datatype}")
    return np.frombuffer(packed, DTYPES[tensor.datatype]).reshape(tensor.shape)


def encode_infer(model: str, version: str, infer_id: str, outputs: Sequence[Tensor]) -> bytes:
    """The answer as JSON, data flat in row-major order; floats are written so that they read back to the same bits.

    Raises UpstreamError (backend_failed) for what JSON cannot say truly: NaN, infinity, BYTES that are not UTF-8, data
    that are not of their shape. null in their place would be a silent substitution. RequestError (malformed) for FP16.
    """
    answer: dict[str, object] = {"model_name": model, "model_version": version}
    if infer_id:
        answer["id"] = infer_id
    answer["outputs"] = [
        {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape, "data": _json_data(tensor)}
        for tensor in outputs
    ]
    text = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    if b"null" in text:  # how orjson writes what is not finite; a search costs less than asking every array
        _refuse_not_finite(outputs)
    return text


def _refuse_not_finite(outputs: Sequence[Tensor]) -> None:
    for tensor in outputs:
        dtype = DTYPES[tensor.datatype]
        if dtype.kind == "f" and not np.isfinite(np.frombuffer(tensor.data, dtype)).all():
            detail = f"output {tensor.name!r} holds NaN or infinity, which JSON cannot carry"
            raise UpstreamError("backend_failed", detail)


def _json_data(tensor: Tensor) -> np.ndarray | list[str]:
    """Flat data in a form orjson writes."""
    if tensor.datatype in _BINARY_ONLY:
        _malformed(f"output {tensor.name!r}: {tensor.datatype} has no JSON form, it travels as binary data only")
    dtype = DTYPES.get(tensor.datatype)
    if dtype is not None and dtype.kind in "fiu" and tensor.data.nbytes == math.prod(tensor.shape) * dtype.itemsize:
        array = np.frombuffer(tensor.data, dtype)
        # A tensor starts anywhere in its frame; orjson reads it with native loads.
        return array if array.flags.aligned else array.copy()
    return _unusual_data(tensor)


def _unusual_data(tensor: Tensor) -> np.ndarray | list[str]:
    """BYTES and BOOL, whose values are looked at, and whatever does not hold together."""
    try:
        array = from_wire(tensor.datatype, tensor.shape, tensor.data, tensor.name).reshape(-1)
    except TensorError as error:
        raise UpstreamError("backend_failed", f"the replica's answer is broken: {error}") from None
    if tensor.datatype == "BYTES":
        try:
            return [element.decode() for element in array]
        except UnicodeDecodeError:
            raise UpstreamError("backend_failed", f"output {tensor.name!r} holds bytes that are not UTF-8") from None
    return array
