"""The gRPC listener as a real client of gRPC's sees it: answers, statuses, deadlines, cancellation, streams."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_rig import KEY, SPEC, Client, Rig, infer, listening, numbers, refused, until

from router.api.grpc_health import HEALTH
from router.protocol.proto import health_pb2
from router.protocol.proto import open_inference_pb2 as pb

Code = grpc.StatusCode


@pytest.fixture
async def rig() -> Rig:
    """A handler over one pool."""
    return Rig()


@pytest.fixture
async def client(rig: Rig) -> AsyncIterator[Client]:
    """A client of it."""
    async with listening(rig) as opened:
        yield opened


async def test_an_answer_says_where_it_ran(rig, client):
    """The tensors come back, the trailing metadata has what HTTP has in headers, the request is recorded."""
    call = client("ModelInfer", infer(5), metadata=(*KEY, ("x-request-id", "mine")))
    answer = await call
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "1", "n5")
    assert numbers(answer) == [5, 2]
    said = dict(await call.trailing_metadata())
    assert said["x-request-id"] == "mine"
    assert said["x-pointsman-pool"] == "cpu"
    assert said["x-pointsman-accelerator"] == "x86-cpu"
    assert "run;dur=" in said["server-timing"]
    assert not said.keys() & {"content-type", "content-length"}
    (record,) = rig.records
    assert (record.outcome, record.request_id, record.tenant) == ("answered", "mine", "t")


@pytest.mark.parametrize("key", ["authorization", "x-api-key"])
async def test_either_header_proves_the_tenant(client, key):
    """As over HTTP."""
    await client("ModelInfer", infer(), metadata=((key, "Bearer key" if key == "authorization" else "key"),))


async def test_every_reason_has_its_status(rig, client):
    """The words are the ones HTTP has, the reason is in the metadata, and what helps is said."""
    async with refused(Code.UNAUTHENTICATED, "no valid API key") as said:
        await client("ModelInfer", infer(), metadata=())
    assert said["x-pointsman-reason"] == "unauthenticated"
    assert "www-authenticate" not in said
    async with refused(Code.NOT_FOUND, "Request for unknown model: 'other' is not found"):
        await client("ModelInfer", infer(model_name="other"))
    async with refused(Code.INVALID_ARGUMENT, "given twice"):
        await client("ModelInfer", infer(), metadata=KEY + KEY)
    async with refused(Code.INVALID_ARGUMENT, "x-pointsman-timeout"):
        await client("ModelInfer", infer(), metadata=(*KEY, ("x-pointsman-timeout", "soon")))
    async with refused(Code.INVALID_ARGUMENT, "unknown output 'z'"):
        await client("ModelInfer", infer(outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="z")]))
    rig.full = True
    async with refused(Code.RESOURCE_EXHAUSTED, "full") as said:
        await client("ModelInfer", infer())
    assert int(said["retry-after"]) >= 1
    assert int(said["grpc-retry-pushback-ms"]) >= 1
    rig.full, rig.permits = False, False
    async with refused(Code.PERMISSION_DENIED):
        await client("ModelInfer", infer())
    rig.permits, rig.reason = True, "backend_failed"
    async with refused(Code.INTERNAL, "in words"):
        await client("ModelInfer", infer())
    rig.fleet.replica_down("cpu", "r1")
    async with refused(Code.UNAVAILABLE) as said:
        await client("ModelInfer", infer())
    assert said["x-pointsman-reason"] == "no_ready_pool"
    assert all(record.outcome != "answered" for record in rig.records)
    assert rig.handler.open_exchanges == 0


async def test_bytes_that_are_no_message_are_refused(rig, client):
    """By inference and by documents."""
    for name in ("ModelInfer", "ModelMetadata"):
        call = client.channel.unary_unary(f"/inference.GRPCInferenceService/{name}")
        async with refused(Code.INVALID_ARGUMENT, "message"):
            await call(b"\x0a\xff\xff", metadata=KEY)


async def test_the_timeout_of_the_client_ends_the_request(rig, client):
    """gRPC's deadline, as the x-pointsman-timeout and the protocol's own: each is passed on, the lease given back."""
    rig.hold = True
    async with refused(Code.DEADLINE_EXCEEDED):
        await client("ModelInfer", infer(), timeout=0.1)
    await until(lambda: rig.records)
    assert rig.records[0].outcome in {"backend_timeout", "deadline_unmeetable"}
    async with refused(Code.DEADLINE_EXCEEDED) as said:
        await client("ModelInfer", infer(), metadata=(*KEY, ("x-pointsman-timeout", "50ms")), timeout=4)
    assert said["x-pointsman-reason"] == "backend_timeout"
    parameters = {"timeout": pb.InferParameter(int64_param=50_000)}
    async with refused(Code.DEADLINE_EXCEEDED):
        await client("ModelInfer", infer(parameters=parameters))
    assert all(ticket.cancelled for ticket in rig.held)
    assert rig.ledger.held("cpu").requests == 0


async def test_a_client_that_cancels_cancels_the_work(rig, client):
    """Down to the pool; recorded as such."""
    rig.hold = True
    call = client("ModelInfer", infer())
    await until(lambda: rig.held)
    call.cancel()
    await until(lambda: rig.held[0].cancelled)
    assert rig.records[0].outcome == "client_gone"
    assert rig.ledger.held("cpu").requests == 0


async def test_documents(rig, client):
    """Server and model, for whom they are."""
    assert (await client("ServerLive", metadata=())).live
    assert (await client("ServerReady", metadata=())).ready
    server = await client("ServerMetadata", metadata=())
    assert (server.name, server.version) == ("pointsman", "1.2.3")
    model = await client("ModelMetadata", pb.ModelMetadataRequest(name="m"))
    assert (model.name, list(model.versions), model.platform) == ("m", ["1"], SPEC.platform)
    assert [(t.name, t.datatype, list(t.shape)) for t in model.inputs] == [("x", "FP32", [-1, 2])]
    config = (await client("ModelConfig", pb.ModelConfigRequest(name="m"))).config
    assert (config.name, config.max_batch_size, list(config.input[0].dims)) == ("m", 8, [2])
    assert config.output[0].data_type == pb.TYPE_FP32
    assert config.HasField("dynamic_batching")
    for name in ("", "m"):
        (stats,) = (await client("ModelStatistics", pb.ModelStatisticsRequest(name=name))).model_stats
        assert (stats.name, stats.version) == ("m", "1")
    (index,) = (await client("RepositoryIndex")).models
    assert (index.name, index.version, index.state) == ("m", "1", "READY")
    rig.fleet.replica_down("cpu", "r1")
    assert not (await client("ServerReady", metadata=())).ready
    assert not (await client("ModelReady", pb.ModelReadyRequest(name="m"))).ready
    assert (await client("RepositoryIndex")).models[0].state == "UNAVAILABLE"
    assert not (await client("RepositoryIndex", pb.RepositoryIndexRequest(ready=True))).models
    for name in ("ModelMetadata", "ModelConfig", "ModelStatistics", "RepositoryIndex", "ModelReady"):
        async with refused(Code.UNAUTHENTICATED):
            await client(name, metadata=())
    async with refused(Code.NOT_FOUND, "unknown model"):
        await client("ModelMetadata", pb.ModelMetadataRequest(name="other"))


async def test_what_is_not_offered_says_why(client):
    """Triton's other calls."""
    for name in ("RepositoryModelLoad", "CudaSharedMemoryRegister", "TraceSetting"):
        async with refused(Code.UNIMPLEMENTED, "is not offered: "):
            await client.channel.unary_unary(f"/inference.GRPCInferenceService/{name}")(b"")


async def test_a_stream_answers_each_request_in_order(rig, client):
    """Also where a later one is done first; an error is an answer among others."""
    rig.hold = True
    stream = client.stream()
    for number in (1, 2, 3):
        await stream.write(infer(number))
    await until(lambda: len(rig.held) == 3)
    for ticket in reversed(rig.held):
        ticket.answer()
    await stream.write(infer(4, model_name="other"))
    await stream.done_writing()
    answers = [answer async for answer in stream]
    assert [answer.infer_response.id for answer in answers] == ["n1", "n2", "n3", "n4"]
    assert [numbers(answer.infer_response)[0] for answer in answers[:3]] == [1, 2, 3]
    assert "unknown model" in answers[3].error_message
    assert answers[3].infer_response.parameters["reason"].string_param == "model_not_found"
    assert await stream.code() is Code.OK
    assert len({record.request_id for record in rig.records}) == 4


async def test_a_stream_that_is_cancelled_cancels_all_of_its_work(rig, client):
    """Whatever was under way on it."""
    rig.hold = True
    stream = client.stream()
    for number in (1, 2, 3):
        await stream.write(infer(number))
    await until(lambda: len(rig.held) == 3)
    stream.cancel()
    await until(lambda: len(rig.records) == 3)
    assert {record.outcome for record in rig.records} == {"client_gone"}
    await until(lambda: rig.plane.held_bytes == 0)
    assert rig.ledger.held("cpu").requests == 0


async def test_a_stream_that_is_cancelled_while_idle_holds_nothing(rig, client):
    """What was answered on it is given back once."""
    stream = client.stream()
    await stream.write(infer(1))
    assert numbers((await stream.read()).infer_response) == [1, 2]
    await until(lambda: rig.plane.held_bytes == 0)
    stream.cancel()
    await until(lambda: not rig.listener.servicer.streams)
    assert rig.plane.held_bytes == 0


async def test_a_stranger_gets_no_stream(client):
    """The whole stream is refused."""
    stream = client.stream(metadata=())
    assert await stream.code() is Code.UNAUTHENTICATED


async def test_health(rig, client):
    """What a probe and a watching client are told."""
    ask = health_pb2.HealthCheckRequest.SerializeToString
    answer = health_pb2.HealthCheckResponse.FromString
    check = client.channel.unary_unary(f"/{HEALTH}/Check", ask, answer)
    watch = client.channel.unary_stream(f"/{HEALTH}/Watch", ask, answer)
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    for service in ("", "inference.GRPCInferenceService"):
        assert (await check(health_pb2.HealthCheckRequest(service=service))).status == serving
    async with refused(Code.NOT_FOUND):
        await check(health_pb2.HealthCheckRequest(service="other"))
    watched = watch(health_pb2.HealthCheckRequest())
    assert (await watched.read()).status == serving
    rig.fleet.replica_down("cpu", "r1")
    assert (await watched.read()).status == not_serving
    assert (await check(health_pb2.HealthCheckRequest())).status == not_serving
