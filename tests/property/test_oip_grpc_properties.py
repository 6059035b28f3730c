"""Protobuf requests and answers: exact there and back for every datatype, and nothing but RequestError otherwise."""

from __future__ import annotations

import contextlib
import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.tensors import DTYPES, datatype_of, to_wire
from router.core.errors import RequestError
from router.protocol.codec import ParseLimits
from router.protocol.link import Tensor
from router.protocol.oip_grpc import MessageCodec, decode
from router.protocol.proto import open_inference_pb2 as pb

LIMIT = ParseLimits(max_elements=10_000, max_json_bytes=1)
RAW_ONLY = {"FP16", "BF16"}


@st.composite
def arrays(draw):
    """(datatype, array) with any bits of the type, NaN included."""
    datatype = draw(st.sampled_from(sorted(DTYPES)))
    shape = draw(st.lists(st.integers(1, 4), max_size=4))
    dtype, size = DTYPES[datatype], math.prod(shape)
    if datatype == "BYTES":
        array = np.empty(size, object)
        array[:] = draw(st.lists(st.binary(max_size=5), min_size=size, max_size=size))
    elif datatype == "BOOL":
        array = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)), bool)
    else:
        nbytes = size * dtype.itemsize
        array = np.frombuffer(draw(st.binary(min_size=nbytes, max_size=nbytes)), dtype)
    return datatype, array.reshape(shape)


def read(message: pb.ModelInferRequest):
    """As the listener reads it."""
    received = decode(message.SerializeToString())
    codec = MessageCodec(received)
    return codec, codec.parse(b"", LIMIT)


def same(back: np.ndarray, array: np.ndarray) -> None:
    """Dtype, shape and bits."""
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert bytes(to_wire(back, datatype_of(back))) == bytes(to_wire(array, datatype_of(array)))


@settings(max_examples=200, deadline=None)
@given(arrays())
def test_raw_there_and_back(given_array):
    """Bytes in, the array; the array out, the same bytes."""
    datatype, array = given_array
    data = to_wire(array, datatype)
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=array.shape)
    codec, parsed = read(pb.ModelInferRequest(inputs=[tensor], raw_input_contents=[bytes(data)]))
    same(parsed.inputs["x"], array)
    encoded = codec.encode("m", "1", parsed, [Tensor("y", datatype, list(array.shape), data)])
    answer = pb.ModelInferResponse.FromString(b"".join((encoded.body, *encoded.more)))
    assert answer.outputs[0].datatype == datatype
    assert tuple(answer.outputs[0].shape) == array.shape
    assert answer.raw_output_contents[0] == bytes(data)


@settings(max_examples=200, deadline=None)
@given(arrays())
def test_typed_there_and_back(given_array):
    """An answer's contents, sent as a request's, are the same array; FP16 and BF16 are raw only."""
    datatype, array = given_array
    if datatype in RAW_ONLY:
        return
    ask = pb.ModelInferRequest(
        inputs=[{"name": "x", "datatype": "BOOL", "shape": [1], "contents": {"bool_contents": [True]}}]
    )
    codec, parsed = read(ask)
    out = Tensor("y", datatype, list(array.shape), to_wire(array, datatype))
    encoded = codec.encode("m", "1", parsed, [out])
    (output,) = pb.ModelInferResponse.FromString(encoded.body).outputs
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="x", datatype=datatype, shape=output.shape, contents=output.contents
    )
    back = read(pb.ModelInferRequest(inputs=[tensor]))[1].inputs["x"]
    if array.dtype.kind == "f":
        np.testing.assert_array_equal(back, array)  # a NaN stays one, its payload may change on the way through a float
    else:
        same(back, array)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_survived(body):
    """Nothing but RequestError."""
    with contextlib.suppress(RequestError):
        MessageCodec(decode(body)).parse(b"", LIMIT)


@settings(max_examples=400, deadline=None)
@given(arrays(), st.lists(st.integers(-2, 5) | st.integers(), max_size=3), st.integers(0, 10_000), st.integers(0, 255))
def test_a_damaged_request_is_survived(given_array, shape, at, value):
    """Any shape, one changed byte: nothing but RequestError, and what is accepted holds what it says."""
    datatype, array = given_array
    shape = [max(-(2**63), min(extent, 2**63 - 1)) for extent in shape]
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=shape or array.shape)
    body = bytearray(
        pb.ModelInferRequest(inputs=[tensor], raw_input_contents=[bytes(to_wire(array, datatype))]).SerializeToString()
    )
    body[at % len(body)] = value
    with contextlib.suppress(RequestError):
        message = decode(bytes(body))
        parsed = MessageCodec(message).parse(b"", LIMIT)
        for tensor in message.inputs:
            assert parsed.inputs[tensor.name].shape == tuple(tensor.shape)
            assert parsed.inputs[tensor.name].dtype == DTYPES[tensor.datatype]
