"""The bytes on both wires, as they were agreed. A change here breaks clients, or routers and pools of two versions.

`wire/frames.hex` and `wire/handshake.hex` hold `name: hex` lines; the JSON files hold bodies as they travel, the
binary ones up to where their binary data begin, which are in `wire/binary.hex`.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.tensors import DTYPES, to_wire
from router.protocol.codec import InferParameters, ParsedInfer, ParseLimits
from router.protocol.fragments import Fragments
from router.protocol.framing import FrameReader, frame
from router.protocol.handshake import ClientHandshake, ServerHandshake
from router.protocol.link import (
    FRAGMENT_BYTES,
    Answer,
    Answers,
    Cancel,
    Drain,
    Item,
    Load,
    ModelGrant,
    Ping,
    Pong,
    Submit,
    Taken,
    Tensor,
    Welcome,
)
from router.protocol.oip import OipCodec, parse_infer
from router.protocol.oip_answers import encode_infer
from router.protocol.problem import problem_body

WIRE = Path(__file__).parent / "wire"
LIMITS = ParseLimits(max_elements=1000, max_json_bytes=10_000)


def hex_lines(name: str) -> dict[str, bytes]:
    """Bytes by name; lines that begin with # are remarks."""
    lines = (WIRE / name).read_text().splitlines()
    pairs = (line.split(": ") for line in lines if line and not line.startswith("#"))
    return {key: bytes.fromhex(value) for key, value in pairs}


ARRAYS = {
    "BOOL": np.array([[True, False]]),
    "INT8": np.array([-128, 127], np.int8),
    "UINT8": np.array([0, 255], np.uint8),
    "INT16": np.array([-32768, 32767], np.int16),
    "UINT16": np.array([0, 65535], np.uint16),
    "INT32": np.array([-(2**31), 2**31 - 1], np.int32),
    "UINT32": np.array([0, 2**32 - 1], np.uint32),
    "INT64": np.array([-(2**63), 2**63 - 1], np.int64),
    "UINT64": np.array([0, 2**64 - 1], np.uint64),
    "FP32": np.array([[0.1, -0.0, 3.4028235e38], [1e-45, 1.5, -2.0]], np.float32),
    "FP64": np.array([0.1, 5e-324, 1.7976931348623157e308]),
    "BYTES": np.array([[b"a sentence"], ["é".encode()]], object),
}
"""One tensor of each datatype that JSON has, with its extremes."""

BINARY_ARRAYS = ARRAYS | {
    "FP16": np.array([1.0, -0.0, 6e-8, np.inf], np.float16),
    "BF16": np.array([[1.0], [-2.5], [np.nan]], DTYPES["BF16"]),
    "BYTES": np.array([b"\xff\x00", b""], object),
}
"""One tensor of each datatype that there is."""

FP32 = Tensor("x", "FP32", [1, 2], to_wire(np.array([[1.0, -2.5]], np.float32), "FP32"))
BYTES = Tensor("text", "BYTES", [2, 1], to_wire(ARRAYS["BYTES"], "BYTES"))
MESSAGES = {
    "welcome": Welcome(
        1, "local", "local#1", "x86-cpu", "CPUExecutionProvider", False,
        [ModelGrant("mlp", "1", 32, 256, 1 << 20, [(1, 0.0005), (32, 0.002)], "fp32")], "0123456789abcdef",
    ),
    "submit": Submit([Item(7, "mlp", "1", 50_000, 1, "search", "p-1", "r-1", 1, ["y"], [FP32, BYTES], 2)]),
    "cancel": Cancel([7, 8]),
    "answers": Answers(
        1, [Answer(7, "", "", True, 120, 30, 900, 4, [FP32], "1"), Answer(8, "expired", "late", False, 0, 0, 0, 0, [])],
        Load(
            {"mlp": 5}, False, 0, {"mlp": ("queue_full", "upstream: it answers 429")},
            [ModelGrant("mlp", "1", 16, 256, 1 << 20, [(1, 0.0005)])],
        ),
    ),
    "drain": Drain(),
    "ping": Ping(1),
    "pong": Pong(1),
    "taken": Taken(1 << 18),
}  # fmt: skip


def test_a_request_reads_as_it_always_did():
    """Every datatype that JSON has, nested and flat."""
    parsed = parse_infer((WIRE / "infer_request.json").read_bytes(), LIMITS)
    assert parsed.id == "42"
    assert parsed.outputs == ("y",)
    assert parsed.parameters.timeout_us == 50_000
    assert parsed.inputs.keys() == ARRAYS.keys()
    for datatype, array in ARRAYS.items():
        got = parsed.inputs[datatype]
        assert (got.dtype, got.shape) == (DTYPES[datatype], array.shape)
        assert got.tolist() == array.tolist()


def test_an_answer_is_written_as_it_always_was():
    """To the byte."""
    outputs = [
        Tensor(datatype, datatype, list(array.shape), to_wire(array, datatype)) for datatype, array in ARRAYS.items()
    ]
    assert encode_infer("everything", "1", "42", outputs) == (WIRE / "infer_response.json").read_bytes().rstrip()


def test_a_binary_request_reads_as_it_always_did():
    """Every datatype as binary data, and one tensor as JSON between them."""
    text, data = (WIRE / "binary_request.json").read_bytes().rstrip(), hex_lines("binary.hex")["request"]
    parsed = OipCodec(len(text)).parse(text + data, LIMITS)
    assert parsed.inputs.pop("json").tolist() == [1.5]
    assert parsed.inputs.keys() == BINARY_ARRAYS.keys()
    for datatype, array in BINARY_ARRAYS.items():
        got = parsed.inputs[datatype]
        assert (got.dtype, got.shape) == (DTYPES[datatype], array.shape)
        assert to_wire(got, datatype) == to_wire(array, datatype)
    assert (parsed.outputs, parsed.wants_binary("FP32"), parsed.wants_binary("BOOL")) == (("FP32", "BOOL"), True, False)


def test_a_binary_answer_is_written_as_it_always_was():
    """To the byte, header lines included; BOOL was wanted as JSON."""
    text, data = (WIRE / "binary_response.json").read_bytes().rstrip(), hex_lines("binary.hex")["response"]
    outputs = [
        Tensor(datatype, datatype, list(array.shape), to_wire(array, datatype))
        for datatype, array in BINARY_ARRAYS.items()
    ]
    asked = ParsedInfer("42", {}, (), InferParameters(), {"BOOL": False}, all_binary=True)
    encoded = OipCodec().encode("everything", "1", asked, outputs)
    assert encoded.lines == (
        b"content-type: application/octet-stream\r\ninference-header-content-length: %d\r\n" % len(text)
    )
    assert (encoded.body, b"".join(encoded.more)) == (text, data)


def test_an_error_is_written_as_it_always_was():
    """To the byte."""
    body = problem_body("model_not_found", "Request for unknown model: 'nope'", "r-1")
    assert body == (WIRE / "error.json").read_bytes().rstrip()


@pytest.mark.parametrize("name", MESSAGES)
def test_frames_are_written_and_read_as_they_always_were(name):
    """Both ways, to the byte."""
    golden = hex_lines("frames.hex")[name]
    assert frame(MESSAGES[name]) == [golden]
    (got,) = FrameReader(1 << 20, 1).feed(golden)
    assert frame(got) == [golden]


def test_a_replica_that_names_no_variant_is_understood():
    """As one of the version before does: fields are only ever added at the end."""
    (got,) = FrameReader(1 << 20, 1).feed(hex_lines("frames.hex")["welcome_without_variant"])
    assert [(grant.model, grant.variant) for grant in got.grants] == [("mlp", "")]


@pytest.mark.parametrize("name", ["submit", "answers"])
def test_frames_of_the_version_before_still_read(name):
    """What has been appended since has its default: routers and replicas need not be replaced in the same moment."""
    (old,) = FrameReader(1 << 20, 1).feed(hex_lines("frames.hex")[f"{name}_before"])
    (new,) = FrameReader(1 << 20, 1).feed(hex_lines("frames.hex")[name])
    if name == "submit":
        assert msgspec.structs.replace(new.items[0], hops=0) == old.items[0]
    else:
        assert old.answers == new.answers
        assert old.load == Load({"mlp": 5}, False, 0)


def test_fragments_are_written_as_they_always_were():
    """Both fragments of a message that just does not fit one frame, and how it is given up between them."""
    golden = hex_lines("frames.hex")
    data = memoryview(bytes(FRAGMENT_BYTES))
    message = Submit([Item(1, "m", "1", 1, 0, "t", "p", "r", 1, [], [Tensor("x", "UINT8", [1], data)])])
    sent = Fragments(message, 1 << 20, message_id=258)
    first, given_up, last = b"".join(sent.next()), sent.abandon(), b"".join(sent.next())
    assert first[: len(golden["first_fragment_head"])] == golden["first_fragment_head"]
    assert last == golden["last_fragment"]
    assert given_up == golden["abandoned"]


def test_the_handshake_speaks_as_it_always_did():
    """Nonces are fixed here and random in use."""
    golden = hex_lines("handshake.hex")
    client = ClientHandshake(golden["key"], golden["nonce_c"])
    server = ServerHandshake(golden["key"], golden["nonce_s"])
    assert client.start() == golden["hello"]
    assert server.receive(golden["hello"]) == (golden["challenge"], False, b"")
    assert client.receive(golden["challenge"]) == (golden["proof"], True, b"")
    assert server.receive(golden["proof"]) == (b"", True, b"")
