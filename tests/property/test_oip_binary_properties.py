"""Binary tensors: the same bits as JSON where JSON can say them, any bits where not, and nothing but RequestError."""

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
from router.protocol.oip import JSON, OipCodec

LIMITS = ParseLimits(max_elements=10_000, max_json_bytes=1 << 20)
SPECIAL = {2: [0x8000, 0x7C00, 0xFC00, 0x7C01, 0x7F80, 0xFFC1, 1], 4: [0x80000000, 0x7F800000, 0x7FC00001, 1]}
"""Signed zero, infinities, NaNs with a payload and subnormals of FP16, BF16 and FP32."""


@st.composite
def arrays(draw, datatypes=tuple(DTYPES), *, sayable=False):
    """(datatype, array) with any bits of the type; `sayable`: only what JSON has."""
    datatype = draw(st.sampled_from(datatypes))
    shape = draw(st.lists(st.integers(1, 4), max_size=4))
    dtype, size = DTYPES[datatype], math.prod(shape)
    if datatype == "BYTES":
        element = st.text(max_size=5).map(str.encode) if sayable else st.binary(max_size=9)
        array = np.empty(size, object)
        array[:] = draw(st.lists(element, min_size=size, max_size=size))
    elif datatype == "BOOL":
        array = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)), bool)
    else:
        bits = st.integers(0, 2 ** (8 * dtype.itemsize) - 1) | st.sampled_from(SPECIAL.get(dtype.itemsize, [0]))
        array = np.array(draw(st.lists(bits, min_size=size, max_size=size)), f"<u{dtype.itemsize}").view(dtype)
        if sayable and dtype.kind == "f":
            array = np.where(np.isfinite(array), array, dtype.type(-0.0))
    return datatype, array.reshape(shape)


def tensor(name, datatype, array):
    """As a replica gives it."""
    return Tensor(name, datatype, list(array.shape), to_wire(array, datatype))


def request(tensors, binary, parameters=None):
    """(JSON, data) of a request with these tensors, those in `binary` as binary data."""
    entries, data = [], b""
    for each in tensors:
        entry = {"name": each.name, "datatype": each.datatype, "shape": each.shape}
        if each.name in binary:
            entry["parameters"] = {"binary_data_size": each.data.nbytes}
            data += each.data
        else:
            entry["data"] = json_data(each)
        entries.append(entry)
    return json.dumps({"inputs": entries, "parameters": parameters or {}}).encode(), data


def json_data(each):
    """What our own JSON says of a tensor."""
    asked = JSON.parse(b'{"inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":[1]}]}', LIMITS)
    return json.loads(JSON.encode("m", "1", asked, [each]).body)["outputs"][0]["data"]


def same(a, b):
    """To the bit."""
    wires = [to_wire(array, next(name for name, dtype in DTYPES.items() if dtype == array.dtype)) for array in (a, b)]
    return a.dtype == b.dtype and a.shape == b.shape and wires[0] == wires[1]


@settings(max_examples=300, deadline=None)
@given(st.lists(arrays(), min_size=1, max_size=4), st.booleans())
def test_any_tensors_survive_request_and_answer_bit_for_bit(given_arrays, as_bytearray):
    """Read from a request, sent as an answer, and that answer read as a request again."""
    tensors = [tensor(f"t{index}", *each) for index, each in enumerate(given_arrays)]
    text, data = request(tensors, {each.name for each in tensors}, {"binary_data_output": True})
    body = bytearray(text + data) if as_bytearray else text + data
    parsed = OipCodec(len(text)).parse(body, LIMITS)
    assert all(same(parsed.inputs[f"t{index}"], array) for index, (_, array) in enumerate(given_arrays))

    encoded = JSON.encode("m", "1", parsed, tensors)
    answer = json.loads(encoded.body)
    echo = json.dumps({"inputs": answer["outputs"]}).encode()
    again = OipCodec(len(echo)).parse(echo + b"".join(encoded.more), LIMITS)
    assert all(same(again.inputs[f"t{index}"], array) for index, (_, array) in enumerate(given_arrays))


@settings(max_examples=300, deadline=None)
@given(st.lists(arrays(sorted(set(DTYPES) - BINARY_ONLY), sayable=True), min_size=1, max_size=4), st.data())
def test_json_and_binary_mean_the_same(given_arrays, data):
    """Whichever inputs and outputs are which: the same arrays to the bit, and the same answer."""
    tensors = [tensor(f"t{index}", *each) for index, each in enumerate(given_arrays)]
    names = [each.name for each in tensors]
    binary = data.draw(st.sets(st.sampled_from(names)))
    plain, _ = request(tensors, set())
    text, behind = request(tensors, binary)
    first, second = JSON.parse(plain, LIMITS), OipCodec(len(text)).parse(text + behind, LIMITS)
    assert first.inputs.keys() == second.inputs.keys()
    assert all(same(first.inputs[name], second.inputs[name]) for name in names)

    wanted = [{"name": name, "parameters": {"binary_data": name in binary}} for name in names]
    asked = JSON.parse(json.dumps(json.loads(plain) | {"outputs": wanted}).encode(), LIMITS)
    said = json.loads(JSON.encode("m", "1", first, tensors).body)["outputs"]
    mixed = JSON.encode("m", "1", asked, tensors)
    rest = list(mixed.more)
    for each, entry, plainly in zip(tensors, json.loads(mixed.body)["outputs"], said, strict=True):
        if each.name in binary:
            part = rest.pop(0)
            assert entry.pop("parameters") == {"binary_data_size": len(part)}
            entry["data"] = json_data(Tensor(each.name, each.datatype, each.shape, part))
        assert entry == plainly
    assert not rest


@settings(max_examples=600, deadline=None)
@given(
    st.lists(arrays(), min_size=1, max_size=3),
    st.integers(-40, 40),
    st.sampled_from(["cut", "grow", "byte", "length", "size", "shape"]),
    st.integers(0, 10_000),
    st.integers(0, 255),
)
def test_whatever_is_damaged_is_survived(given_arrays, by, kind, at, value):
    """One number, byte or length that is wrong: still tensors of the shape they claim, or a RequestError."""
    tensors = [tensor(f"t{index}", *each) for index, each in enumerate(given_arrays)]
    text, data = request(tensors, {each.name for each in tensors})
    document = json.loads(text)
    entry = document["inputs"][at % len(tensors)]
    if kind == "size":
        entry["parameters"]["binary_data_size"] += by
    elif kind == "shape" and entry["shape"]:
        entry["shape"][value % len(entry["shape"])] += by
    text = json.dumps(document).encode()
    body = bytearray(text + data)
    if kind == "cut":
        del body[at % len(body) :]
    elif kind == "grow":
        body += bytes(value)
    elif kind == "byte":
        body[at % len(body)] = value
    length = max(0, len(text) + (by if kind == "length" else 0))
    with contextlib.suppress(RequestError):
        parsed = OipCodec(length).parse(bytes(body), LIMITS)
        for array in parsed.inputs.values():
            datatype = next(name for name, dtype in DTYPES.items() if dtype == array.dtype)
            assert to_wire(array, datatype).nbytes >= array.size


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 400))
def test_any_bytes_with_any_length_are_survived(body, length):
    """Nothing but RequestError."""
    with contextlib.suppress(RequestError):
        OipCodec(length).parse(body, LIMITS)
