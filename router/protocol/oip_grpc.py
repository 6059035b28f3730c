"""Open Inference Protocol v2, protobuf: requests to arrays, tensors to answers. Its documents are in metadata_grpc.py.

Owns what is well-formed, as oip.py does for JSON. Tensor bytes are copied by protobuf when it reads and once when an
answer is joined; nothing here copies them again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NoReturn

import numpy as np
from google.protobuf.message import DecodeError

from models.tensors import DTYPES, TensorError, from_wire
from router.core.errors import RequestError, UpstreamError
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
from router.protocol.proto import open_inference_pb2 as pb

_MAX_AXES = 32
_MAX_NAME = 256
_ASKS_FOR_FINAL, _IS_FINAL = "triton_enable_empty_final_response", "triton_final_response"
"""How a client of a stream asks to be told which response is a request's last. Ours always are."""

_CONTENTS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Datatype to the field of InferTensorContents that holds its elements."""
_WIDER = {"UINT8": "UINT32", "UINT16": "UINT32", "INT8": "INT32", "INT16": "INT32"}
"""Datatypes whose field holds more than they do, so that ranges are to be checked."""

_RAW_OUTPUT = b"\x32"
_INFER_RESPONSE = b"\x12"
"""Tags of ModelInferResponse.raw_output_contents and ModelStreamInferResponse.infer_response: their numbers, and that
a length follows. A message may be written field by field, so large tensors are joined to it, never copied into one."""


def decode(body: bytes) -> pb.ModelInferRequest:
    """The message of a request. Raises RequestError (malformed)."""
    try:
        message: pb.ModelInferRequest = pb.ModelInferRequest.FromString(body)
        return message
    except DecodeError as error:
        raise RequestError("malformed", f"the message is not an inference request: {error}") from None


class MessageCodec:
    """The protocol's protobuf form, for one request. Implements codec.Codec.

    The message is decoded before, because the head needs the model's name: `parse` is given no body.
    """

    __slots__ = ("_message", "_remaining_us")

    def __init__(self, message: pb.ModelInferRequest, remaining_s: float | None = None) -> None:
        """`remaining_s` (>= 0): what is left of the deadline the call came with; None: it came with none."""
        self._message = message
        self._remaining_us = None if remaining_s is None else max(1, int(remaining_s * 1e6))

    def text_bytes(self, body: Body) -> int:
        """See codec.Codec: protobuf is none."""
        return 0

    def parse(self, body: Body, limits: ParseLimits) -> ParsedInfer:
        """See codec.Codec. The call's own deadline bounds the request's `timeout`."""
        message, parameters = self._message, _parameters(self._message.parameters)
        if (remaining_us := self._remaining_us) is not None:
            timeout_us = min(parameters.timeout_us or remaining_us, remaining_us)
            parameters = InferParameters(timeout_us, parameters.priority)
        inputs = _inputs(message, limits.max_elements)
        return ParsedInfer(message.id, inputs, _outputs(message), parameters, all_binary=True)

    def encode(self, model: str, version: str, asked: ParsedInfer, outputs: Sequence[Tensor]) -> Encoded:
        """See codec.Codec. Raw unless the request came with typed contents and every output has such a form."""
        answer = pb.ModelInferResponse(model_name=model, model_version=version, id=asked.id)
        if _ASKS_FOR_FINAL in self._message.parameters:
            answer.parameters[_IS_FINAL].bool_param = True
        raw = bool(self._message.raw_input_contents) or any(tensor.datatype in BINARY_ONLY for tensor in outputs)
        more: list[Body] = []
        for tensor in outputs:
            output = answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            if raw:
                more += (_RAW_OUTPUT + _varint(tensor.data.nbytes), tensor.data)
            else:
                getattr(output.contents, _CONTENTS[tensor.datatype]).extend(_elements(tensor))
        return Encoded(b"", answer.SerializeToString(), more)


def stream_answer(body: bytes) -> bytes:
    """An answer as a message of a stream."""
    return b"".join((_INFER_RESPONSE, _varint(len(body)), body))


def stream_error(message: pb.ModelInferRequest | None, reason: str, detail: str) -> bytes:
    """An error as a message of a stream; it names the request that it answers, if that could be read."""
    said = pb.ModelStreamInferResponse(error_message=detail)
    said.infer_response.parameters["reason"].string_param = reason
    if message is not None:
        said.infer_response.id = message.id
        said.infer_response.model_name = message.model_name
        if _ASKS_FOR_FINAL in message.parameters:
            said.infer_response.parameters[_IS_FINAL].bool_param = True
    written: bytes = said.SerializeToString()
    return written


def _malformed(detail: str) -> NoReturn:
    raise RequestError("malformed", detail) from None


def _parameters(given: Mapping[str, pb.InferParameter]) -> InferParameters:
    if not given:
        return InferParameters()
    refuse_parameters(given, "request")
    return InferParameters(_count(given, "timeout"), _count(given, "priority"))


def _count(given: Mapping[str, pb.InferParameter], key: str) -> int | None:
    if key not in given:  # asking a map for what it does not have would add it
        return None
    value = given[key]
    kind = value.WhichOneof("parameter_choice")
    if kind not in ("int64_param", "uint64_param") or (number := int(getattr(value, kind))) < 0:
        _malformed(f"request: parameter {key!r} must be an integer of at least 0")
    return number


def _inputs(message: pb.ModelInferRequest, max_elements: int) -> dict[str, np.ndarray]:
    raw, tensors = message.raw_input_contents, message.inputs
    if not tensors:
        _malformed("the request has no inputs")
    if raw and len(raw) != len(tensors):
        _malformed(f"{len(tensors)} inputs but {len(raw)} raw_input_contents: there must be one for each, or none")
    inputs: dict[str, np.ndarray] = {}
    elements = 0
    for at, tensor in enumerate(tensors):
        name, shape = _name(tensor.name, "input"), list(tensor.shape)
        if name in inputs:
            _malformed(f"input {name!r} is given twice")
        if tensor.parameters:
            refuse_parameters(tensor.parameters, f"input {name!r}")
        if len(shape) > _MAX_AXES or any(extent < 1 for extent in shape):
            _malformed(
                f"input {name!r}: at most {_MAX_AXES} axes, each of at least 1, expected, got {shape[:_MAX_AXES]}"
            )
        if raw:
            if tensor.HasField("contents"):
                _malformed(f"input {name!r}: has both contents and raw_input_contents")
            if tensor.datatype == "BYTES":  # its elements become objects however they travel
                elements += math.prod(shape)
                if elements > max_elements:
                    detail = f"more than {max_elements} tensor elements, reached at input {name!r}"
                    raise RequestError("too_large", detail)
            inputs[name] = _raw(tensor.datatype, name, shape, raw[at])
        else:
            inputs[name] = array = _typed(tensor, name, shape, max_elements - elements)
            elements += array.size
    return inputs


def _raw(datatype: str, name: str, shape: list[int], data: bytes) -> np.ndarray:
    try:
        return from_wire(datatype, shape, memoryview(data), f"input {name!r}")
    except TensorError as error:
        raise RequestError(error.reason, str(error)) from None


def _outputs(message: pb.ModelInferRequest) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for output in message.outputs:
        name = _name(output.name, "output")
        if output.parameters:
            refuse_parameters(output.parameters, f"output {name!r}")
        if name in names:
            _malformed(f"output {name!r} is asked for twice")
        names[name] = None
    return tuple(names)


def _name(name: str, what: str) -> str:
    if not 1 <= len(name) <= _MAX_NAME:
        _malformed(f"{what}: a name of 1 to {_MAX_NAME} characters expected, got {len(name)}")
    return name


def _typed(tensor: pb.ModelInferRequest.InferInputTensor, name: str, shape: list[int], max_elements: int) -> np.ndarray:
    """The elements of a tensor that came as typed contents, in its shape."""
    datatype = tensor.datatype
    if datatype not in _CONTENTS:
        if datatype in BINARY_ONLY:
            _malformed(f"input {name!r}: {datatype} has no typed contents, it travels as raw_input_contents only")
        _malformed(f"input {name!r}: unknown datatype {datatype!r}, expected one of {', '.join(_CONTENTS)}")
    field = _CONTENTS[datatype]
    for other, _ in tensor.contents.ListFields():
        if other.name != field:
            _malformed(f"input {name!r}: {datatype} elements belong in {field}, not in {other.name}")
    values = getattr(tensor.contents, field)
    count = len(values)
    if not count:
        _malformed(f"input {name!r}: data is missing: neither contents nor raw_input_contents hold any")
    if count > max_elements:
        raise RequestError("too_large", f"too many tensor elements outside raw_input_contents, at input {name!r}")
    if count != math.prod(shape):
        raise RequestError("shape_mismatch", f"input {name!r}: shape {shape} does not take {count} elements")
    array = np.empty(count, DTYPES[datatype])
    if wider := _WIDER.get(datatype):
        given, limits = np.array(values, DTYPES[wider]), np.iinfo(array.dtype)
        if given.min() < limits.min or given.max() > limits.max:
            _malformed(f"input {name!r}: an element is out of range for {datatype}")
        array[:] = given
    else:
        array[:] = values
    array.flags.writeable = False
    return array.reshape(shape)


def _elements(tensor: Tensor) -> list[object]:
    """Flat elements of an output as typed contents take them."""
    try:
        array = from_wire(tensor.datatype, tensor.shape, tensor.data, tensor.name)
    except TensorError as error:
        raise UpstreamError("backend_failed", f"the replica's answer is broken: {error}") from None
    elements: list[object] = array.reshape(-1).tolist()
    return elements


def _varint(number: int) -> bytes:
    """A length as protobuf writes it: seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
