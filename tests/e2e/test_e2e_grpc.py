"""gRPC against the real fleet: the same answers, statuses and records as over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import numpy as np
import pytest
from fleet import Fleet
from payloads import MLP_INFER, SENTENCES, expected, mlp, output, reference_body

from models.tensors import to_wire
from router.protocol.proto import open_inference_pb2 as pb

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("nothing_lost")]


@pytest.fixture(scope="module")
def channel(fleet: Fleet) -> Iterator[grpc.Channel]:
    """A plain channel to the fleet."""
    with grpc.insecure_channel(fleet.grpc_address) as opened:
        yield opened


def call(channel: grpc.Channel, name: str, message, answer, metadata=()):
    """One call by name: (answer, trailing metadata)."""
    method = channel.unary_unary(
        f"/inference.GRPCInferenceService/{name}", type(message).SerializeToString, answer.FromString
    )
    said, done = method.with_call(message, timeout=20, metadata=metadata)
    return said, dict(done.trailing_metadata())


def infer(channel: grpc.Channel, message: pb.ModelInferRequest, fleet: Fleet, tenant: str = "demo"):
    """One inference as this tenant."""
    return call(channel, "ModelInfer", message, pb.ModelInferResponse, tuple(fleet.headers(tenant).items()))


def request(model: str, name: str, datatype: str, array: np.ndarray) -> pb.ModelInferRequest:
    """One raw input."""
    tensor = pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=array.shape)
    raw = bytes(to_wire(array, datatype))
    return pb.ModelInferRequest(model_name=model, id="7", inputs=[tensor], raw_input_contents=[raw])


def array(answer: pb.ModelInferResponse) -> np.ndarray:
    """Its only output."""
    (tensor,), (raw,) = answer.outputs, answer.raw_output_contents
    return np.frombuffer(raw, "<f4").reshape(tensor.shape)


def rows(number: int = 1, seed: int = 0) -> np.ndarray:
    """Input of the MLP."""
    return np.array(mlp(number, seed)["inputs"][0]["data"], "<f4").reshape(number, 256)


def test_sentences_get_their_true_vectors(channel: grpc.Channel, fleet: Fleet):
    """The model's stored reference, raw and as typed contents."""
    texts = np.array([sentence.encode() for sentence in SENTENCES], object)
    answer, said = infer(channel, request("minilm", "text", "BYTES", texts), fleet)
    assert (answer.model_name, answer.id) == ("minilm", "7")
    np.testing.assert_allclose(array(answer), expected("minilm"), atol=1e-4)
    assert said["x-pointsman-pool"]
    typed = pb.ModelInferRequest(model_name="minilm")
    tensor = typed.inputs.add(name="text", datatype="BYTES", shape=[len(SENTENCES)])
    tensor.contents.bytes_contents.extend(texts)
    contents = infer(channel, typed, fleet)[0].outputs[0].contents.fp32_contents
    np.testing.assert_allclose(np.array(contents).reshape(-1, 384), expected("minilm"), atol=1e-4)


def test_http_and_grpc_say_the_same(channel: grpc.Channel, client: httpx.Client, fleet: Fleet, pools: list[str]):
    """On each pool, under load of both: float by float."""
    for pool in pools:
        tenant = f"only-{pool}"

        def both(seed: int, tenant: str = tenant, pool: str = pool) -> None:
            reply = client.post(MLP_INFER, json=mlp(2, seed), headers=fleet.headers(tenant))
            answer, said = infer(channel, request("mlp", "x", "FP32", rows(2, seed)), fleet, tenant)
            assert said["x-pointsman-pool"] == pool
            np.testing.assert_allclose(array(answer), output(reply.json()), atol=1e-5)

        if client.post(MLP_INFER, json=mlp(), headers=fleet.headers(tenant)).status_code == 200:
            with ThreadPoolExecutor(8) as threads:
                list(threads.map(both, range(32)))


def test_a_stream_of_requests(channel: grpc.Channel, fleet: Fleet):
    """In order, each with its id."""
    inputs = [rows(1, seed) for seed in range(50)]
    asked = []
    for number, x in enumerate(inputs):
        message = request("mlp", "x", "FP32", x)
        message.id = str(number)
        asked.append(message)
    stream = channel.stream_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer",
        pb.ModelInferRequest.SerializeToString,
        pb.ModelStreamInferResponse.FromString,
    )
    answers = list(stream(iter(asked), timeout=20, metadata=tuple(fleet.headers("demo").items())))
    assert [answer.infer_response.id for answer in answers] == [message.id for message in asked]
    assert not any(answer.error_message for answer in answers)
    together, _ = infer(channel, request("mlp", "x", "FP32", np.concatenate(inputs[:8])), fleet)
    alone = np.concatenate([array(answer.infer_response) for answer in answers[:8]])
    np.testing.assert_allclose(alone, array(together), atol=1e-4)


def test_who_may_not_is_told_so(channel: grpc.Channel, fleet: Fleet):
    """By status, with the words HTTP has."""
    good = request("mlp", "x", "FP32", rows())
    for message, headers, code in (
        (good, {}, grpc.StatusCode.UNAUTHENTICATED),
        (good, fleet.headers("ascend-only", x_pointsman_priority="batch"), grpc.StatusCode.PERMISSION_DENIED),
        (good, fleet.headers("nobody"), grpc.StatusCode.NOT_FOUND),
        (request("other", "x", "FP32", rows()), fleet.headers("demo"), grpc.StatusCode.NOT_FOUND),
        (request("mlp", "x", "FP32", rows()[:, :3]), fleet.headers("demo"), grpc.StatusCode.INVALID_ARGUMENT),
        (good, fleet.headers("demo", x_pointsman_timeout="1us"), grpc.StatusCode.DEADLINE_EXCEEDED),
    ):
        with pytest.raises(grpc.RpcError) as raised:
            call(channel, "ModelInfer", message, pb.ModelInferResponse, tuple(headers.items()))
        assert raised.value.code() is code, raised.value.details()
        assert raised.value.details()


def test_models_that_a_tenant_may_not_use_are_not_listed(channel: grpc.Channel, fleet: Fleet):
    """Neither in the index nor in the statistics, which count for those who may."""
    for tenant, known in (("demo", {"minilm", "mlp"}), ("nobody", set())):
        metadata = tuple(fleet.headers(tenant).items())
        index, _ = call(channel, "RepositoryIndex", pb.RepositoryIndexRequest(), pb.RepositoryIndexResponse, metadata)
        assert {model.name for model in index.models} == known
        asked = pb.ModelStatisticsRequest()
        statistics, _ = call(channel, "ModelStatistics", asked, pb.ModelStatisticsResponse, metadata)
        assert {model.name for model in statistics.model_stats} == known
    fleet.flushed()
    asked = pb.ModelStatisticsRequest(name="mlp")
    mine = tuple(fleet.headers("demo").items())
    statistics, _ = call(channel, "ModelStatistics", asked, pb.ModelStatisticsResponse, mine)
    (mlp,) = statistics.model_stats
    assert mlp.inference_count > 0
    assert mlp.inference_stats.success.count > 0


def test_what_the_fleet_says_of_itself(channel: grpc.Channel, fleet: Fleet):
    """Ready, and which models."""
    key = tuple(fleet.headers("demo").items())
    assert call(channel, "ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse)[0].ready
    assert call(channel, "ModelReady", pb.ModelReadyRequest(name="mlp"), pb.ModelReadyResponse, key)[0].ready
    index, _ = call(channel, "RepositoryIndex", pb.RepositoryIndexRequest(ready=True), pb.RepositoryIndexResponse, key)
    assert {model.name for model in index.models} >= {"mlp", "minilm"}
    assert fleet.grpc_address in fleet.stdout()


def test_requests_of_both_kinds_are_counted_alike(channel: grpc.Channel, fleet: Fleet):
    """One more answered request."""
    fleet.flushed()
    before = fleet.metric("pointsman_requests_total", outcome="answered", model="mlp")
    infer(channel, request("mlp", "x", "FP32", rows()), fleet)
    fleet.flushed()
    assert fleet.metric("pointsman_requests_total", outcome="answered", model="mlp") == before + 1


def test_reference_of_the_mlp(channel: grpc.Channel, fleet: Fleet):
    """The stored reference, as sent over HTTP."""
    given = reference_body("mlp")["inputs"][0]
    x = np.array(given["data"], "<f4").reshape(given["shape"])
    np.testing.assert_allclose(
        array(infer(channel, request("mlp", "x", "FP32", x), fleet)[0]), expected("mlp"), atol=1e-4
    )
