"""Requests and answers: exact there and back, and nothing but RequestError for any other bytes."""

from __future__ import annotations

import contextlib
import json
import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.tensors import DTYPES, to_wire
from router.core.errors import RequestError
from router.protocol.codec import BINARY_ONLY, ParseLimits
from router.protocol.link import Tensor
from router.protocol.oip import parse_infer
from router.protocol.oip_answers import encode_infer

LIMIT = ParseLimits(10_000, 1 << 20)
shapes = st.lists(st.integers(1, 4), max_size=4)


@st.composite
def arrays(draw):
    """(datatype, array) with any finite value of the type."""
    datatype = draw(st.sampled_from(sorted(set(DTYPES) - BINARY_ONLY)))
    shape = draw(shapes)
    dtype = DTYPES[datatype]
    if datatype == "BYTES":
        elements = st.text(max_size=5).map(str.encode)
    elif datatype == "BOOL":
        elements = st.booleans()
    elif dtype.kind == "f":
        elements = st.floats(width=dtype.itemsize * 8, allow_nan=False, allow_infinity=False)
    else:
        elements = st.integers(np.iinfo(dtype).min, np.iinfo(dtype).max)
    size = math.prod(shape)
    array = np.empty(size, dtype)
    array[:] = draw(st.lists(elements, min_size=size, max_size=size))
    return datatype, array.reshape(shape)


def nested(array):
    """Nested lists of what JSON has for the elements."""
    if array.dtype == object:
        return np.array([element.decode() for element in array.flat] or [""], object).reshape(array.shape).tolist()
    return array.tolist()


@settings(max_examples=300, deadline=None)
@given(arrays(), st.booleans())
def test_an_array_survives_answer_and_request(given_array, flat):
    """Written as an answer, read as a request: the same dtype, shape and bits, flat or nested."""
    datatype, array = given_array
    tensor = Tensor("x", datatype, list(array.shape), to_wire(array, datatype))
    (output,) = json.loads(encode_infer("m", "1", "", [tensor]))["outputs"]
    if not flat and array.ndim:
        output["data"] = nested(array)
    back = parse_infer(json.dumps({"inputs": [output]}).encode(), LIMIT).inputs["x"]
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tolist() == array.tolist()
    if datatype != "BYTES":
        assert back.tobytes() == array.tobytes()


def only_request_errors(body: bytes) -> None:
    """Parse anything."""
    with contextlib.suppress(RequestError):
        parse_infer(body, LIMIT)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_survived(body):
    """Nothing but RequestError."""
    only_request_errors(body)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
known = st.sampled_from([*DTYPES, "fp32", ""])
likely_inputs = st.fixed_dictionaries(
    {"name": st.sampled_from(["x", "y", ""]) | anything},
    optional={
        "shape": st.lists(st.integers(-2, 5), max_size=3) | anything,
        "datatype": known | anything,
        "data": st.lists(st.integers(-300, 300) | st.floats() | st.text(max_size=3), max_size=6) | anything,
        "parameters": anything,
    },
)
likely = st.fixed_dictionaries(
    {"inputs": st.lists(likely_inputs, max_size=3) | anything},
    optional={"id": anything, "outputs": anything, "parameters": anything},
)


@settings(max_examples=800, deadline=None)
@given(likely)
def test_any_document_is_survived(document):
    """Nothing but RequestError, and what is accepted holds what it says."""
    inputs = {}
    with contextlib.suppress(RequestError):
        inputs = parse_infer(json.dumps(document).encode(), LIMIT).inputs
    for tensor in document["inputs"] if inputs else ():
        array = inputs[tensor["name"]]
        assert list(array.shape) == tensor["shape"]
        assert array.dtype == DTYPES[tensor["datatype"]]


@settings(max_examples=500, deadline=None)
@given(arrays(), st.integers(0, 10_000), st.integers(0, 255), st.booleans())
def test_a_damaged_or_cut_request_is_survived(given_array, at, value, cut):
    """One changed byte never crashes the parser."""
    datatype, array = given_array
    body = bytearray(json.dumps(
        {"inputs": [{"name": "x", "shape": list(array.shape), "datatype": datatype, "data": nested(array)}]}
    ).encode())  # fmt: skip
    at %= len(body)
    if cut:
        del body[at:]
    else:
        body[at] = value
    only_request_errors(bytes(body))
