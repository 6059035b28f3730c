"""Open Inference Protocol requests: what is accepted, what is refused and in which words."""

from __future__ import annotations

import json

import numpy as np
import pytest

from router.core.errors import RequestError
from router.protocol import oip
from router.protocol.codec import ParseLimits
from router.protocol.oip import JSON, OipCodec

LIMIT = ParseLimits(max_elements=10_000, max_json_bytes=1 << 20)


def request(data, datatype="FP32", shape=None, name="x", **more):
    """Body of a request with one input; `more` are keys of the input."""
    shape = [len(data)] if shape is None else shape
    return json.dumps({"inputs": [{"name": name, "shape": shape, "datatype": datatype, "data": data, **more}]}).encode()


def refused(body, reason="malformed", limit=LIMIT):
    """The words with which the body is refused, for the reason expected."""
    with pytest.raises(RequestError) as caught:
        oip.parse_infer(body, limit)
    assert caught.value.reason == reason
    return caught.value.detail


# what is accepted


def test_a_flat_request_is_read_whole():
    """Names, shape, dtype, id, outputs and parameters arrive; what the protocol does not know is ignored."""
    body = {
        "id": "42",
        "model_name": "ignored",
        "inputs": [
            {"name": "a", "shape": [1, 3], "datatype": "FP32", "data": [1, 2.5, -0.0], "parameters": {"note": 1}},
            {"name": "b", "shape": [2], "datatype": "INT64", "data": [-(2**63), 2**63 - 1]},
        ],
        "outputs": [{"name": "y"}, {"name": "z", "parameters": {"binary_data": True}}],
        "parameters": {"timeout": 50_000, "priority": 1, "something": [1]},
    }
    parsed = oip.parse_infer(json.dumps(body).encode(), LIMIT)
    assert parsed.id == "42"
    assert parsed.inputs["a"].dtype == np.float32
    assert parsed.inputs["a"].tobytes() == np.array([[1, 2.5, -0.0]], np.float32).tobytes()
    assert parsed.inputs["a"].shape == (1, 3)
    assert parsed.inputs["b"].tolist() == [-(2**63), 2**63 - 1]
    assert parsed.outputs == ("y", "z")
    assert parsed.parameters == oip.InferParameters(timeout_us=50_000, priority=1)


def test_what_is_optional_may_be_absent_or_null():
    """Clients built on pydantic send null for what is not set."""
    body = request([1.0])
    document = json.loads(body) | {"id": None, "outputs": None, "parameters": None}
    document["inputs"][0]["parameters"] = None
    for form in (body, json.dumps(document).encode()):
        parsed = oip.parse_infer(form, LIMIT)
        assert (parsed.id, parsed.outputs, parsed.parameters) == ("", (), oip.InferParameters())


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
def test_any_buffer_is_read(buffer):
    """The body need not be copied first."""
    assert oip.parse_infer(buffer(request([1.0, 2.0])), LIMIT).inputs["x"].tolist() == [1.0, 2.0]


def test_nested_data_mean_the_same_as_flat():
    """Row-major, whatever the white space."""
    nested = [[[1, 2], [3, 4]], [[5, 6], [7, 8]], [[9, 10], [11, 12]]]
    spaced = json.dumps(json.loads(request(nested, "INT8", [3, 2, 2])), indent=3).encode()
    for body in (request(nested, "INT8", [3, 2, 2]), spaced):
        assert oip.parse_infer(body, LIMIT).inputs["x"].tolist() == nested


def test_strings_become_bytes():
    """BYTES elements are UTF-8."""
    array = oip.parse_infer(request(["héllo", ""], "BYTES", [2, 1]), LIMIT).inputs["x"]
    assert array.dtype == object
    assert array.tolist() == [["héllo".encode()], [b""]]


@pytest.mark.parametrize(
    ("datatype", "low", "high"),
    [(f"{sign}INT{bits}", -(2 ** (bits - 1)) if not sign else 0, 2 ** (bits - (not sign)) - 1)
     for sign in ("", "U") for bits in (8, 16, 32, 64)],
)  # fmt: skip
def test_integers_reach_their_bounds_and_not_beyond(datatype, low, high):
    """Nothing wraps around."""
    assert oip.parse_infer(request([low, high], datatype), LIMIT).inputs["x"].tolist() == [low, high]
    for beyond in (low - 1, high + 1):
        assert refused(request([0, beyond], datatype)) == f"input 'x': an element is out of range for {datatype}"


def test_booleans_are_booleans():
    """true and false, not 1 and 0."""
    array = oip.parse_infer(request([True, False], "BOOL"), LIMIT).inputs["x"]
    assert array.dtype == np.bool_
    assert array.tolist() == [True, False]
    assert "Expected `bool`, got `int`" in refused(request([1], "BOOL"))


def test_arrays_cannot_be_written():
    """What a request holds is shared by retries."""
    for body in (request([1.0]), request(["a"], "BYTES")):
        assert not oip.parse_infer(body, LIMIT).inputs["x"].flags.writeable


# what is refused


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "truncated"),
        (b"not json", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b"[]", "Expected `object`, got `array`"),
        (b"null", "Expected `object`, got `null`"),
        (b"{}", "missing required field `inputs`"),
        (b'{"inputs":[]}', r"length >= 1 - at `$.inputs`"),
        (b'{"inputs":{}}', "Expected `array`, got `object` - at `$.inputs`"),
        (b'{"inputs":[3]}', "Expected `object`, got `int` - at `$.inputs[0]`"),
        (b'{"inputs":[{}]}', "missing required field `name` - at `$.inputs[0]`"),
        (request([1.0], name=3), "Expected `str`, got `int` - at `$.inputs[0].name`"),
        (request([1.0], name=""), "length >= 1 - at `$.inputs[0].name`"),
        (request([1.0], name="n" * 257), "length <= 256"),
        (request([1.0], shape=3), "Expected `array`, got `int` - at `$.inputs[0].shape`"),
        (request([1.0], shape=[-1]), "Expected `int` >= 1 - at `$.inputs[0].shape[0]`"),
        (request([1.0], shape=[1, 0]), "Expected `int` >= 1 - at `$.inputs[0].shape[1]`"),
        (request([1.0], shape=[1.0]), "Expected `int`, got `float` - at `$.inputs[0].shape[0]`"),
        (request([1.0], shape=[True]), "Expected `int`, got `bool` - at `$.inputs[0].shape[0]`"),
        (request([1.0], shape=["1"]), "Expected `int`, got `str` - at `$.inputs[0].shape[0]`"),
        (request([1.0], shape=[1] * 33), "length <= 32 - at `$.inputs[0].shape`"),
        (request([1.0], datatype=5), "Expected `str`, got `int` - at `$.inputs[0].datatype`"),
        (request([1.0], parameters=[]), "Expected `object | null`, got `array` - at `$.inputs[0].parameters`"),
        (b'{"inputs":[{"name":"x"}], "id": 7}', "missing required field `shape`"),
        (request([1.0])[:-1] + b',"id":7}', "Expected `str | null`, got `int` - at `$.id`"),
        (request([1.0])[:-1] + b',"outputs":[{}]}', "missing required field `name` - at `$.outputs[0]`"),
        (request([1.0]) + b"x", "trailing characters"),
        (request([float("nan")]), "malformed"),
        (request([float("inf")]), "malformed"),
        (b'{"x":' + b"[" * 100_000, "recursion"),
    ],
)  # fmt: skip
def test_what_is_not_a_request_is_refused_with_its_place(body, words):
    """The place is a path in the body, with what was expected there and what came."""
    detail = refused(body)
    assert detail.startswith("the body is not an inference request: ")
    assert words in detail


@pytest.mark.parametrize(
    ("data", "datatype", "words"),
    [
        (["1.0"], "FP32", "Expected `float`, got `str` - at `$[0]`"),
        ([1.0, True], "FP32", "Expected `float`, got `bool` - at `$[1]`"),
        ([1.0, None], "FP64", "Expected `float`, got `null` - at `$[1]`"),
        ([3.5], "INT64", "Expected `int`, got `float` - at `$[0]`"),
        ([3.0], "INT32", "Expected `int`, got `float` - at `$[0]`"),
        ([False], "UINT8", "Expected `int`, got `bool` - at `$[0]`"),
        ([{}], "INT8", "Expected `int`, got `object` - at `$[0]`"),
        ([1], "BYTES", "Expected `str`, got `int` - at `$[0]`"),
        ([[1.0]], "FP32", "Expected `float`, got `array` - at `$[0]`"),
    ],
)
def test_an_element_of_another_type_is_refused(data, datatype, words):
    """Nothing is converted: what a client did not mean, it is told."""
    detail = refused(request(data, datatype))
    assert detail == f"input 'x': data must be {datatype} elements, flat or nested as {[len(data)]}: {words}"


def test_data_must_be_there_and_be_a_list():
    """A scalar is not a tensor."""
    assert refused(b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32"}]}') == "input 'x': data is missing"
    for data in (None, 1.0, "1.0", {}):
        assert "Expected `array`" in refused(request(data, shape=[1]))


def test_floats_too_large_for_their_type_are_refused():
    """1e39 is no float32, 1e400 no number at all here; neither becomes infinity."""
    assert refused(request([1e39])) == "input 'x': an element is out of range for FP32"
    assert oip.parse_infer(request([1e39], "FP64"), LIMIT).inputs["x"].tolist() == [1e39]
    assert "out of range" in refused(request([0.5], "FP64").replace(b"0.5", b"1e400"))


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_precision_has_no_json_form(datatype):
    """The protocol has it as binary data only, and the answer says so."""
    assert (
        refused(request([1.0], datatype)) == f"input 'x': {datatype} has no JSON form, it travels as binary data only"
    )


def test_an_unknown_datatype_is_named_with_those_that_exist():
    """Also where only the case differs."""
    assert refused(request([1.0], "fp32")).startswith("input 'x': unknown datatype 'fp32', expected one of BOOL, UINT8")


@pytest.mark.parametrize(
    ("data", "shape"),
    [([1, 2, 3], [2]), ([], [1]), ([1], [10**12]), ([1], [2**70] * 32), ([1, 2], []), ([[1, 2], [3, 4]], [4, 1])],
)
def test_data_that_do_not_fill_their_shape_are_a_shape_mismatch(data, shape):
    """However large the shape claims to be, nothing is allocated for it."""
    assert refused(request(data, "INT32", shape), "shape_mismatch").startswith(f"input 'x': shape {shape} ")


def test_ragged_nesting_is_a_shape_mismatch():
    """Even where the number of elements is right."""
    detail = refused(request([[1, 2, 3], [4]], "INT32", [2, 2]), "shape_mismatch")
    assert detail == "input 'x': shape [2, 2] expects lists of 2 on axis 1 everywhere"
    assert "at `$[1]`" in refused(request([[1, 2], 3], "INT32", [2, 2]))
    assert "got `array`" in refused(request([[[1], [2]]], "INT32", [1, 2]))


def test_duplicate_tensors_are_refused():
    """Which one was meant is not guessed."""
    one = {"name": "x", "shape": [1], "datatype": "INT8", "data": [1]}
    assert refused(json.dumps({"inputs": [one, one]}).encode()) == "input 'x' is given twice"
    body = json.dumps({"inputs": [one], "outputs": [{"name": "y"}, {"name": "y"}]}).encode()
    assert refused(body) == "output 'y' is asked for twice"


def test_elements_are_limited_over_all_inputs():
    """One more than the limit is too many, and the tensor at which it happened is named."""
    inputs = [{"name": name, "shape": [50], "datatype": "INT8", "data": [1] * 50} for name in "ab"]
    body = json.dumps({"inputs": inputs}).encode()
    assert len(oip.parse_infer(body, ParseLimits(100, 1000)).inputs) == 2
    assert refused(body, "too_large", ParseLimits(99, 1000)) == "more than 99 tensor elements, reached at input 'b'"


@pytest.mark.parametrize(
    "key",
    ["sequence_id", "sequence_start", "sequence_end", "classification", "shared_memory_region"],
)
def test_parameters_that_would_change_the_meaning_are_refused_by_name(key):
    """At every level; a tensor in shared memory is refused for that, not for missing data."""
    words = f"parameter '{key}' is not supported and would change the meaning of the request"
    document = json.loads(request([1.0]))
    assert refused(json.dumps(document | {"parameters": {key: 1}}).encode()) == f"request: {words}"
    output = {"outputs": [{"name": "y", "parameters": {key: 1}}]}
    assert refused(json.dumps(document | output).encode()) == f"output 'y': {words}"
    del document["inputs"][0]["data"]
    document["inputs"][0]["parameters"] = {key: 1}
    assert refused(json.dumps(document).encode()) == f"input 'x': {words}"


@pytest.mark.parametrize("key", ["timeout", "priority"])
@pytest.mark.parametrize("value", [-1, 1.5, "5", True, [1], 2**63, 10**400])
def test_timeout_and_priority_are_whole_numbers(key, value):
    """What cannot be acted on is refused, not ignored."""
    body = json.dumps(json.loads(request([1.0])) | {"parameters": {key: value}}).encode()
    assert refused(body) == f"request: parameter '{key}' must be an integer of at least 0 and at most {2**63 - 1}"


def test_what_becomes_objects_is_told_from_what_stays_bytes():
    """So that large ones take turns: BYTES elements are read one by one wherever they stand."""
    tail = bytes(1000)
    for text, whole in ((b'{"datatype":"FP32"}', False), (b'{"datatype":"BYTES"}', True), (b'{"\\u0042":1}', True)):
        assert OipCodec(len(text)).text_bytes(text + tail) == (len(text + tail) if whole else len(text))
    assert JSON.text_bytes(tail) == len(tail)
