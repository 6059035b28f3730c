"""Open Inference Protocol v2: requests to arrays. Answers are in oip_answers.py, other documents in metadata.py.

Owns what is well-formed. Never knows whether tensors fit a model (models/tensors.py) nor which status an error has.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Annotated, Any, NoReturn

import msgspec
import numpy as np
from msgspec import Meta

from models.tensors import DTYPES
from router.core.errors import RequestError
from router.protocol.codec import (
    BINARY_ONLY,
    Body,
    Encoded,
    InferParameters,
    ParsedInfer,
    ParseLimits,
    refuse_parameters,
)
from router.protocol.link import Tensor
from router.protocol.oip_answers import JSON_LINES, encode_infer, encode_mixed
from router.protocol.oip_binary import JSON_LENGTH, divided

_MAX_AXES = 32
_MOST = 2**63 - 1
_SIZE = "binary_data_size"
_ALSO_REFUSED = (_SIZE,)
"""But on an input."""

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


_NO_PARAMETERS = (InferParameters(), False)
_ALL_OUTPUTS: tuple[tuple[str, ...], Mapping[str, bool]] = ((), {})
_decode_request = msgspec.json.Decoder(_Request).decode


class OipCodec(msgspec.Struct, frozen=True):
    """The protocol over HTTP. Implements codec.Codec."""

    json_bytes: int | None = None
    """Length of the JSON where the request says it, for there may be binary data behind; None: the whole body."""

    def text_bytes(self, body: Body) -> int:
        """See codec.Codec: all where the JSON says, or may say in other letters, that BYTES are behind it."""
        if self.json_bytes is None:
            return len(body)
        said = bytes(memoryview(body)[: self.json_bytes])
        return len(body) if b"BYTES" in said or b"\\u" in said else self.json_bytes

    def parse(self, body: Body, limits: ParseLimits) -> ParsedInfer:
        """See parse_infer."""
        return parse_infer(body, limits, self.json_bytes)

    def encode(self, model: str, version: str, asked: ParsedInfer, outputs: Sequence[Tensor]) -> Encoded:
        """See encode_infer and encode_mixed. Any request may ask for binary outputs, also one that is all JSON."""
        if asked.all_binary or asked.binary:
            return encode_mixed(model, version, asked, outputs)
        return Encoded(JSON_LINES, encode_infer(model, version, asked.id, outputs))


JSON = OipCodec()


def parse_infer(body: Body, limits: ParseLimits, json_bytes: int | None = None) -> ParsedInfer:
    """An inference request; where `json_bytes` (>= 0) is given, binary data lie behind as much JSON.

    Raises RequestError: malformed (not the protocol), shape_mismatch (data are not of the shape they claim), too_large.
    """
    binary = None
    if json_bytes is not None:
        body, binary = divided(body, json_bytes)
    if len(body) > limits.max_json_bytes:
        detail = f"{len(body)} bytes of JSON, the limit is {limits.max_json_bytes}: send large tensors as binary data"
        raise RequestError("too_large", detail)
    try:
        request = _decode_request(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _malformed(f"the body is not an inference request: {error}")
    parameters, all_binary = _parameters(request.parameters) if request.parameters else _NO_PARAMETERS
    inputs: dict[str, np.ndarray] = {}
    elements = 0
    for tensor in request.inputs:
        name = tensor.name
        if name in inputs:
            _malformed(f"input {name!r} is given twice")
        size = _binary_size(tensor, tensor.parameters) if tensor.parameters else None
        if size is None:
            values = _values(tensor)
            elements += len(values)
        elif tensor.datatype == "BYTES":  # its elements become objects however they travel
            elements += math.prod(tensor.shape)
        if elements > limits.max_elements:
            detail = f"more than {limits.max_elements} tensor elements, reached at input {name!r}"
            raise RequestError("too_large", detail)
        if size is None:
            inputs[name] = _array(tensor, values)
        elif binary is None:
            _malformed(f"input {name!r}: {_SIZE} without the header {JSON_LENGTH}")
        else:
            inputs[name] = binary.take(name, tensor.datatype, tensor.shape, size)
    if binary is not None:
        binary.finish()
    outputs, wanted = _outputs(request.outputs) if request.outputs else _ALL_OUTPUTS
    return ParsedInfer(request.id or "", inputs, outputs, parameters, wanted, all_binary)


def _malformed(detail: str) -> NoReturn:
    raise RequestError("malformed", detail) from None


def _parameters(given: _Parameters) -> tuple[InferParameters, bool]:
    """What the router acts on, and whether outputs are to be binary data where the request does not say of each."""
    where = "request"
    refuse_parameters(given, where, _ALSO_REFUSED)
    for key in ("timeout", "priority"):
        value = given.get(key)
        if value is not None and (type(value) is not int or not 0 <= value <= _MOST):
            _malformed(f"{where}: parameter {key!r} must be an integer of at least 0 and at most {_MOST}")
    parameters = InferParameters(given.get("timeout"), given.get("priority"))
    return parameters, _flag(given, "binary_data_output", where) or False


def _outputs(wanted: Sequence[_Output]) -> tuple[tuple[str, ...], Mapping[str, bool]]:
    """Names in their order, and for which of them the request says whether they are to be binary data."""
    names: dict[str, None] = {}
    binary: dict[str, bool] = {}
    for output in wanted:
        name = output.name
        if name in names:
            _malformed(f"output {name!r} is asked for twice")
        names[name] = None
        if output.parameters:
            where = f"output {name!r}"
            refuse_parameters(output.parameters, where, _ALSO_REFUSED)
            flag = _flag(output.parameters, "binary_data", where)
            if flag is not None:
                binary[name] = flag
    return tuple(names), binary


def _flag(parameters: _Parameters, key: str, where: str) -> bool | None:
    value = parameters.get(key)
    if value is not None and type(value) is not bool:
        _malformed(f"{where}: parameter {key!r} must be true or false")
    return value


def _binary_size(tensor: _Input, parameters: _Parameters) -> int | None:
    """Bytes of the tensor behind the JSON; None where its data are in the JSON."""
    where = f"input {tensor.name!r}"
    refuse_parameters(parameters, where)
    if _SIZE not in parameters:
        return None
    size = parameters[_SIZE]
    if type(size) is not int or size < 0:
        _malformed(f"{where}: parameter {_SIZE!r} must be an integer of at least 0")
    if tensor.data and bytes(tensor.data) != b"null":
        _malformed(f"{where}: either data or {_SIZE}, not both")
    return size


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
        if datatype in BINARY_ONLY:
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


def json_array(name: str, datatype: str, shape: list[int], data: msgspec.Raw) -> np.ndarray:
    """A tensor written as JSON, also one of an answer. Raises RequestError."""
    tensor = _Input(name, shape, datatype, data)
    return _array(tensor, _values(tensor))


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
