"""The protocol from the client's side: what is sent reads as a request, and what is no answer is none."""

import json

import numpy as np
import pytest

from models.spec import BatchRule, ModelSpec, TensorSpec
from models.tensors import from_wire, to_wire
from router.protocol.codec import ParsedInfer, ParseLimits
from router.protocol.link import Tensor
from router.protocol.oip import OipCodec, parse_infer
from router.protocol.oip_binary import JSON_LENGTH
from router.protocol.oip_client import BadAnswer, Unsendable, decode_answer, encode_request, fitted, model_path

LIMITS = ParseLimits(max_elements=1000, max_json_bytes=10_000)
SPEC = ModelSpec(
    "m",
    "1",
    (TensorSpec("x", "FP32", ("batch", 2)),),
    (TensorSpec("y", "FP32", ("batch", 2)), TensorSpec("z", "INT64", ("batch", "length"))),
    BatchRule(4),
    (),
)
ARRAYS = {
    "f": np.array([[1.5, -0.0]], np.float32),
    "i": np.array([[1, -(2**63)]], np.int64),
    "b": np.array([[True, False]]),
    "t": np.array([["é".encode(), b""]], object),
}
DATATYPES = {"f": "FP32", "i": "INT64", "b": "BOOL", "t": "BYTES"}


def tensor(name, array, datatype):
    return Tensor(name, datatype, list(array.shape), to_wire(array, datatype))


def tensors():
    return [tensor(name, array, DATATYPES[name]) for name, array in ARRAYS.items()]


@pytest.mark.parametrize("binary", [True, False])
def test_a_request_reads_as_what_was_sent(binary):
    """By the same parser that reads clients' requests, to the bit."""
    parts, headers = encode_request("id-1", tensors(), ["y"], {"timeout": 5000}, binary=binary)
    length = headers.get(JSON_LENGTH)
    parsed = parse_infer(b"".join(parts), LIMITS, int(length) if length else None)
    assert (parsed.id, parsed.outputs, parsed.parameters.timeout_us) == ("id-1", ("y",), 5000)
    assert parsed.all_binary == binary == (length is not None)
    for name, array in ARRAYS.items():
        assert to_wire(parsed.inputs[name], DATATYPES[name]) == to_wire(array, DATATYPES[name])


@pytest.mark.parametrize("binary", [True, False])
def test_an_answer_of_this_router_is_read(binary):
    """What one Pointsman writes another one reads."""
    asked = ParsedInfer("id-1", {}, (), None, {}, all_binary=binary)
    encoded = OipCodec().encode("m", "7", asked, tensors())
    text = len(encoded.body) if binary else None
    version, outputs = decode_answer(b"".join((encoded.body, *encoded.more)), text)
    assert version == "7"
    for got in outputs:
        np.testing.assert_array_equal(from_wire(got.datatype, got.shape, got.data), ARRAYS[got.name])


@pytest.mark.parametrize(
    "given",
    [
        tensor("x", np.array([[np.nan]], np.float32), "FP32"),
        tensor("x", np.array([[1.0]], np.float16), "FP16"),
        tensor("x", np.array([[b"\xff"]], object), "BYTES"),
    ],
    ids=["nan", "fp16", "no utf-8"],
)
def test_what_json_cannot_say_is_not_sent_as_something_else(given):
    """Binary data can."""
    with pytest.raises(Unsendable):
        encode_request("id", [given], [], {}, binary=False)
    parts, _ = encode_request("id", [given], [], {}, binary=True)
    assert parts[1] == given.data


def answer(*outputs, data=b""):
    """Body and the length of its JSON."""
    head = json.dumps({"model_name": "m", "model_version": "1", "outputs": list(outputs)}).encode()
    return head + data, len(head)


Y = {"name": "y", "datatype": "FP32", "shape": [1, 2]}


@pytest.mark.parametrize(
    ("body", "length"),
    [
        (b"", None),
        (b"<html>", None),
        (b'{"outputs": 3}', None),
        (b"{}", 5),
        answer({**Y, "parameters": {"binary_data_size": 8}}, data=b"1234567"),
        answer({**Y, "parameters": {"binary_data_size": -1}}),
        answer({**Y, "parameters": {"binary_data_size": True}}, data=b"1"),
        answer({**Y, "data": [1, 2]}, data=b"left"),
        (answer({**Y, "data": [1]})[0], None),
        (answer({**Y, "data": ["a", "b"]})[0], None),
        (answer({**Y, "datatype": "FP99", "data": [1, 2]})[0], None),
        (answer({**Y, "shape": [-1, -2], "data": [1, 2]})[0], None),
        (answer(Y)[0], None),
    ],
)
def test_what_is_no_answer_is_refused(body, length):
    """In words, whatever it is."""
    with pytest.raises(BadAnswer):
        decode_answer(body, length)


def outputs(rows=1, length=3):
    y, z = np.zeros((rows, 2), np.float32), np.zeros((rows, length), np.int64)
    return [tensor("z", z, "INT64"), tensor("more", y, "FP32"), tensor("y", y, "FP32")]


def test_outputs_come_in_the_models_order_or_in_that_asked_for():
    """What is more than asked for stays there."""
    assert [got.name for got in fitted(SPEC, outputs(), 1, ())] == ["y", "z"]
    assert [got.name for got in fitted(SPEC, outputs(), 1, ["z"])] == ["z"]


@pytest.mark.parametrize(
    ("given", "rows", "words"),
    [
        (outputs()[:2], 1, "missing"),
        (outputs(rows=2), 1, "expected"),
        ([tensor("y", np.zeros((1, 3), np.float32), "FP32"), outputs()[0]], 1, "expected"),
        ([tensor("y", np.zeros((1, 2)), "FP64"), outputs()[0]], 1, "expected"),
        ([Tensor("y", "FP32", [1, 2], memoryview(b"123")), outputs()[0]], 1, "takes 8 bytes"),
    ],
)
def test_an_output_that_is_not_the_models_is_refused(given, rows, words):
    """Rows, extents, datatype and bytes."""
    with pytest.raises(BadAnswer, match=words):
        fitted(SPEC, given, rows, ())


def test_names_are_escaped():
    """A slash in a name is no path."""
    assert model_path("a/b c", "1/2") == "/v2/models/a%2Fb%20c/versions/1%2F2"
