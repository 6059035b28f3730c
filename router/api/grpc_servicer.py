"""The calls of inference.GRPCInferenceService: what came over gRPC to the handler, and its replies back.

Messages arrive as bytes and leave as bytes; router/protocol knows what they hold. Decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from router.api.grpc_stream import InferStream, abandon, settle
from router.api.grpc_wire import fail, headers_of, trailing
from router.api.heads import read_head, request_id
from router.api.plane import DataPlane
from router.core.errors import CapacityError, RequestError, RouterError
from router.protocol import metadata, metadata_grpc, oip_grpc
from router.protocol.proto import open_inference_pb2 as pb
from router.service.exchange import Exchange, OnEnd
from router.service.handler import NO_KEY
from router.service.head import Head
from router.service.reply import Reply, failed

log = logging.getLogger("pointsman.request")

SERVICE = "inference.GRPCInferenceService"
Context = Any
"""grpc.aio.ServicerContext; grpc brings no types."""
Document = Callable[[Any, Context], Message | Awaitable[Message]]
"""Answers one message of a kind with another."""

_NOT_OFFERED = {
    "RepositoryModelLoad": "the fleet file says which models are served",
    "RepositoryModelUnload": "the fleet file says which models are served",
    "SystemSharedMemoryStatus": "tensors travel in the message",
    "SystemSharedMemoryRegister": "tensors travel in the message",
    "SystemSharedMemoryUnregister": "tensors travel in the message",
    "CudaSharedMemoryStatus": "tensors travel in the message",
    "CudaSharedMemoryRegister": "tensors travel in the message",
    "CudaSharedMemoryUnregister": "tensors travel in the message",
    "TraceSetting": "every answer carries its timings",
    "LogSettings": "logs are the operator's",
}
"""Calls of Triton's that make no sense here, and why."""
_INTERNAL = "internal error; the router's log has the details"


class Servicer:
    """One method per call."""

    def __init__(self, plane: DataPlane) -> None:
        self.plane = plane
        self.streams: set[InferStream] = set()

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        """gRPC's handler of each method."""
        unary = grpc.unary_unary_rpc_method_handler
        documents: dict[str, tuple[type[Message], Document]] = {
            "ServerLive": (pb.ServerLiveRequest, self.server_live),
            "ServerReady": (pb.ServerReadyRequest, self.server_ready),
            "ModelReady": (pb.ModelReadyRequest, self.model_ready),
            "ServerMetadata": (pb.ServerMetadataRequest, self.server_metadata),
            "ModelMetadata": (pb.ModelMetadataRequest, self.model_metadata),
            "ModelConfig": (pb.ModelConfigRequest, self.model_config),
            "ModelStatistics": (pb.ModelStatisticsRequest, self.model_statistics),
            "RepositoryIndex": (pb.RepositoryIndexRequest, self.repository_index),
        }
        return {
            "ModelInfer": unary(self.model_infer),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self.model_stream_infer),
            **{name: unary(_bound(self._document, *each)) for name, each in documents.items()},
            **{name: unary(_bound(_not_offered, name, why)) for name, why in _NOT_OFFERED.items()},
        }

    async def model_infer(self, body: bytes, context: Context) -> bytes:
        """One request, one answer."""
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        headers, remaining_s = headers_of(context), context.time_remaining()
        exchange = None
        try:
            exchange, _ = self.begin(headers, body, remaining_s, partial(settle, answered))
            reply = await answered
        except asyncio.CancelledError:
            abandon(exchange, context)
            raise
        finally:
            self.end(body)
        if reply.error is not None:
            await fail(context, reply)
        context.set_trailing_metadata(trailing(reply))
        return b"".join((reply.body, *reply.more))

    async def model_stream_infer(self, _: object, context: Context) -> None:
        """Requests and answers on one stream; see InferStream."""
        try:
            self.proven(self._head(context))
        except RouterError as error:
            await self._refuse(context, error)
        stream = InferStream(self, context)
        self.streams.add(stream)
        try:
            await stream.run()
        finally:
            self.streams.discard(stream)
        if self.plane.leaving:
            await self._refuse(context, CapacityError("draining", "this server is leaving: open a new stream"))

    def begin(
        self, headers: list[tuple[bytes, bytes]], body: bytes, remaining_s: float | None, on_end: OnEnd
    ) -> tuple[Exchange | None, pb.ModelInferRequest | None]:
        """Start an exchange; `on_end` gets its reply, unless it is cancelled. None: it was refused before.

        Every one is to be followed by one `end`, even one that raises.
        """
        plane = self.plane
        plane.held_bytes += len(body)
        handler, ids = plane.handler, plane.request_ids
        head = Head("", "", request_id(headers, ids))
        message = None
        try:
            head = read_head(("", ""), headers, ids)
            self.proven(head)
            if plane.held_bytes > plane.max_held_bytes:
                raise plane.no_room()
            message = oip_grpc.decode(body)
            head.model, head.version = message.model_name, message.model_version
            head.codec = oip_grpc.MessageCodec(message, remaining_s)
            return handler.start(head, b"", on_end), message
        except RouterError as error:
            on_end(handler.refused(head, error))
        except Exception:
            log.exception("gRPC: internal error")
            on_end(handler.refused(head, RouterError("internal", _INTERNAL)))
        return None, message

    def end(self, body: bytes) -> None:
        """A request that was begun is answered or abandoned."""
        self.plane.held_bytes -= len(body)

    def proven(self, head: Head) -> None:
        """Raises RequestError where no tenant is: before anything is made of what a stranger sends."""
        if not self.plane.handler.knows(head):
            raise RequestError("unauthenticated", NO_KEY)

    def server_live(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        """The process answers."""
        return pb.ServerLiveResponse(live=True)

    def server_ready(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        """At least one pool has a ready replica."""
        return pb.ServerReadyResponse(ready=self.ready())

    def ready(self) -> bool:
        """Whether requests are worth sending here."""
        return not self.plane.leaving and self.plane.handler.any_pool_ready()

    def model_ready(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        """Whether a pool that this tenant may use has a ready replica with the model."""
        ready = self.plane.handler.model_ready(self._head(context, request.name, request.version))
        return pb.ModelReadyResponse(ready=ready)

    def server_metadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:
        """Name, version and extensions of the server."""
        known: Mapping[str, Any] = metadata.server_metadata(self.plane.version)
        return pb.ServerMetadataResponse(**known)

    def model_metadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        """Inputs and outputs of a model."""
        head = self._head(context, request.name, request.version)
        return metadata_grpc.model_metadata(*self.plane.handler.model(head))

    def model_config(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:
        """What clients read of a model's configuration."""
        spec, _ = self.plane.handler.model(self._head(context, request.name, request.version))
        return metadata_grpc.model_config(spec)

    async def model_statistics(
        self, request: pb.ModelStatisticsRequest, context: Context
    ) -> pb.ModelStatisticsResponse:
        """One model, one version of it, or all that this tenant may use."""
        head = self._head(context, request.name, request.version)
        return metadata_grpc.model_statistics(await self.plane.handler.statistics(head))

    def repository_index(self, request: pb.RepositoryIndexRequest, context: Context) -> pb.RepositoryIndexResponse:
        """Every model and version that this tenant may use, and whether it is ready."""
        return metadata_grpc.repository_index(self.plane.handler.index(self._head(context)), request.ready)

    def _head(self, context: Context, model: str = "", version: str = "") -> Head:
        """Raises RequestError."""
        return read_head((model, version), headers_of(context), self.plane.request_ids)

    async def _document(self, kind: type[Message], answer: Document, body: bytes, context: Context) -> bytes:
        try:
            said = answer(kind.FromString(body), context)
            message = await said if isinstance(said, Awaitable) else said
            written: bytes = message.SerializeToString()
            return written
        except DecodeError as error:
            await self._refuse(context, RequestError("malformed", f"the message cannot be read: {error}"))
        except RouterError as error:
            await self._refuse(context, error)
        except Exception:
            log.exception("gRPC: internal error")
            await self._refuse(context, RouterError("internal", _INTERNAL))
        raise AssertionError("refusing a call ends it")

    async def _refuse(self, context: Context, error: RouterError) -> None:
        await fail(context, failed(error, request_id(headers_of(context), self.plane.request_ids)))


def _bound(call: Callable[..., Any], *first: object) -> Callable[[bytes, Context], Any]:
    """`call` with its first arguments. gRPC asks whether a method is a coroutine function, which no partial is."""

    async def method(body: bytes, context: Context) -> bytes:
        answer: bytes = await call(*first, body, context)
        return answer

    return method


async def _not_offered(name: str, why: str, _: bytes, context: Context) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{name} is not offered: {why}")
