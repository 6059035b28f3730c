"""A client of tritonclient, of the kind that argv[1] names, and the words in which its four kinds differ."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
from harness import Server, awaited
from tritonclient.utils import InferenceServerException

KIND = sys.argv[1]
GRPC, AIO = KIND.startswith("grpc"), KIND.endswith("aio")
api: Any = importlib.import_module(f"tritonclient.{KIND}")


class Client:
    """A client that is closed at the end of its block, in the form that KIND has."""

    def __init__(self, server: Server, **options: Any) -> None:
        self._address, self._options = (server.grpc if GRPC else server.http), options

    async def __aenter__(self) -> Any:
        self._client = api.InferenceServerClient(self._address, **self._options)
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await awaited(self._client.close())


def tensor(name: str, array: np.ndarray, datatype: str, binary: bool = True) -> Any:
    """One input."""
    given = api.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array, **({} if GRPC else {"binary_data": binary}))
    return given


def wanted(name: str, binary: bool = True) -> Any:
    """One output to ask for."""
    return api.InferRequestedOutput(name, **({} if GRPC else {"binary_data": binary}))


async def echoed(server: Server, datatype: str, array: np.ndarray, binary_in: bool, binary_out: bool) -> np.ndarray:
    """The array as it comes back from the model of that datatype."""
    async with Client(server) as client:
        result = await awaited(
            client.infer(
                f"echo_{datatype.lower()}", [tensor("x", array, datatype, binary_in)],
                outputs=[wanted("y", binary_out)], headers=server.headers,
            )
        )  # fmt: skip
        return result.as_numpy("y")


async def refusal(call: Any) -> InferenceServerException:
    """The client's own exception for what the server refused."""
    try:
        await awaited(call() if callable(call) else call)
    except InferenceServerException as error:
        return error
    raise AssertionError("it was answered")


def document(answer: Any) -> dict[str, Any]:
    """A document of the server as a dictionary, as HTTP has it already and gRPC by as_json=True."""
    assert isinstance(answer, (dict, list)), answer
    return answer if isinstance(answer, dict) else {"models": answer}


AS_JSON = {"as_json": True} if GRPC else {}
