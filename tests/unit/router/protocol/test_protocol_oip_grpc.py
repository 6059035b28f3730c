"""The protobuf form: what is read, what is refused with which words, and how answers are laid out."""

from __future__ import annotations

import numpy as np
import pytest

from models.tensors import DTYPES, to_wire
from router.core.errors import RequestError, UpstreamError
from router.protocol.codec import ParseLimits
from router.protocol.link import Tensor
from router.protocol.oip_grpc import MessageCodec, decode, stream_answer, stream_error
from router.protocol.proto import open_inference_pb2 as pb

LIMIT = ParseLimits(max_elements=1000, max_json_bytes=1)


def tensor(name="x", datatype="FP32", shape=(2,), **contents):
    """An input; `contents` are typed ones."""
    typed = {"contents": pb.InferTensorContents(**contents)} if contents else {}
    return pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape, **typed)


def request(*inputs, raw=(), **more):
    """A request as bytes, read back as a listener does."""
    message = pb.ModelInferRequest(model_name="m", id="7", inputs=inputs, raw_input_contents=raw, **more)
    return decode(message.SerializeToString())


def parsed(*inputs, raw=(), remaining_s=None, **more):
    """What becomes of it."""
    return MessageCodec(request(*inputs, raw=raw, **more), remaining_s).parse(b"", LIMIT)


PAIR = np.array([1.5, -2.5], "<f4")
GOOD = {"raw": (PAIR.tobytes(),)}


def test_raw_contents_are_the_arrays_themselves():
    """Little-endian bytes by position, read-only."""
    got = parsed(tensor("a"), tensor("b", "INT64", (1, 2)), raw=(PAIR.tobytes(), np.array([3, 4], "<i8").tobytes()))
    assert got.id == "7"
    assert got.inputs["a"].tolist() == PAIR.tolist()
    assert got.inputs["b"].tolist() == [[3, 4]]
    assert not got.inputs["a"].flags.writeable


def test_typed_contents_are_read_by_datatype():
    """Narrow integers share a field with wide ones."""
    got = parsed(
        tensor("a", "UINT8", uint_contents=[0, 255]),
        tensor("b", "INT16", int_contents=[-32768, 32767]),
        tensor("c", "BYTES", bytes_contents=[b"", b"\xff"]),
        tensor("d", "BOOL", bool_contents=[True, False]),
    ).inputs
    assert [got["a"].dtype, got["b"].dtype, got["d"].dtype] == [DTYPES["UINT8"], DTYPES["INT16"], DTYPES["BOOL"]]
    assert [array.tolist() for array in got.values()] == [[0, 255], [-32768, 32767], [b"", b"\xff"], [True, False]]


@pytest.mark.parametrize(
    ("inputs", "more", "reason", "words"),
    [
        ((), {}, "malformed", "no inputs"),
        ((tensor(),), {}, "malformed", "data is missing"),
        ((tensor(), tensor("y")), GOOD, "malformed", "2 inputs but 1 raw_input_contents"),
        ((tensor(fp32_contents=[1, 2]),), GOOD, "malformed", "both contents and raw_input_contents"),
        ((tensor(), tensor()), {"raw": GOOD["raw"] * 2}, "malformed", "given twice"),
        ((tensor(shape=(3,)),), GOOD, "malformed", "takes 12 bytes, got 8"),
        ((tensor(shape=(-1,)),), GOOD, "malformed", "each of at least 1"),
        ((tensor(shape=(0,)),), GOOD, "malformed", "each of at least 1"),
        ((tensor(shape=[1] * 33),), GOOD, "malformed", "at most 32 axes"),
        ((tensor(shape=[2**62, 2**62]),), GOOD, "malformed", "bytes, got 8"),
        ((tensor(name=""),), GOOD, "malformed", "a name of 1 to 256"),
        ((tensor(datatype="FLOAT"),), GOOD, "malformed", "FLOAT is unknown"),
        ((tensor(datatype="FLOAT", fp32_contents=[1, 2]),), {}, "malformed", "unknown datatype 'FLOAT'"),
        ((tensor(datatype="FP16", fp32_contents=[1, 2]),), {}, "malformed", "raw_input_contents only"),
        ((tensor(datatype="BF16", fp32_contents=[1, 2]),), {}, "malformed", "raw_input_contents only"),
        ((tensor(fp64_contents=[1, 2]),), {}, "malformed", "belong in fp32_contents, not in fp64_contents"),
        ((tensor(fp32_contents=[1, 2, 3]),), {}, "shape_mismatch", "does not take 3 elements"),
        ((tensor(datatype="INT8", int_contents=[0, 128]),), {}, "malformed", "out of range for INT8"),
        ((tensor(datatype="UINT16", uint_contents=[0, 65536]),), {}, "malformed", "out of range for UINT16"),
        ((tensor(shape=(2000,), fp32_contents=[0] * 2000),), {}, "too_large", "too many tensor elements"),
        ([tensor(n, "BYTES", [600]) for n in "ab"], {"raw": [bytes(2400)] * 2}, "too_large", "1000 .* input .b"),
        ((tensor(datatype="BYTES", shape=[2**62, 4]),), {"raw": (b"",)}, "too_large", "more than 1000 tensor elements"),
        ((tensor(datatype="BYTES"),), {"raw": (b"\x05\0\0\0ab",)}, "malformed", "BYTES elements expected"),
        ((tensor(),), GOOD | {"parameters": {"sequence_id": pb.InferParameter()}}, "malformed", "sequence"),
        ((tensor(),), GOOD | {"parameters": {"timeout": pb.InferParameter(int64_param=-1)}}, "malformed", "timeout"),
        ((tensor(),), GOOD | {"parameters": {"priority": pb.InferParameter(string_param="1")}}, "malformed", "integer"),
        ((tensor(),), GOOD | {"parameters": {"timeout": pb.InferParameter()}}, "malformed", "timeout"),
    ],
)  # fmt: skip
def test_what_is_not_well_formed_is_refused_in_words(inputs, more, reason, words):
    """Each with the reason that its status follows from."""
    with pytest.raises(RequestError, match=words) as raised:
        parsed(*inputs, **more)
    assert raised.value.reason == reason


def test_parameters_that_change_the_meaning_are_refused_wherever_they_stand():
    """On inputs and outputs too."""
    shared = {"shared_memory_region": pb.InferParameter(string_param="r")}
    bad = tensor()
    bad.parameters["shared_memory_region"].string_param = "r"
    with pytest.raises(RequestError, match="shared_memory_region"):
        parsed(bad, **GOOD)
    outputs = [pb.ModelInferRequest.InferRequestedOutputTensor(name="y", parameters=shared)]
    with pytest.raises(RequestError, match="shared_memory_region"):
        parsed(tensor(), **GOOD, outputs=outputs)


def test_outputs_and_counts_are_taken_others_are_ignored():
    """`binary_data` says nothing here: answers are binary anyway."""
    outputs = [pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in ("b", "a")]
    outputs[0].parameters["binary_data"].bool_param = True
    parameters = {"timeout": pb.InferParameter(int64_param=5), "priority": pb.InferParameter(uint64_param=2)}
    got = parsed(tensor(), **GOOD, outputs=outputs, parameters=parameters)
    assert got.outputs == ("b", "a")
    assert (got.parameters.timeout_us, got.parameters.priority) == (5, 2)
    with pytest.raises(RequestError, match="asked for twice"):
        parsed(tensor(), **GOOD, outputs=[outputs[0], outputs[0]])


@pytest.mark.parametrize(
    ("asked_us", "remaining_s", "timeout_us"),
    [(None, None, None), (None, 0.5, 500_000), (7, 0.5, 7), (0, 0.5, 500_000), (900_000, 0.5, 500_000), (7, 0.0, 1)],
)
def test_the_calls_deadline_bounds_the_timeout(asked_us, remaining_s, timeout_us):
    """The shorter one; a timeout of 0 is none, and a deadline that has passed is not taken for none."""
    parameters = {} if asked_us is None else {"timeout": pb.InferParameter(int64_param=asked_us)}
    got = parsed(tensor(), **GOOD, parameters=parameters, remaining_s=remaining_s)
    assert got.parameters.timeout_us == timeout_us


def answered(message, *outputs):
    """The answer to it as a client reads it."""
    codec = MessageCodec(message)
    encoded = codec.encode("m", "3", codec.parse(b"", LIMIT), outputs)
    return pb.ModelInferResponse.FromString(b"".join((encoded.body, *encoded.more)))


def test_a_raw_request_gets_a_raw_answer():
    """One raw content per output, in order, whatever its length."""
    big = np.arange(100_000, dtype="<f4")
    tensors = [
        Tensor("y", "FP32", [2], to_wire(PAIR, "FP32")),
        Tensor("z", "FP32", [100_000], to_wire(big, "FP32")),
        Tensor("none", "FP32", [0], memoryview(b"")),
    ]
    answer = answered(request(tensor(), **GOOD), *tensors)
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "3", "7")
    assert [(o.name, o.datatype, list(o.shape)) for o in answer.outputs] == [
        ("y", "FP32", [2]), ("z", "FP32", [100_000]), ("none", "FP32", [0]),
    ]  # fmt: skip
    assert list(answer.raw_output_contents) == [PAIR.tobytes(), big.tobytes(), b""]
    assert not any(output.HasField("contents") for output in answer.outputs)


def test_a_typed_request_gets_a_typed_answer():
    """Unless an output has no typed form: then all are raw, since clients read one or the other."""
    message = request(tensor(fp32_contents=[1, 2]))
    one = Tensor("y", "FP32", [2], to_wire(PAIR, "FP32"))
    answer = answered(message, one)
    assert list(answer.outputs[0].contents.fp32_contents) == PAIR.tolist()
    assert not answer.raw_output_contents
    half = Tensor("h", "FP16", [2], to_wire(PAIR.astype("<f2"), "FP16"))
    assert len(answered(message, one, half).raw_output_contents) == 2


def test_a_broken_answer_is_the_replicas_fault():
    """Never passed on as a success."""
    with pytest.raises(UpstreamError, match="broken"):
        answered(request(tensor(fp32_contents=[1, 2])), Tensor("y", "FP32", [2], memoryview(b"123")))


def test_a_stream_says_which_request_it_answers():
    """By id, also for an error."""
    message = request(
        tensor(), **GOOD, parameters={"triton_enable_empty_final_response": pb.InferParameter(bool_param=True)}
    )
    body = answered(message, Tensor("y", "FP32", [2], to_wire(PAIR, "FP32"))).SerializeToString()
    said = pb.ModelStreamInferResponse.FromString(stream_answer(body))
    assert not said.error_message
    assert said.infer_response.id == "7"
    assert said.infer_response.parameters["triton_final_response"].bool_param
    said = pb.ModelStreamInferResponse.FromString(stream_error(message, "saturated", "wait"))
    assert (said.error_message, said.infer_response.id) == ("wait", "7")
    assert said.infer_response.parameters["reason"].string_param == "saturated"
    assert pb.ModelStreamInferResponse.FromString(stream_error(None, "malformed", "what")).error_message == "what"


def test_bytes_that_are_no_message_are_malformed():
    """Not an internal error."""
    with pytest.raises(RequestError, match="not an inference request"):
        decode(b"\x0a\xff\xff")
