"""KServe's inference clients against a server: `kserve_client.py rest|grpc FACTS`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import httpx
import numpy as np
from harness import Server, main
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from samples import BINARY_ONLY, as_bytes, same_bits, sample

GRPC = sys.argv[1] == "grpc"
NOT_HERE = ("BF16",)
"""kserve knows no such datatype."""


@asynccontextmanager
async def client(server: Server) -> AsyncIterator[Any]:
    """The client, with the base URL bound where it wants one with each call."""
    if GRPC:
        async with InferenceGRPCClient(server.grpc, retries=0) as opened:
            yield opened
    else:
        async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as opened:
            yield opened


def request(model: str, binary: bool, outputs: list[str] | None = None, **inputs: np.ndarray) -> InferRequest:
    """An inference request whose datatypes follow from the arrays."""
    given = []
    for name, array in inputs.items():
        datatype = _DATATYPES[array.dtype]
        one = InferInput(name, list(array.shape), datatype)
        one.set_data_from_numpy(array, binary_data=binary)
        given.append(one)
    asked = [RequestedOutput(name) for name in outputs] if outputs else None
    parameters = None if GRPC else {"binary_data_output": binary}
    return InferRequest(model, given, request_id="id-7", request_outputs=asked, parameters=parameters)


_DATATYPES = {np.dtype(kind): f"{name}{np.dtype(kind).itemsize * 8}" for name, kinds in {
    "INT": (np.int8, np.int16, np.int32, np.int64),
    "UINT": (np.uint8, np.uint16, np.uint32, np.uint64),
    "FP": (np.float16, np.float32, np.float64),
}.items() for kind in kinds} | {np.dtype(bool): "BOOL", np.dtype(object): "BYTES"}  # fmt: skip


async def infer(opened: Any, server: Server, asked: InferRequest, headers: dict[str, str] | None = None) -> Any:
    """The answer to a request."""
    headers = server.headers if headers is None else headers
    if GRPC:
        return await opened.infer(asked, headers=tuple(headers.items()))
    return await opened.infer(f"http://{server.http}", asked, model_name=asked.model_name, headers=dict(headers))


async def check_server_is_live_and_ready(server: Server) -> None:
    where = [] if GRPC else [f"http://{server.http}"]
    async with client(server) as opened:
        assert await opened.is_server_live(*where) is True
        assert await opened.is_server_ready(*where) is True


async def check_model_ready(server: Server) -> None:
    where = [] if GRPC else [f"http://{server.http}"]
    headers: Any = tuple(server.headers.items()) if GRPC else server.headers
    async with client(server) as opened:
        assert await opened.is_model_ready(*where, "echo_fp32", headers=headers) is True


async def check_every_datatype_binary(server: Server) -> None:
    async with client(server) as opened:
        for datatype in [name for name in server.datatypes if name not in NOT_HERE]:
            array = sample(datatype, finite=False)
            answer = await infer(opened, server, request(f"echo_{datatype.lower()}", True, x=array))
            seen = answer.outputs[0].as_numpy()
            # kserve turns BYTES into text, even those that came as binary data
            seen = as_bytes(seen) if datatype == "BYTES" else seen
            assert same_bits(seen, array), (datatype, seen, array)


async def check_every_datatype_as_plain_data(server: Server) -> None:
    async with client(server) as opened:
        for datatype in [name for name in server.datatypes if name not in (*NOT_HERE, *BINARY_ONLY)]:
            array = sample(datatype)
            answer = await infer(opened, server, request(f"echo_{datatype.lower()}", False, x=array))
            seen = answer.outputs[0].as_numpy()
            seen = as_bytes(seen) if datatype == "BYTES" else seen
            assert same_bits(seen, array), (datatype, seen, array)


async def check_outputs_are_those_asked_for(server: Server) -> None:
    a, b = np.ones((2, 3), np.float32), np.arange(6).reshape(2, 3)
    async with client(server) as opened:
        answer = await infer(opened, server, request("echo_pair", True, ["d"], a=a, b=b))
        assert [one.name for one in answer.outputs] == ["d"]
        assert same_bits(answer.outputs[0].as_numpy(), b)
        assert answer.id == "id-7"
        assert answer.model_name == "echo_pair"


async def check_many_at_once_come_back_to_their_askers(server: Server) -> None:
    arrays = [np.full((1, 8 + index % 3), index, np.float32) for index in range(32)]
    async with client(server) as opened:
        answers = await asyncio.gather(
            *(infer(opened, server, request("echo_fp32", True, x=array)) for array in arrays)
        )
        for answer, array in zip(answers, arrays, strict=True):
            assert same_bits(answer.outputs[0].as_numpy(), array)


async def _refusal(server: Server, asked: InferRequest, headers: dict[str, str] | None = None) -> Any:
    async with client(server) as opened:
        try:
            await infer(opened, server, asked, headers)
        except (httpx.HTTPStatusError, grpc.RpcError) as error:
            return error
    raise AssertionError("it was answered")


def _told(error: Any) -> tuple[object, str]:
    return (error.code(), error.details()) if GRPC else (error.response.status_code, str(error))


async def check_an_unknown_model_raises_with_its_name(server: Server) -> None:
    status, words = _told(await _refusal(server, request("nosuch", True, x=sample("FP32"))))
    assert status == (grpc.StatusCode.NOT_FOUND if GRPC else 404)
    assert "nosuch" in words


async def check_a_wrong_shape_raises_with_what_was_expected(server: Server) -> None:
    status, words = _told(await _refusal(server, request("echo_fp32", True, x=np.ones((2, 3, 4), np.float32))))
    assert status == (grpc.StatusCode.INVALID_ARGUMENT if GRPC else 422)
    assert "2 axes expected, got 3" in words


async def check_a_wrong_key_raises(server: Server) -> None:
    asked = request("echo_fp32", True, x=sample("FP32"))
    status, words = _told(await _refusal(server, asked, {"authorization": "Bearer nobody"}))
    assert status == (grpc.StatusCode.UNAUTHENTICATED if GRPC else 401)
    assert words


if __name__ == "__main__":
    main({name.removeprefix("check_"): value for name, value in globals().items() if name.startswith("check_")})
