"""gRPC's health service, for probes and for clients that choose among servers by it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import grpc

from router.protocol.proto import health_pb2 as pb

HEALTH = "grpc.health.v1.Health"
WATCH_S = 0.5
"""How soon who watches learns of a change."""
WATCHERS = 64
"""Watches at once: they need no key, and must not use up the calls of those who have one."""
WATCH_LIFE_S = 60.0
"""A watch ends after this, for the same reason; clients watch anew by themselves."""
FAREWELL_S = 1.0
"""What a client that reads nothing may delay the end of its watch."""


def health_handlers(
    ready: Callable[[], bool], leaving: Callable[[], bool], service: str
) -> dict[str, grpc.RpcMethodHandler]:
    """Handlers of Check and Watch. `service` and the server as a whole serve while `ready`."""
    watchers = 0

    def status(asked: str) -> pb.HealthCheckResponse.ServingStatus:
        if asked not in ("", service):
            return pb.HealthCheckResponse.SERVICE_UNKNOWN
        return pb.HealthCheckResponse.SERVING if ready() else pb.HealthCheckResponse.NOT_SERVING

    async def check(request: pb.HealthCheckRequest, context: Any) -> pb.HealthCheckResponse:
        now = status(request.service)
        if now == pb.HealthCheckResponse.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service here")
        return pb.HealthCheckResponse(status=now)

    async def tell(service_asked: str, context: Any) -> None:
        told = None
        while True:
            last = leaving()
            if (now := status(service_asked)) != told:
                told = now
                await context.write(pb.HealthCheckResponse(status=now))
            if last:
                return
            await asyncio.sleep(WATCH_S)

    # Writes by itself: a generator that is cancelled between two answers would be finished, and uncounted, later.
    async def watch(request: pb.HealthCheckRequest, context: Any) -> None:
        nonlocal watchers
        if watchers >= WATCHERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{WATCHERS} clients watch already: use Check")
        watchers += 1
        try:
            async with asyncio.timeout(WATCH_LIFE_S):
                await tell(request.service, context)
        except TimeoutError:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    await context.abort(
                        grpc.StatusCode.UNAVAILABLE, f"a watch ends after {WATCH_LIFE_S:g} s: watch anew"
                    )
        finally:
            watchers -= 1

    read, write = pb.HealthCheckRequest.FromString, pb.HealthCheckResponse.SerializeToString
    return {
        "Check": grpc.unary_unary_rpc_method_handler(check, read, write),
        "Watch": grpc.unary_stream_rpc_method_handler(watch, read, write),
    }
