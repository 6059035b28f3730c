"""gRPC's health service, for probes and for clients that choose among servers by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from router.api.grpc_call import KEYLESS_BYTES, Call, Method
from router.api.grpc_unary import DocumentCall, UnaryCall
from router.api.grpc_wire import OK, status
from router.core.errors import RequestError
from router.protocol.proto import health_pb2 as pb

HEALTH = "grpc.health.v1.Health"
WATCH_S = 0.5
"""How soon who watches learns of a change."""
WATCHERS = 64
"""Watches at once: they need no key, and must not use up the calls of those who have one."""
WATCH_LIFE_S = 60.0
"""A watch ends after this, for the same reason; clients watch anew by themselves."""


class Health:
    """Check and Watch. `service` and the server as a whole serve while `ready`."""

    def __init__(self, ready: Callable[[], bool], leaving: Callable[[], bool], service: str) -> None:
        self.leaving = leaving
        self.watchers = 0
        self._ready, self._service = ready, service

    def methods(self) -> dict[str, Method]:
        """The two calls by name."""

        def watch(*of: object) -> Call:
            return Watch(self, *of)

        check = Method(DocumentCall, KEYLESS_BYTES, kind=pb.HealthCheckRequest, answer=self.check)
        return {"Check": check, "Watch": Method(watch, KEYLESS_BYTES)}

    def status(self, asked: str) -> pb.HealthCheckResponse.ServingStatus:
        """Of a service, "" for all of the server."""
        if asked not in ("", self._service):
            return pb.HealthCheckResponse.SERVICE_UNKNOWN
        return pb.HealthCheckResponse.SERVING if self._ready() else pb.HealthCheckResponse.NOT_SERVING

    def check(self, request: pb.HealthCheckRequest, call: Call) -> pb.HealthCheckResponse:
        """Once. Raises RequestError for a service that is not here."""
        now = self.status(request.service)
        if now == pb.HealthCheckResponse.SERVICE_UNKNOWN:
            raise RequestError("not_found", "no such service here")
        return pb.HealthCheckResponse(status=now)


class Watch(UnaryCall):
    """Tells of every change, for a while."""

    def __init__(self, health: Health, *of: Any) -> None:
        super().__init__(*of)
        self._health = health
        self._counted = False

    def run(self, body: bytes) -> None:
        """See UnaryCall."""
        if self._health.watchers >= WATCHERS:
            self.finish(status("RESOURCE_EXHAUSTED", f"{WATCHERS} clients watch already: use Check"))
            return
        try:
            request = pb.HealthCheckRequest.FromString(body)
        except DecodeError as error:
            raise RequestError("malformed", f"the message cannot be read: {error}") from None
        self._health.watchers += 1
        self._counted = True
        self.go_on(self._watch(request.service))

    def end(self) -> None:
        """See Call."""
        super().end()
        if self._counted:
            self._counted = False
            self._health.watchers -= 1

    async def _watch(self, service: str) -> None:
        health, until_s = self._health, self.servicer.loop.time() + WATCH_LIFE_S
        told = None
        while True:
            last = health.leaving()
            if (now := health.status(service)) != told:
                told = now
                self.write(pb.HealthCheckResponse(status=now).SerializeToString())
            if last:
                self.finish(OK)
                return
            left_s = until_s - self.servicer.loop.time()
            if left_s <= 0:
                self.finish(status("UNAVAILABLE", f"a watch ends after {WATCH_LIFE_S:g} s: watch anew"))
                return
            await asyncio.sleep(min(WATCH_S, left_s))
