"""Open Inference Protocol v2 from the client's side: requests to another server, and its answers. Bytes and values.

Owns what is sent and what counts as an answer. Never knows who the server is, nor what its failures mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np
import orjson

from models.spec import ModelSpec
from models.tensors import DTYPES, TensorError, from_wire, to_wire
from router.core.errors import RequestError
from router.protocol.codec import BINARY_ONLY, Body
from router.protocol.link import Tensor
from router.protocol.oip import json_array
from router.protocol.oip_binary import JSON_LENGTH


class BadAnswer(ValueError):
    """Not an answer to what was asked. The text says what is wrong and may be shown."""


class Unsendable(ValueError):
    """Tensors that have no form in which the server takes them. The text says which and why."""


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: msgspec.Raw = msgspec.Raw()
    parameters: dict[str, Any] | None = None


class _Answer(msgspec.Struct):
    outputs: list[_Output]
    model_version: str | None = None


_decode = msgspec.json.Decoder(_Answer).decode


def model_path(name: str, version: str = "") -> str:
    """The path of a model, of one version where it is named."""
    path = f"/v2/models/{quote(name, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def encode_request(
    request_id: str, tensors: Sequence[Tensor], outputs: Sequence[str], parameters: Mapping[str, Any], *, binary: bool
) -> tuple[list[Body], dict[str, str]]:
    """Parts of the body and the headers that belong to it. Raises Unsendable where JSON cannot say the tensors."""
    inputs: list[dict[str, object]] = []
    parts: list[Body] = []
    for tensor in tensors:
        entry: dict[str, object] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if binary:
            entry["parameters"] = {"binary_data_size": tensor.data.nbytes}
            parts.append(tensor.data)
        else:
            entry["data"] = _json_data(tensor)
        inputs.append(entry)
    document: dict[str, object] = {"id": request_id, "inputs": inputs}
    if outputs:
        document["outputs"] = [{"name": name} for name in outputs]
    said = {**parameters, "binary_data_output": True} if binary else dict(parameters)
    if said:
        document["parameters"] = said
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not binary:
        return [head], {"content-type": "application/json"}
    return [head, *parts], {"content-type": "application/octet-stream", JSON_LENGTH: str(len(head))}


def decode_answer(body: Body, json_bytes: int | None) -> tuple[str, list[Tensor]]:
    """Version of the model and its outputs; where `json_bytes` is given, binary data lie behind so much JSON.

    Raises BadAnswer. Tensors may be views of the body.
    """
    view = memoryview(body)
    if json_bytes is not None and json_bytes > view.nbytes:
        raise BadAnswer(f"{JSON_LENGTH} is {json_bytes}, the answer has {view.nbytes} bytes")
    rest = view[view.nbytes if json_bytes is None else json_bytes :]
    try:
        answer = _decode(view if json_bytes is None else view[:json_bytes])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadAnswer(f"no answer of the Open Inference Protocol: {error}") from None
    outputs = []
    for output in answer.outputs:
        size = (output.parameters or {}).get("binary_data_size")
        if size is None:
            outputs.append(_from_json(output))
            continue
        if type(size) is not int or not 0 <= size <= rest.nbytes:
            raise BadAnswer(f"output {output.name!r}: binary_data_size is {size!r}, {rest.nbytes} bytes are left")
        outputs.append(Tensor(output.name, output.datatype, output.shape, rest[:size]))
        rest = rest[size:]
    if rest.nbytes:
        raise BadAnswer(f"{rest.nbytes} bytes of binary data belong to no output")
    return answer.model_version or "", outputs


def fitted(spec: ModelSpec, outputs: Sequence[Tensor], rows: int, wanted: Sequence[str]) -> list[Tensor]:
    """The outputs that are wanted, in that order (() for all of the model's). Raises BadAnswer where one is not as the
    model has it: another server must not give what the model here would not.
    """
    by_name = {tensor.name: tensor for tensor in outputs}
    specs = {output.name: output for output in spec.outputs}
    found = []
    for name in wanted or specs:
        tensor, expected = by_name.get(name), specs[name]
        if tensor is None:
            raise BadAnswer(f"output {name!r} is missing")
        axes = (rows, *expected.shape[1:])
        fits = len(axes) == len(tensor.shape) and all(
            isinstance(axis, str) or axis == extent for axis, extent in zip(axes, tensor.shape, strict=False)
        )
        if tensor.datatype != expected.datatype or not fits:
            is_like = f"{expected.datatype} {list(axes)} expected, got {tensor.datatype} {tensor.shape}"
            raise BadAnswer(f"output {name!r}: {is_like}")
        try:
            from_wire(tensor.datatype, tensor.shape, tensor.data, name)
        except TensorError as error:
            raise BadAnswer(str(error)) from None
        found.append(tensor)
    return found


def _json_data(tensor: Tensor) -> np.ndarray | list[str]:
    if tensor.datatype in BINARY_ONLY:
        raise Unsendable(f"input {tensor.name!r}: {tensor.datatype} has no JSON form")
    array = from_wire(tensor.datatype, tensor.shape, tensor.data, tensor.name).reshape(-1)
    if tensor.datatype == "BYTES":
        try:
            return [element.decode() for element in array]
        except UnicodeDecodeError:
            raise Unsendable(f"input {tensor.name!r} holds bytes that are not UTF-8, JSON cannot carry them") from None
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise Unsendable(f"input {tensor.name!r} holds NaN or infinity, JSON cannot carry them")
    # A tensor starts anywhere in its frame; orjson reads it with native loads.
    return array if array.flags.aligned else array.copy()


def _from_json(output: _Output) -> Tensor:
    name, datatype, shape = output.name, output.datatype, output.shape
    if datatype not in DTYPES or any(extent < 0 for extent in shape):
        raise BadAnswer(f"output {name!r}: {datatype} {shape} is no tensor")
    try:
        array = json_array(name, datatype, shape, output.data)
    except RequestError as error:
        raise BadAnswer(f"an output cannot be read: {error.detail}".replace("input", "output")) from None
    if array.size != math.prod(shape):
        raise BadAnswer(f"output {name!r}: {array.size} elements are not of shape {shape}")
    return Tensor(name, datatype, shape, to_wire(array, datatype, name))
