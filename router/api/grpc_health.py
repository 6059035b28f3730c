"""gRPC's health service, for probes and for clients that choose among servers by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from router.protocol.proto import health_pb2 as pb

HEALTH = "grpc.health.v1.Health"
WATCH_S = 0.5
"""How soon who watches learns of a change."""


def health_handlers(
    ready: Callable[[], bool], leaving: Callable[[], bool], service: str
) -> dict[str, grpc.RpcMethodHandler]:
    """Handlers of Check and Watch. `service` and the server as a whole serve while `ready`."""

    def status(asked: str) -> pb.HealthCheckResponse.ServingStatus:
        if asked not in ("", service):
            return pb.HealthCheckResponse.SERVICE_UNKNOWN
        return pb.HealthCheckResponse.SERVING if ready() else pb.HealthCheckResponse.NOT_SERVING

    async def check(request: pb.HealthCheckRequest, context: Any) -> pb.HealthCheckResponse:
        now = status(request.service)
        if now == pb.HealthCheckResponse.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service here")
        return pb.HealthCheckResponse(status=now)

    async def watch(request: pb.HealthCheckRequest, context: Any) -> AsyncIterator[pb.HealthCheckResponse]:
        told = None
        while True:
            last = leaving()
            if (now := status(request.service)) != told:
                told = now
                yield pb.HealthCheckResponse(status=now)
            if last:
                return
            await asyncio.sleep(WATCH_S)

    read, write = pb.HealthCheckRequest.FromString, pb.HealthCheckResponse.SerializeToString
    return {
        "Check": grpc.unary_unary_rpc_method_handler(check, read, write),
        "Watch": grpc.unary_stream_rpc_method_handler(watch, read, write),
    }
