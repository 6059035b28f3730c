"""The binary tensor extension: what is read from behind the JSON, what is refused there, and how answers leave."""

from __future__ import annotations

import json

import numpy as np
import orjson
import pytest

from models.tensors import DTYPES, from_wire, to_wire
from router.core.errors import RequestError, UpstreamError
from router.protocol.codec import ParseLimits
from router.protocol.link import Tensor
from router.protocol.oip import JSON, OipCodec

LIMITS = ParseLimits(max_elements=100, max_json_bytes=10_000)
HUGE = 10**400


def tensor(name="x", shape=(2,), datatype="FP32", **more):
    """An input of a request; `size` is its binary_data_size."""
    if "size" in more:
        more["parameters"] = {"binary_data_size": more.pop("size")}
    return {"name": name, "shape": list(shape), "datatype": datatype, **more}


def parse(document, data=b"", *, codec=None, kind=bytes):
    """What the request comes to whose JSON is `document`, with `data` behind it."""
    text = json.dumps(document).encode()
    return (codec or OipCodec(len(text))).parse(kind(text + data), LIMITS)


def refused(document, data=b"", reason="malformed", codec=None):
    """The words with which the request is refused."""
    with pytest.raises(RequestError) as caught:
        parse(document, data, codec=codec)
    assert caught.value.reason == reason
    return caught.value.detail


# what is accepted


@pytest.mark.parametrize("datatype", sorted(set(DTYPES) - {"BYTES", "BOOL"}))
def test_any_bits_of_every_number_are_read_without_a_copy(datatype):
    """Also at an odd offset; what is read cannot be written, whatever the body was."""
    dtype = DTYPES[datatype]
    data = np.random.default_rng(1).bytes(6 * dtype.itemsize)
    for pad in ("", "#"):
        document = {"id": pad, "inputs": [tensor(shape=[2, 3], datatype=datatype, size=len(data))]}
        text = json.dumps(document).encode()
        body = bytearray(text + data)
        array = OipCodec(len(text)).parse(body, LIMITS).inputs["x"]
        assert (array.dtype, array.shape, array.tobytes()) == (dtype, (2, 3), data)
        assert np.shares_memory(array, np.frombuffer(body, np.uint8))
        assert np.shares_memory(np.frombuffer(to_wire(array, datatype), np.uint8), np.frombuffer(body, np.uint8))
        assert not array.flags.writeable


def test_binary_and_json_inputs_mix_in_any_order():
    """The binary data lie in the order of their inputs, whatever stands between; null is no data."""
    document = {
        "inputs": [
            tensor("a", [2], "INT16", size=4),
            tensor("b", [3], "FP32", data=[1, 2, 3]),
            tensor("c", [2, 1], "BYTES", size=11, data=None),
            tensor("d", [3], "BOOL", size=3),
        ],
        "outputs": [{"name": "z", "parameters": {"binary_data": False}}, {"name": "y"}],
        "parameters": {"binary_data_output": True, "timeout": 5, "anything": {}},
    }
    data = b"\1\0\2\0" + b"\3\0\0\0a\xff\0" + b"\0\0\0\0" + b"\1\0\1"
    parsed = parse(document, data)
    assert {name: array.tolist() for name, array in parsed.inputs.items()} == {
        "a": [1, 2],
        "b": [1.0, 2.0, 3.0],
        "c": [[b"a\xff\0"], [b""]],
        "d": [True, False, True],
    }
    assert parsed.outputs == ("z", "y")
    assert (parsed.wants_binary("z"), parsed.wants_binary("y")) == (False, True)
    assert parsed.parameters.timeout_us == 5
    assert not parsed.inputs["c"].flags.writeable


def test_a_length_that_is_the_whole_body_is_plain_json():
    """Some clients say it always."""
    document = {"inputs": [tensor(data=[1, 2])]}
    assert parse(document).inputs["x"].tolist() == [1.0, 2.0]


def test_a_request_that_is_all_json_may_ask_for_binary_outputs():
    """As tritonclient does where no output is named."""
    parsed = parse({"inputs": [tensor(data=[1, 2])], "parameters": {"binary_data_output": True}}, codec=JSON)
    assert parsed.wants_binary("any")
    for flag in (False, None):
        parsed = parse({"inputs": [tensor(data=[1, 2])], "parameters": {"binary_data_output": flag}}, codec=JSON)
        assert not parsed.wants_binary("any")


def test_numbers_as_binary_data_are_not_counted_as_elements():
    """The body bounds them; BYTES become objects, so they are."""
    size = 4 * (LIMITS.max_elements + 1)
    document = {"inputs": [tensor(shape=[size // 4], size=size)]}
    assert parse(document, bytes(size)).inputs["x"].shape == (101,)
    document["inputs"][0]["datatype"] = "BYTES"
    assert refused(document, bytes(size), "too_large") == "more than 100 tensor elements, reached at input 'x'"


def test_only_the_json_of_a_body_is_bound_as_json():
    """A body with little of it may be long."""
    codec = OipCodec(LIMITS.max_json_bytes + 1)
    words = "10001 bytes of JSON, the limit is 10000: send large tensors as binary data"
    assert refused({}, b" " * 20_000, "too_large", codec) == words
    assert refused({}, b" " * 9_999, "too_large", JSON) == words
    assert parse({"inputs": [tensor(shape=[20_000], datatype="INT8", size=20_000)]}, bytes(20_000)).inputs


# what is refused


@pytest.mark.parametrize(
    ("inputs", "data", "reason", "words"),
    [
        ([tensor(size=8)], b"", "malformed", "input 'x': binary_data_size is 8, 0 bytes of binary data are left"),
        ([tensor(size=8)], bytes(7), "malformed", "binary_data_size is 8, 7 bytes of binary data are left"),
        ([tensor(size=8)], bytes(9), "malformed", "1 bytes of binary data belong to no input"),
        ([tensor(data=[1, 2])], bytes(9), "malformed", "9 bytes of binary data belong to no input"),
        ([tensor(size=8), tensor("y", size=8)], bytes(12), "malformed", "input 'y': binary_data_size is 8, 4 bytes"),
        ([tensor(size=7)], bytes(7), "shape_mismatch", "input 'x': FP32 [2] does not take 7 bytes"),
        ([tensor(size=12)], bytes(12), "shape_mismatch", "input 'x': FP32 [2] does not take 12 bytes"),
        ([tensor(size=0)], b"", "shape_mismatch", "does not take 0 bytes"),
        ([tensor(shape=[2**62, 4], size=8)], bytes(8), "shape_mismatch", "does not take 8 bytes"),
        ([tensor(shape=[HUGE] * 12, size=8)], bytes(8), "shape_mismatch", "does not take 8 bytes"),
        ([tensor(shape=[HUGE] * 12, datatype="BYTES", size=8)], bytes(8), "too_large", "more than 100"),
        ([tensor(shape=[-2], size=8)], bytes(8), "malformed", "Expected `int` >= 1"),
        ([tensor(shape=[0], size=0)], b"", "malformed", "Expected `int` >= 1"),
        ([tensor(size=-8)], bytes(8), "malformed", "parameter 'binary_data_size' must be an integer of at least 0"),
        ([tensor(size=8.0)], bytes(8), "malformed", "must be an integer"),
        ([tensor(size="8")], bytes(8), "malformed", "must be an integer"),
        ([tensor(size=True)], bytes(8), "malformed", "must be an integer"),
        ([tensor(size=None)], bytes(8), "malformed", "must be an integer"),
        ([tensor(size=2**64)], bytes(8), "malformed", f"binary_data_size is {2**64}, 8 bytes"),
        ([tensor(size=HUGE)], bytes(8), "malformed", "8 bytes of binary data are left"),
        ([tensor(size=8, data=[1, 2])], bytes(8), "malformed", "either data or binary_data_size, not both"),
        ([tensor(size=8), tensor(size=8)], bytes(16), "malformed", "input 'x' is given twice"),
        ([tensor(datatype="FP8", size=2)], bytes(2), "malformed", "unknown datatype 'FP8', expected one of BOOL"),
        ([tensor(datatype="BOOL", size=2)], b"\1\2", "malformed", "BOOL elements are 0 or 1"),
        ([tensor(datatype="BYTES", size=7)], bytes(7), "shape_mismatch", "BYTES [2] does not take 7 bytes"),
        ([tensor(datatype="BYTES", size=8)], b"\5\0\0\0" + bytes(4), "malformed", "element 0 ends 1 bytes after"),
        ([tensor(datatype="BYTES", size=8)], b"\xff" * 4 + bytes(4), "malformed", "element 0 ends"),
        ([tensor(datatype="BYTES", size=9)], b"\2\0\0\0" + bytes(5), "malformed", "element 1 has no length"),
        ([tensor(datatype="BYTES", size=9)], bytes(9), "malformed", "1 bytes left after 2 BYTES elements"),
        (
            [tensor(datatype="BYTES", size=8), tensor("y", [1], "INT8", size=1)],
            b"\4\0\0\0" + bytes(4) + b"\1", "malformed", "input 'x': element 1 has no length",
        ),
    ],
)  # fmt: skip
def test_sizes_that_do_not_fit_are_refused(inputs, data, reason, words):
    """Each size against its shape, all of them against the body; nothing is allocated for what is only claimed."""
    assert words in refused({"inputs": inputs}, data, reason)


@pytest.mark.parametrize("value", [1, 0, "true", [True], {}])
def test_flags_are_true_or_false(value):
    """What cannot be acted on is refused, not guessed."""
    document = {"inputs": [tensor(data=[1, 2])]}
    words = "must be true or false"
    assert words in refused(document | {"parameters": {"binary_data_output": value}})
    assert words in refused(document | {"outputs": [{"name": "y", "parameters": {"binary_data": value}}]})


def test_a_size_has_its_place():
    """Of an input, in a request that says how long its JSON is."""
    words = "input 'x': binary_data_size without the header inference-header-content-length"
    assert refused({"inputs": [tensor(size=8)]}, codec=JSON) == words
    document = {"inputs": [tensor(data=[1, 2])]}
    size = {"binary_data_size": 8}
    assert "would change the meaning" in refused(document | {"parameters": size})
    assert "would change the meaning" in refused(document | {"outputs": [{"name": "y", "parameters": size}]})


def test_json_longer_than_the_body_is_refused():
    """And one that is cut by its length."""
    assert refused({}, b"12", codec=OipCodec(5)) == "inference-header-content-length is 5, the body has 4 bytes"
    assert "truncated" in refused({"inputs": []}, codec=OipCodec(4))
    assert "truncated" in refused({"inputs": []}, codec=OipCodec(0))


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize(
    "place",
    [
        b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":%b',
        b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1],"parameters":{"a":%b',
        b'{"parameters":{"a":%b',
        b'{"outputs":[{"name":"y","parameters":{"a":%b',
        b'{"unknown":%b',
        b"%b",
    ],
)
def test_json_nested_without_end_is_refused(opening, place):
    """Closed or not, wherever it is."""
    for text in (place % (opening * 100_000), place % (opening * 100_000 + b"1" + b"]" * 100_000)):
        for codec in (JSON, OipCodec(len(text))):
            with pytest.raises(RequestError) as caught:
                codec.parse(text, ParseLimits(100, 1 << 20))
            assert caught.value.reason == "malformed"


# answers


def outputs():
    """Three outputs, as views of a frame."""
    arrays = {
        "FP32": np.array([[1.5, np.nan], [-0.0, np.inf]], np.float32),
        "BYTES": np.array([b"\xff\0", b""], object),
        "INT64": np.array([2**62]),
    }
    return [Tensor(name.lower(), name, list(array.shape), to_wire(array, name)) for name, array in arrays.items()]


def answer(asked, tensors):
    """The answer taken apart: header lines, document, binary data."""
    encoded = JSON.encode("m", "2", asked, tensors)
    return encoded.lines, orjson.loads(encoded.body), encoded.more, len(encoded.body)


def test_an_answer_says_what_lies_behind_it():
    """In the order of the outputs; what is wanted as JSON stays JSON. Binary data leave as they came, bit for bit."""
    wanted = [{"name": name, "parameters": {"binary_data": name != "int64"}} for name in ("fp32", "int64", "bytes")]
    asked = parse({"id": "7", "inputs": [tensor(data=[1, 2])], "outputs": wanted})
    fp32, text, int64 = outputs()
    lines, document, more, length = answer(asked, [fp32, int64, text])
    assert lines == (
        b"content-type: application/octet-stream\r\ninference-header-content-length: " + str(length).encode() + b"\r\n"
    )
    assert document == {
        "model_name": "m", "model_version": "2", "id": "7",
        "outputs": [
            {"name": "fp32", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": 16}},
            {"name": "int64", "datatype": "INT64", "shape": [1], "data": [2**62]},
            {"name": "bytes", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 10}},
        ],
    }  # fmt: skip
    assert more == [fp32.data, text.data]
    assert more[0] is fp32.data
    assert from_wire("BYTES", [2], more[1]).tolist() == [b"\xff\0", b""]


def test_an_answer_without_binary_outputs_is_plain_json():
    """Also where the request could have had some."""
    for parameters in ({"binary_data_output": True}, {}):
        flag = {"name": "int64", "parameters": {"binary_data": False}}
        asked = parse({"inputs": [tensor(data=[1, 2])], "outputs": [flag], "parameters": parameters})
        lines, document, more, _ = answer(asked, outputs()[2:])
        assert lines == b"content-type: application/json\r\n"
        assert document["outputs"] == [{"name": "int64", "datatype": "INT64", "shape": [1], "data": [2**62]}]
        assert not more


def test_an_empty_output_is_no_bytes():
    """A detector may find nothing; the header is there all the same."""
    asked = parse({"inputs": [tensor(data=[1, 2])], "parameters": {"binary_data_output": True}})
    empty = Tensor("y", "FP32", [0, 4], to_wire(np.empty((0, 4), np.float32), "FP32"))
    lines, document, more, _ = answer(asked, [empty])
    assert b"octet-stream" in lines
    assert document["outputs"][0]["parameters"] == {"binary_data_size": 0}
    assert sum(map(len, more)) == 0


@pytest.mark.parametrize(
    "broken",
    [
        Tensor("y", "FP32", [3], memoryview(bytes(8))),
        Tensor("y", "FP32", [-1], memoryview(bytes(8))),
        Tensor("y", "WORD", [1], memoryview(bytes(8))),
        Tensor("y", "BOOL", [1], memoryview(b"\2")),
        Tensor("y", "BYTES", [1], memoryview(b"\x09\0\0\0a")),
    ],
    ids=lambda tensor: f"{tensor.datatype}{tensor.shape}",
)
def test_a_broken_answer_is_not_sent_as_binary_data_either(broken):
    """It is the backend's failure."""
    asked = parse({"inputs": [tensor(data=[1, 2])], "parameters": {"binary_data_output": True}})
    with pytest.raises(UpstreamError, match=r"the replica's answer is broken: y|WORD"):
        JSON.encode("m", "1", asked, [broken])


def test_what_json_cannot_carry_beside_binary_data_fails_the_answer():
    """Only the tensors that are JSON are asked."""
    asked = parse({
        "inputs": [tensor(data=[1, 2])],
        "outputs": [{"name": "fp32"}, {"name": "bytes", "parameters": {"binary_data": True}}],
    })  # fmt: skip
    with pytest.raises(UpstreamError, match="'fp32' holds NaN or infinity, which JSON cannot carry: ask for it as bin"):
        JSON.encode("m", "1", asked, outputs()[:2])
