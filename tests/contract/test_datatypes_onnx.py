"""Every datatype of the protocol through the real runtime: request, stream form, batch, ONNX graph, answer."""

import hashlib
import json
import threading

import numpy as np
import pytest
from onnx import TensorProto, helper

from deployments.backends.base import BackendError, InputError
from deployments.backends.onnx import OnnxBackend
from deployments.lane import Lane
from deployments.pool import _warm_up
from models.spec import BatchRule, ModelSpec, TensorSpec, Variant
from models.tensors import DTYPES, to_wire
from router.protocol.codec import BINARY_ONLY, ParseLimits
from router.protocol.framing import FrameReader, frame
from router.protocol.link import Answer, Answers, Item, Load, Submit, Tensor
from router.protocol.oip import OipCodec

ONNX = {
    "BOOL": TensorProto.BOOL, "UINT8": TensorProto.UINT8, "UINT16": TensorProto.UINT16, "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64, "INT8": TensorProto.INT8, "INT16": TensorProto.INT16, "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64, "FP16": TensorProto.FLOAT16, "FP32": TensorProto.FLOAT, "FP64": TensorProto.DOUBLE,
    "BF16": TensorProto.BFLOAT16, "BYTES": TensorProto.STRING,
}  # fmt: skip
LIMITS = ParseLimits(1000, 1 << 20)


def model(folder, datatypes, nodes=None, outputs=None) -> ModelSpec:
    """A graph with one input a datatype, of that name; by default output y_NAME gives it back. Ragged in `n`."""
    nodes = nodes or [helper.make_node("Identity", [name], [f"y_{name}"]) for name in datatypes]
    outputs = outputs or {f"y_{name}": name for name in datatypes}
    sides = {name: name for name in datatypes}, outputs
    values = [
        [helper.make_tensor_value_info(name, ONNX[datatype], ["batch", "n"]) for name, datatype in side.items()]
        for side in sides
    ]
    graph = helper.make_graph(nodes, "g", *values)
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    (folder / "model.onnx").write_bytes(data)
    variant = Variant("f32", "model.onnx", hashlib.sha256(data).hexdigest())
    specs = [tuple(TensorSpec(name, datatype, ("batch", "n")) for name, datatype in side.items()) for side in sides]
    return ModelSpec("any", "1", *specs, BatchRule(8), (variant,), folder=str(folder))


def sample(datatype: str, shape=(2, 3), seed=0) -> np.ndarray:
    """Any bits of a numeric type; text that needs more than ASCII, with NUL and empty, for BYTES."""
    rng, dtype, count = np.random.default_rng(seed), DTYPES[datatype], int(np.prod(shape))
    if datatype == "BYTES":
        flat = np.empty(count, object)
        flat[:] = [["h\xe9\0".encode(), b"", b"\0", b"plain"][index] for index in rng.integers(0, 4, count)]
    elif datatype == "BOOL":
        flat = rng.integers(0, 2, count).astype(bool)
    else:
        flat = np.frombuffer(rng.bytes(count * dtype.itemsize), dtype)
    return flat.reshape(shape)


@pytest.fixture
def lane():
    """Makes the lane of a model on the real runtime, and ends it."""
    lanes = []

    def make(spec):
        lanes.append(Lane(spec, OnnxBackend(spec, {}), None))
        return lanes[-1]

    yield make
    for each in lanes:
        each.close()


def run(lane, items):
    """One batch, there and back through frames, as between router and replica."""
    (submit,) = FrameReader(1 << 24, 4).feed(b"".join(frame(Submit(items))))
    done, results = threading.Event(), []
    lane.submit(submit.items, lambda batch: (results.extend(batch.results), done.set()))
    assert done.wait(30)
    answers = [Answer(0, r.reason, r.detail, True, 0, 0, 0, 0, r.tensors, "1") for r in results]
    (message,) = FrameReader(1 << 24, 4).feed(b"".join(frame(Answers(0, answers, Load({}, False, 0)))))
    return message.answers


def item(spec, arrays, outputs=()):
    """A request as it travels to the replica."""
    tensors = [Tensor(name, name, list(array.shape), to_wire(array, name)) for name, array in arrays.items()]
    return Item(0, spec.name, "", 10**6, 0, "t", "p", "r", tensors[0].shape[0], list(outputs), tensors)


def body(arrays, *, text=()):
    """(codec, body) of an HTTP request; tensors named in `text` go as JSON."""
    entries, data = [], b""
    for name, array in arrays.items():
        entry = {"name": name, "datatype": name, "shape": list(array.shape)}
        if name in text:
            entry["data"] = [e.decode() if name == "BYTES" else e.item() for e in array.ravel()]
        else:
            entry["parameters"] = {"binary_data_size": to_wire(array, name).nbytes}
            data += to_wire(array, name)
        entries.append(entry)
    head = json.dumps({"inputs": entries, "parameters": {"binary_data_output": True}}).encode()
    return OipCodec(len(head)), head + data


@pytest.mark.parametrize("datatype", ONNX)
def test_each_datatype_goes_through_unchanged_from_http_to_http(datatype, lane, tmp_path):
    """Alone in its model; three requests in one batch, padded to the longest, as binary data and bit for bit."""
    spec = model(tmp_path, [datatype])
    replica = lane(spec)
    given = [{datatype: sample(datatype, shape, seed)} for seed, shape in enumerate([(2, 3), (1, 1), (3, 7)])]
    parsed = []
    for arrays in given:
        codec, content = body(arrays)
        parsed.append(codec.parse(content, LIMITS))
    answers = run(replica, [item(spec, each.inputs) for each in parsed])
    for arrays, each, answer in zip(given, parsed, answers, strict=True):
        assert answer.reason == "", answer.detail
        encoded = OipCodec().encode(spec.name, "1", each, answer.tensors)
        (output,) = json.loads(encoded.body)["outputs"]
        assert (output["name"], output["datatype"]) == (f"y_{datatype}", datatype)
        assert output["shape"] == list(arrays[datatype].shape)
        assert b"".join(encoded.more) == to_wire(arrays[datatype], datatype)


def test_datatypes_go_through_together(lane, tmp_path):
    """All but BYTES, which ONNX Runtime's API does not let stand beside BF16 outputs; in the order asked for."""
    names = [name for name in ONNX if name != "BYTES"]
    spec = model(tmp_path, names)
    arrays = {name: sample(name) for name in names}
    wanted = [f"y_{name}" for name in reversed(names)]
    (answer,) = run(lane(spec), [item(spec, arrays, wanted)])
    assert [tensor.name for tensor in answer.tensors] == wanted
    for tensor in answer.tensors:
        assert tensor.data == to_wire(arrays[tensor.datatype], tensor.datatype)


def test_a_tensor_of_many_fragments_goes_through_unchanged(lane, tmp_path):
    """1.6 MB in, as much out."""
    spec = model(tmp_path, ["BF16"])
    array = sample("BF16", (8, 100_000))
    codec, content = body({"BF16": array})
    parsed = codec.parse(content, LIMITS)
    (answer,) = run(lane(spec), [item(spec, parsed.inputs)])
    (part,) = OipCodec().encode(spec.name, "1", parsed, answer.tensors).more
    assert part == to_wire(array, "BF16")


@pytest.mark.parametrize("datatype", sorted(ONNX.keys() - BINARY_ONLY))
def test_json_and_binary_requests_get_the_same_answer(datatype, lane, tmp_path):
    """From a real graph, to the bit."""
    spec = model(tmp_path, [datatype])
    array = sample(datatype)
    if array.dtype.kind == "f":
        array = np.where(np.isfinite(array), array, array.dtype.type(0.5))
    asked = []
    for text in ((), (datatype,)):
        codec, content = body({datatype: array}, text=text)
        asked.append(codec.parse(content, LIMITS))
    first, second = run(lane(spec), [item(spec, each.inputs) for each in asked])
    assert first.reason == second.reason == ""
    assert first.tensors[0].data == second.tensors[0].data


def test_bf16_is_computed_as_bf16(tmp_path):
    """What the graph sees are its numbers: widened to FP32 and back they are the same, and arrays with gaps too."""
    nodes = [
        helper.make_node("Cast", ["BF16"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["FP32"], ["narrow"], to=TensorProto.BFLOAT16),
    ]
    spec = model(tmp_path, ["BF16", "FP32"], nodes, {"wide": "FP32", "narrow": "BF16"})
    backend = OnnxBackend(spec, {})
    values = np.array([[1.0, -2.5, 3e38], [0.0, 1e-40, -0.0]], np.float32)
    bf16 = np.repeat(values, 2, axis=1).astype(DTYPES["BF16"])[:, ::2]
    assert not bf16.flags.c_contiguous
    for outputs in ((), ("wide",), ("narrow",)):
        answer = backend.run({"BF16": bf16, "FP32": values}, outputs)
        assert tuple(answer) == (outputs or ("wide", "narrow"))
        if "wide" in answer:
            assert answer["wide"].tobytes() == bf16.astype(np.float32).tobytes()
        if "narrow" in answer:
            assert answer["narrow"].dtype == DTYPES["BF16"]
            assert answer["narrow"].tobytes() == values.astype(DTYPES["BF16"]).tobytes()


def test_an_array_that_only_has_the_size_of_bf16_is_refused(tmp_path):
    """ONNX Runtime would read any two bytes as such a number."""
    backend = OnnxBackend(model(tmp_path, ["BF16"]), {})
    with pytest.raises(BackendError, match="BF16: BF16 expected, got uint16"):
        backend.run({"BF16": np.ones((1, 1), np.uint16)}, ())


def test_bytes_that_are_no_text_are_the_clients_fault_and_cost_no_neighbour_its_answer(lane, tmp_path):
    """A string of an ONNX model is UTF-8; what is not would be something else there."""
    spec = model(tmp_path, ["BYTES"])
    good, bad = sample("BYTES"), np.array([[b"\xff"]], object)
    with pytest.raises(InputError, match="BYTES: elements that are not UTF-8"):
        OnnxBackend(spec, {}).run({"BYTES": bad}, ())
    answers = run(lane(spec), [item(spec, {"BYTES": array}) for array in (good, bad, good)])
    assert [answer.reason for answer in answers] == ["", "malformed", ""]
    assert answers[2].tensors[0].data == to_wire(good, "BYTES")


def test_a_model_that_the_runtime_cannot_fetch_from_does_not_start(tmp_path):
    """BF16 outputs and BYTES have no way in common."""
    with pytest.raises(BackendError, match=r"any: .* no BF16 output of a model with BYTES"):
        OnnxBackend(model(tmp_path, ["BF16", "BYTES"]), {})


@pytest.mark.parametrize("datatype", ONNX)
def test_every_datatype_can_be_warmed_up(datatype, tmp_path):
    """A replica runs each of its batch sizes before it is ready."""
    spec = model(tmp_path, [datatype])
    assert [rows for rows, _ in _warm_up(spec, OnnxBackend(spec, {}))] == [1, 2, 4, 8]
