"""Open Inference Protocol answers and documents: exact, or refused."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from models.spec import BatchRule, ModelSpec, TensorSpec, TextInput
from router.core.errors import RequestError, UpstreamError
from router.protocol import metadata
from router.protocol.link import Tensor
from router.protocol.oip_answers import encode_infer


def wire(array, datatype, name="y"):
    """A tensor at an odd offset, as it lies in a frame."""
    data = memoryview(b"#" + array.tobytes())[1:]
    return Tensor(name, datatype, list(array.shape), data)


@pytest.mark.parametrize(
    ("datatype", "dtype"),
    [("FP32", "f4"), ("FP64", "f8"), ("INT8", "i1"), ("UINT8", "u1"), ("INT16", "i2"), ("UINT16", "u2"),
     ("INT32", "i4"), ("UINT32", "u4"), ("INT64", "i8"), ("UINT64", "u8")],
)  # fmt: skip
def test_every_number_of_an_answer_reads_back_to_the_same_bits(datatype, dtype):
    """Random bit patterns, the extremes and signed zero."""
    bits = np.random.default_rng(7).bytes(4000 * np.dtype(dtype).itemsize)
    array = np.frombuffer(bits, dtype)
    if array.dtype.kind == "f":
        info = np.finfo(dtype)
        array = np.append(array[np.isfinite(array)], np.array([0.0, -0.0, info.max, info.min, info.tiny], dtype))
    (output,) = orjson.loads(encode_infer("m", "1", "", [wire(array, datatype)]))["outputs"]
    assert np.array(output["data"], dtype).tobytes() == array.tobytes()
    assert output["shape"] == [len(array)]


def test_an_answer_names_model_version_and_id():
    """`id` only where the client gave one; data are flat in row-major order."""
    tensor = wire(np.array([[1, 0], [1, 1]], np.bool_), "BOOL")
    answer = orjson.loads(encode_infer("m", "3", "abc", [tensor]))
    output = {"name": "y", "datatype": "BOOL", "shape": [2, 2], "data": [True, False, True, True]}
    assert answer == {"model_name": "m", "model_version": "3", "id": "abc", "outputs": [output]}
    assert "id" not in orjson.loads(encode_infer("m", "3", "", [tensor]))


def test_strings_of_an_answer_are_text():
    """Each element has its length before it on the stream."""
    data = memoryview(b"\x03\0\0\0h\xc3\xa9\0\0\0\0")
    answer = orjson.loads(encode_infer("m", "1", "", [Tensor("y", "BYTES", [2, 1], data)]))
    assert answer["outputs"][0]["data"] == ["hé", ""]


def test_an_empty_output_is_an_empty_list():
    """A detector may find nothing."""
    answer = orjson.loads(encode_infer("m", "1", "", [wire(np.empty((0, 4), np.float32), "FP32")]))
    assert answer["outputs"][0]["data"] == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("datatype", "dtype"), [("FP32", "f4"), ("FP64", "f8")])
def test_a_number_that_json_cannot_carry_fails_the_answer(value, datatype, dtype):
    """null in its place would read as a number that the model did not give."""
    with pytest.raises(UpstreamError, match="output 'y' holds NaN or infinity") as caught:
        encode_infer("m", "1", "", [wire(np.array([1, value, 2], dtype), datatype)])
    assert caught.value.reason == "backend_failed"


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (Tensor("y", "FP32", [3], memoryview(bytes(8))), "y: "),
        (Tensor("y", "FP32", [-1], memoryview(bytes(8))), "y: "),
        (Tensor("y", "WORD", [1], memoryview(bytes(8))), "WORD"),
        (Tensor("y", "BYTES", [1], memoryview(b"\x09\0\0\0a")), "y: "),
        (Tensor("y", "BYTES", [1], memoryview(b"\x01\0\0\0\xff")), "output 'y' holds bytes that are not UTF-8"),
    ],
)
def test_a_broken_answer_is_the_backends_failure(tensor, words):
    """It is named, and never sent on."""
    with pytest.raises(UpstreamError, match=words) as caught:
        encode_infer("m", "1", "", [tensor])
    assert caught.value.reason == "backend_failed"


def test_a_half_precision_output_asks_the_client_to_change_something():
    """The model did nothing wrong: JSON is the wrong form for this output."""
    with pytest.raises(RequestError, match="output 'y': FP16 has no JSON form") as caught:
        encode_infer("m", "1", "", [wire(np.ones(2, np.float16), "FP16")])
    assert caught.value.reason == "malformed"


def spec(text=None):
    """A model with two inputs, ragged in one axis."""
    tokens = tuple(TensorSpec(name, "INT64", ("batch", "tokens")) for name in ("input_ids", "attention_mask"))
    outputs = (TensorSpec("embedding", "FP32", ("batch", 384)),)
    return ModelSpec("minilm", "1", tokens, outputs, BatchRule(), (), text=text)


def test_symbolic_axes_are_minus_one():
    """As clients of the protocol expect; an ordinary model carries no marks."""
    assert metadata.model_metadata(spec(), ["1", "2"]) == {
        "name": "minilm",
        "versions": ["1", "2"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "input_ids", "datatype": "INT64", "shape": [-1, -1]},
            {"name": "attention_mask", "datatype": "INT64", "shape": [-1, -1]},
        ],
        "outputs": [{"name": "embedding", "datatype": "FP32", "shape": [-1, 384]}],
    }


def test_a_text_model_lists_text_first_and_marks_the_alternatives():
    """A request carries every input of exactly one alternative."""
    text = TextInput(TensorSpec("text", "BYTES", ("batch",)), "tokenizer.json")
    inputs = metadata.model_metadata(spec(text), ["1"])["inputs"]
    assert [(tensor["name"], tensor["parameters"]["alternative"]) for tensor in inputs] == [
        ("text", 0),
        ("input_ids", 1),
        ("attention_mask", 1),
    ]


def test_health_and_server_documents_have_the_protocols_keys():
    """Small, but clients read them by name."""
    extensions = ["binary_tensor_data", "model_configuration", "statistics", "model_repository"]
    assert metadata.server_metadata("0.1.0") == {"name": "pointsman", "version": "0.1.0", "extensions": extensions}
    assert metadata.server_live(True) == {"live": True}
    assert metadata.server_ready(False) == {"ready": False}
    assert metadata.model_ready("m", True) == {"name": "m", "ready": True}
