"""tritonclient against a server: `triton.py http|http.aio|grpc|grpc.aio FACTS`. Its four clients share these checks."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from harness import Server, awaited, main
from samples import BINARY_ONLY, as_bytes, same_bits, sample
from triton_client import AIO, AS_JSON, GRPC, Client, api, document, echoed, refusal, tensor, wanted
from tritonclient.utils import InferenceServerException

LARGE_ELEMENTS = 16 * 2**20
"""Of FP32: 64 MiB."""


async def check_server_is_live_and_ready(server: Server) -> None:
    async with Client(server) as client:
        assert await awaited(client.is_server_live()) is True
        assert await awaited(client.is_server_ready()) is True


async def check_server_metadata(server: Server) -> None:
    async with Client(server) as client:
        about = document(await awaited(client.get_server_metadata(headers=server.headers, **AS_JSON)))
        assert about["name"]
        assert about["version"]
        assert "binary_tensor_data" in about["extensions"], about


async def check_model_ready(server: Server) -> None:
    async with Client(server) as client:
        assert await awaited(client.is_model_ready("echo_fp32", headers=server.headers)) is True
        assert await awaited(client.is_model_ready("echo_fp32", "1", headers=server.headers)) is True


async def check_unknown_model_is_not_ready(server: Server) -> None:
    async with Client(server) as client:
        try:
            ready = await awaited(client.is_model_ready("nosuch", headers=server.headers))
        except InferenceServerException as error:
            ready = not (GRPC and "nosuch" in error.message())
        assert ready is False


async def check_model_metadata(server: Server) -> None:
    async with Client(server) as client:
        about = document(await awaited(client.get_model_metadata("echo_pair", headers=server.headers, **AS_JSON)))
        assert about["name"] == "echo_pair"
        assert about["versions"] == ["1"]
        seen = {one["name"]: (one["datatype"], list(map(int, one["shape"]))) for one in about["inputs"]}
        assert seen == {"a": ("FP32", [-1, -1]), "b": ("INT64", [-1, -1])}
        assert [one["name"] for one in about["outputs"]] == ["c", "d"]


async def check_model_config(server: Server) -> None:
    async with Client(server) as client:
        about = document(await awaited(client.get_model_config("echo_pair", headers=server.headers, **AS_JSON)))
        about = about.get("config", about)
        assert about["name"] == "echo_pair"
        assert {one["name"]: one["data_type"] for one in about["input"]} == {"a": "TYPE_FP32", "b": "TYPE_INT64"}
        assert [one["name"] for one in about["output"]] == ["c", "d"]


async def check_statistics_count_what_was_inferred(server: Server) -> None:
    async with Client(server) as client:

        async def count() -> int:
            answer = await awaited(client.get_inference_statistics("echo_int8", headers=server.headers, **AS_JSON))
            (about,) = answer["model_stats"]
            assert (about["name"], about["version"]) == ("echo_int8", "1")
            # protobuf's JSON leaves out what is 0
            return int(about.get("inference_stats", {}).get("success", {}).get("count", 0))

        before = await count()
        for _ in range(3):
            await echoed(server, "INT8", np.ones((1, 4), np.int8), True, True)
        for _ in range(100):
            if await count() == before + 3:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{before} inferences before, three made, {await count()} after")


async def check_repository_index(server: Server) -> None:
    async with Client(server) as client:
        answer = await awaited(client.get_model_repository_index(headers=server.headers, **AS_JSON))
        models = document(answer)["models"]
        states = {one["name"]: one["state"] for one in models}
        assert states["echo_fp32"] == states["echo_pair"] == "READY", models


async def check_every_datatype_binary(server: Server) -> None:
    for datatype in server.datatypes:
        array = sample(datatype, finite=False)
        assert same_bits(await echoed(server, datatype, array, True, True), array), datatype


async def check_every_datatype_json_bit_for_bit_as_binary(server: Server) -> None:
    for datatype in server.datatypes:
        array = sample(datatype)
        if datatype in BINARY_ONLY and not GRPC:
            continue
        ways = [await echoed(server, datatype, array, *way) for way in ((False, False), (False, True), (True, False))]
        for way in ways:
            plain = way if datatype != "BYTES" else as_bytes(way)
            assert same_bits(plain, array), (datatype, plain, array)


async def check_outputs_are_those_asked_for(server: Server) -> None:
    a, b = np.ones((2, 3), np.float32), np.arange(6).reshape(2, 3)
    inputs = [tensor("a", a, "FP32"), tensor("b", b, "INT64")]
    async with Client(server) as client:
        both = await awaited(client.infer("echo_pair", inputs, headers=server.headers))
        assert same_bits(both.as_numpy("c"), a)
        assert same_bits(both.as_numpy("d"), b)
        one = await awaited(client.infer("echo_pair", inputs, outputs=[wanted("d")], headers=server.headers))
        assert same_bits(one.as_numpy("d"), b)
        assert one.as_numpy("c") is None
        turned = [wanted("d", False), wanted("c")]
        mixed = await awaited(client.infer("echo_pair", inputs, outputs=turned, headers=server.headers))
        assert same_bits(mixed.as_numpy("c"), a)
        assert same_bits(mixed.as_numpy("d"), b)


async def check_json_and_binary_inputs_go_together(server: Server) -> None:
    a, b = np.full((1, 5), 0.1, np.float32), np.arange(5).reshape(1, 5)
    async with Client(server) as client:
        for way in ((True, False), (False, True)):
            inputs = [tensor("a", a, "FP32", way[0]), tensor("b", b, "INT64", way[1])]
            both = await awaited(client.infer("echo_pair", inputs, headers=server.headers))
            assert same_bits(both.as_numpy("c"), a)
            assert same_bits(both.as_numpy("d"), b)


async def check_the_id_comes_back(server: Server) -> None:
    async with Client(server) as client:
        given = [tensor("x", sample("FP32"), "FP32")]
        result = await awaited(client.infer("echo_fp32", given, "1", request_id="id-7", headers=server.headers))
        about = result.get_response() if not GRPC else result.get_response(as_json=True)
        assert about["id"] == "id-7"
        assert (about["model_name"], about["model_version"]) == ("echo_fp32", "1")


async def check_timeout_and_priority_are_taken(server: Server) -> None:
    async with Client(server) as client:
        given = [tensor("x", sample("FP32"), "FP32")]
        result = await awaited(client.infer("echo_fp32", given, priority=1, timeout=5_000_000, headers=server.headers))
        assert same_bits(result.as_numpy("y"), sample("FP32"))


async def check_a_microsecond_is_too_short(server: Server) -> None:
    async with Client(server) as client:
        given = [tensor("x", sample("FP32"), "FP32")]
        error = await refusal(lambda: client.infer("echo_fp32", given, timeout=1, headers=server.headers))
        assert error.status() == ("StatusCode.DEADLINE_EXCEEDED" if GRPC else "504"), error


async def check_compression_both_ways(server: Server) -> None:
    array = np.tile(np.arange(64, dtype=np.float32), (2, 64))
    async with Client(server) as client:
        for algorithm in ("gzip", "deflate"):
            if GRPC:
                ways = [{"compression_algorithm": algorithm}]
            else:
                names = ("request_compression_algorithm", "response_compression_algorithm")
                ways = [{names[0]: algorithm}, {names[1]: algorithm}, dict.fromkeys(names, algorithm)]
            for way in ways:
                for binary in (True, False):
                    given, asked = [tensor("x", array, "FP32", binary)], [wanted("y", binary)]
                    # tritonclient writes its own headers into the dictionary that it is given
                    result = await awaited(
                        client.infer("echo_fp32", given, outputs=asked, headers=dict(server.headers), **way)
                    )
                    assert same_bits(result.as_numpy("y"), array), way


async def check_many_at_once_come_back_to_their_askers(server: Server) -> None:
    arrays = [np.full((1, 8 + index % 3), index, np.float32) for index in range(64)]
    async with Client(server, **({} if GRPC or AIO else {"concurrency": 16})) as client:
        asked = [([tensor("x", array, "FP32")], array) for array in arrays]
        if AIO:
            calls = [client.infer("echo_fp32", given, headers=dict(server.headers)) for given, _ in asked]
            results = await asyncio.gather(*calls)
        elif GRPC:
            results = await _by_callbacks(client, [given for given, _ in asked], server)
        else:
            calls = [client.async_infer("echo_fp32", given, headers=dict(server.headers)) for given, _ in asked]
            results = [call.get_result() for call in calls]
        for result, array in zip(results, arrays, strict=True):
            assert same_bits(result.as_numpy("y"), array)


async def _by_callbacks(client: Any, requests: list[list[Any]], server: Server) -> list[Any]:
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in requests]

    def give(future: asyncio.Future[Any], result: Any, error: Any) -> None:
        loop.call_soon_threadsafe(future.set_exception, error) if error else loop.call_soon_threadsafe(
            future.set_result, result
        )

    for given, future in zip(requests, futures, strict=True):
        client.async_infer(
            "echo_fp32", given, lambda result, error, future=future: give(future, result, error),
            headers=server.headers,
        )  # fmt: skip
    return list(await asyncio.gather(*futures))


async def check_64_mib_there_and_back(server: Server) -> None:
    array = np.arange(LARGE_ELEMENTS, dtype=np.uint32).view(np.float32).reshape(1, -1)
    assert same_bits(await echoed(server, "FP32", array, True, True), array)


async def check_an_unknown_model_raises_with_its_name(server: Server) -> None:
    async with Client(server) as client:
        given = [tensor("x", sample("FP32"), "FP32")]
        error = await refusal(lambda: client.infer("nosuch", given, headers=server.headers))
        assert "nosuch" in error.message(), error
        assert error.status() == ("StatusCode.NOT_FOUND" if GRPC else "404"), error


async def check_an_unknown_output_raises_with_its_name(server: Server) -> None:
    async with Client(server) as client:
        given = [tensor("x", sample("FP32"), "FP32")]
        error = await refusal(
            lambda: client.infer("echo_fp32", given, outputs=[wanted("nosuch")], headers=server.headers)
        )
        assert "nosuch" in error.message(), error
        assert error.status() == ("StatusCode.INVALID_ARGUMENT" if GRPC else "422"), error


async def check_a_wrong_shape_raises_with_what_was_expected(server: Server) -> None:
    async with Client(server) as client:
        given = [tensor("x", np.ones((2, 3, 4), np.float32), "FP32")]
        error = await refusal(lambda: client.infer("echo_fp32", given, headers=server.headers))
        assert "2 axes expected, got 3" in error.message(), error
        assert error.status() == ("StatusCode.INVALID_ARGUMENT" if GRPC else "422"), error


async def check_a_wrong_datatype_raises_with_what_was_expected(server: Server) -> None:
    async with Client(server) as client:
        given = [tensor("x", np.ones((2, 3), np.int32), "INT32")]
        error = await refusal(lambda: client.infer("echo_fp32", given, headers=server.headers))
        assert "FP32" in error.message(), error
        assert error.status() == ("StatusCode.INVALID_ARGUMENT" if GRPC else "400"), error


async def check_bytes_that_no_string_holds_raise(server: Server) -> None:
    array = np.array([[b"\xff\xfe"]], np.object_)
    error = await refusal(lambda: echoed(server, "BYTES", array, True, True))
    assert "UTF-8" in error.message(), error
    assert error.status() == ("StatusCode.INVALID_ARGUMENT" if GRPC else "400"), error


async def check_a_wrong_key_raises(server: Server) -> None:
    async with Client(server) as client:
        given = [tensor("x", sample("FP32"), "FP32")]
        for headers in ({}, {"authorization": "Bearer nobody"}):
            error = await refusal(lambda headers=headers: client.infer("echo_fp32", given, headers=headers))
            assert error.status() == ("StatusCode.UNAUTHENTICATED" if GRPC else "401"), error
            assert error.message(), error


async def check_policy_raises(server: Server) -> None:
    async with Client(server) as client:
        given = [tensor("x", sample("FP32"), "FP32")]
        headers = {"authorization": f"Bearer {server.denied_key}"}
        error = await refusal(lambda: client.infer("echo_fp32", given, headers=headers))
        assert error.status() in ("StatusCode.PERMISSION_DENIED", "StatusCode.NOT_FOUND", "403", "404"), error


async def check_shared_memory_is_refused_in_words(server: Server) -> None:
    async with Client(server) as client:
        given = api.InferInput("x", [1, 4], "FP32")
        given.set_shared_memory("region", 16)
        error = await refusal(lambda: client.infer("echo_fp32", [given], headers=server.headers))
        assert "shared_memory" in error.message() or "shared memory" in error.message(), error


if __name__ == "__main__":
    main({name.removeprefix("check_"): value for name, value in globals().items() if name.startswith("check_")})
