"""The calls of inference.GRPCInferenceService: what came over gRPC to the handler, and its replies back.

Messages arrive as bytes and leave as bytes; router/protocol knows what they hold. Decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from google.protobuf.message import Message

from router.api.grpc_call import DOCUMENT_BYTES, INTERNAL, KEYLESS_BYTES, Call, Document, Method
from router.api.grpc_health import HEALTH, Health
from router.api.grpc_stream import InferStream
from router.api.grpc_unary import DocumentCall, InferCall
from router.api.grpc_wire import HEAD, Asked, read_call, trailers
from router.api.h2_connection import H2Connection
from router.api.plane import RETRY_AFTER_S, DataPlane, log
from router.core.errors import CapacityError, RequestError, RouterError
from router.protocol import metadata, metadata_grpc, oip_grpc
from router.protocol.h2_fields import Block
from router.protocol.h2_frames import INTERNAL_ERROR
from router.protocol.h2_sending import Stream
from router.protocol.proto import open_inference_pb2 as pb
from router.service.exchange import Exchange, OnEnd
from router.service.handler import NO_KEY
from router.service.head import Head

SERVICE = "inference.GRPCInferenceService"
ENVELOPE_BYTES = 64 * 1024
"""What a message may have beside its tensors: names, shapes, parameters."""
CALLS_PER_CONNECTION = 1024
CALLS = 8192
"""Calls under way at once, streams included, until their answers have left."""
KEYLESS_CALLS = 512
"""Likewise of those that need no key: strangers must not use up the calls of those who have one."""
STREAMS = 1024
"""Streams among them: they may last, and must leave room."""

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


class Servicer:
    """One method per call."""

    def __init__(self, plane: DataPlane) -> None:
        """To be made on the event loop that serves."""
        self.plane = plane
        self.loop = asyncio.get_running_loop()
        self.calls = 0
        """Under way, on all connections, of those that need a key."""
        self.keyless = 0
        """And of those that do not."""
        self.streams: set[InferStream] = set()
        self.inflating = ThreadPoolExecutor(1, "inflate-grpc")
        self._methods = self._all_methods()

    def close(self) -> None:
        """The listener has left."""
        self.inflating.shutdown(wait=False, cancel_futures=True)

    def _all_methods(self) -> dict[bytes, Method]:
        health = Health(self.ready, lambda: self.plane.leaving, SERVICE)
        limit_bytes = self.plane.http.max_body_bytes + ENVELOPE_BYTES
        infer = {
            "ModelInfer": Method(InferCall, limit_bytes, needs_key=True, recorded=True),
            "ModelStreamInfer": Method(InferStream, limit_bytes, needs_key=True, recorded=True),
        }
        answers: dict[str, tuple[bool, type[Message], Document]] = {
            "ServerLive": (False, pb.ServerLiveRequest, self.server_live),
            "ServerReady": (False, pb.ServerReadyRequest, self.server_ready),
            "ModelReady": (True, pb.ModelReadyRequest, self.model_ready),
            "ServerMetadata": (False, pb.ServerMetadataRequest, self.server_metadata),
            "ModelMetadata": (True, pb.ModelMetadataRequest, self.model_metadata),
            "ModelConfig": (True, pb.ModelConfigRequest, self.model_config),
            "ModelStatistics": (True, pb.ModelStatisticsRequest, self.model_statistics),
            "RepositoryIndex": (True, pb.RepositoryIndexRequest, self.repository_index),
        }
        documents = {
            name: Method(
                DocumentCall, DOCUMENT_BYTES if needs_key else KEYLESS_BYTES, needs_key, kind=kind, answer=answer
            )
            for name, (needs_key, kind, answer) in answers.items()
        }
        others = {
            name: Method(DocumentCall, KEYLESS_BYTES, why=f"{name} is not offered: {why}")
            for name, why in _NOT_OFFERED.items()
        }
        served = {f"/{SERVICE}/{name}": method for name, method in (infer | documents | others).items()}
        served |= {f"/{HEALTH}/{name}": method for name, method in health.methods().items()}
        return {path.encode(): method for path, method in served.items()}

    def opened(self, connection: H2Connection, stream: Stream, block: Block) -> None:
        """A call has begun. Whether it may is known from its headers: nothing of its message is kept before."""
        asked: Asked | None = block.made
        try:
            if asked is None:
                asked = block.made = read_call(block, self._methods, self.plane.request_ids)
            if asked.method is None:
                connection.core.finish(stream, asked.answer)
                return
            call = asked.method.call(self, connection, stream, asked, asked.method)
        except Exception:
            self._broken(connection, stream)
            return
        stream.owner = call
        self.count(asked.method, 1)
        try:
            self._admit(asked, asked.method)
        except RouterError as error:
            call.refuse(error)
        except Exception:
            call.broken()

    def _broken(self, connection: H2Connection, stream: Stream) -> None:
        """A fault of ours, before there is a call that could end."""
        log.exception("gRPC: internal error")
        head, error = Head("", "", self.plane.request_ids.new()), RouterError("internal", INTERNAL)
        try:
            connection.core.finish(stream, HEAD + trailers(self.plane.handler.refused(head, error)))
        except Exception:
            log.exception("gRPC: internal error while refusing a call")
            connection.core.reset(stream, INTERNAL_ERROR)

    def count(self, method: Method, more: int) -> None:
        """A call of this method has begun (1), or nothing of it is left (-1)."""
        if method.needs_key:
            self.calls += more
        else:
            self.keyless += more

    def turned_away(self) -> None:
        """A call was one too many for its connection."""
        detail = f"the connection has {CALLS_PER_CONNECTION} calls under way already, or has reset too many"
        self.plane.handler.refused(Head("", "", self.plane.request_ids.new()), CapacityError("saturated", detail))

    def _admit(self, asked: Asked, method: Method) -> None:
        """Raises RouterError."""
        if asked.refusal is not None:
            raise RequestError(*asked.refusal)
        if method.needs_key and not self.plane.handler.knows(asked.head):
            raise RequestError("unauthenticated", NO_KEY)
        if not method.needs_key:
            if self.keyless > KEYLESS_CALLS:
                detail = f"the router has {KEYLESS_CALLS} calls without a key under way already"
                raise CapacityError("saturated", detail, retry_after_s=RETRY_AFTER_S)
        elif self.calls > CALLS:
            detail = f"the router has {CALLS} calls under way already"
            raise CapacityError("saturated", detail, retry_after_s=RETRY_AFTER_S)
        if len(self.streams) > STREAMS:
            raise CapacityError("saturated", f"there are {STREAMS} streams already", retry_after_s=RETRY_AFTER_S)

    def begin(
        self, asked: Asked, number: str, body: bytes, remaining_s: float | None, on_end: OnEnd
    ) -> tuple[Exchange | None, pb.ModelInferRequest | None]:
        """Start an exchange; `on_end` gets its reply, unless it is cancelled. None: it was refused before."""
        plane, handler = self.plane, self.plane.handler
        head, message = Head("", "", number, asked.head.credential), None
        try:
            if plane.held_bytes > plane.max_held_bytes:
                raise plane.no_room()
            message = oip_grpc.decode(body)
            head = asked.head_for(message.model_name, message.model_version, number)
            head.codec = oip_grpc.MessageCodec(message, remaining_s)
            exchange = handler.start(head, b"", on_end)
            asked.remember(head)
            return exchange, message
        except RouterError as error:
            on_end(handler.refused(head, error))
        except Exception:
            log.exception("gRPC: internal error")
            on_end(handler.refused(head, RouterError("internal", INTERNAL)))
        return None, message

    def server_live(self, request: pb.ServerLiveRequest, call: Call) -> pb.ServerLiveResponse:
        """The process answers."""
        return pb.ServerLiveResponse(live=True)

    def server_ready(self, request: pb.ServerReadyRequest, call: Call) -> pb.ServerReadyResponse:
        """At least one pool has a ready replica."""
        return pb.ServerReadyResponse(ready=self.ready())

    def ready(self) -> bool:
        """Whether requests are worth sending here."""
        return not self.plane.leaving and self.plane.handler.any_pool_ready()

    def model_ready(self, request: pb.ModelReadyRequest, call: Call) -> pb.ModelReadyResponse:
        """Whether a pool that this tenant may use has a ready replica with the model."""
        ready = self.plane.handler.model_ready(call.head(request.name, request.version))
        return pb.ModelReadyResponse(ready=ready)

    def server_metadata(self, request: pb.ServerMetadataRequest, call: Call) -> pb.ServerMetadataResponse:
        """Name, version and extensions of the server."""
        known: Mapping[str, Any] = metadata.server_metadata(self.plane.version)
        return pb.ServerMetadataResponse(**known)

    def model_metadata(self, request: pb.ModelMetadataRequest, call: Call) -> pb.ModelMetadataResponse:
        """Inputs and outputs of a model."""
        head = call.head(request.name, request.version)
        return metadata_grpc.model_metadata(*self.plane.handler.model(head))

    def model_config(self, request: pb.ModelConfigRequest, call: Call) -> pb.ModelConfigResponse:
        """What clients read of a model's configuration."""
        spec, _ = self.plane.handler.model(call.head(request.name, request.version))
        return metadata_grpc.model_config(spec)

    async def model_statistics(self, request: pb.ModelStatisticsRequest, call: Call) -> pb.ModelStatisticsResponse:
        """One model, one version of it, or all that this tenant may use."""
        head = call.head(request.name, request.version)
        return metadata_grpc.model_statistics(await self.plane.handler.statistics(head))

    def repository_index(self, request: pb.RepositoryIndexRequest, call: Call) -> pb.RepositoryIndexResponse:
        """Every model and version that this tenant may use, and whether it is ready."""
        return metadata_grpc.repository_index(self.plane.handler.index(call.head()), request.ready)
