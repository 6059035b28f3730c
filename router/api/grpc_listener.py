"""The gRPC listener: accepts connections and leaves without loss. Owns gRPC's server and its bounds."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from router.api.grpc_health import HEALTH, health_handlers
from router.api.grpc_servicer import SERVICE, Servicer
from router.api.grpc_tls import GrpcCertificate
from router.api.plane import DataPlane
from router.config.settings import GrpcSettings

ENVELOPE_BYTES = 64 * 1024
"""What a message may have beside its tensors: names, shapes, parameters."""
METADATA_BYTES = 64 * 1024
CALLS_PER_CONNECTION = 1024
CALLS = 8192
"""Calls under way at once, streams included; more are answered RESOURCE_EXHAUSTED."""
PING_MS, PONG_MS = 60_000, 20_000
"""A connection without a sign of life for PING_MS is asked for one, and closed PONG_MS later."""
QUICKEST_PING_MS = 10_000
"""A client that pings an idle connection more often is sent away."""


class GrpcListener:
    """One gRPC listener on the current event loop."""

    def __init__(self, plane: DataPlane) -> None:
        """The plane is the data listener's: its TLS files and bounds hold here too."""
        self._plane = plane
        self._http = plane.http
        self.servicer = Servicer(plane)
        self._server: Any = None
        self.is_open = False
        """Whether new calls are accepted."""

    async def open(self, grpc_settings: GrpcSettings) -> tuple[str, int]:
        """Listen, sharing the port with other router replicas of the node. Returns the address.

        Raises RuntimeError where the address cannot be had, OSError and ssl.SSLError for TLS files of no use.
        """
        host = grpc_settings.host
        # For as long as the process lives: where its last object goes, gRPC ends its poller by waiting for it, and a
        # call that was never answered keeps the poller for ever.
        grpc.aio.init_grpc_aio()
        loop = asyncio.get_running_loop()
        credentials = await loop.run_in_executor(None, self._credentials)
        ignore_spurious_wakeups(loop)
        server = grpc.aio.server(options=self._options(), maximum_concurrent_rpcs=CALLS)
        health = health_handlers(self.servicer.ready, lambda: self._plane.leaving, SERVICE)
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(SERVICE, self.servicer.handlers()),
                grpc.method_handlers_generic_handler(HEALTH, health),
            )
        )
        address = f"[{host}]:{grpc_settings.port}" if ":" in host else f"{host}:{grpc_settings.port}"
        port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
        await server.start()
        self._server = server
        self.is_open = True
        return host, int(port)

    async def leave(self, accept_s: float, total_s: float) -> None:
        """Go on accepting for `accept_s`, then take nothing new, and wait for the rest until `total_s` in all.

        Health and readiness say so from the start; streams end once what came on them is answered.
        """
        self._plane.leaving = True
        await asyncio.sleep(accept_s)
        self.is_open = False
        for stream in self.servicer.streams:
            stream.stop_reading()
        if self._server is not None:
            await self._server.stop(total_s - accept_s)

    def _credentials(self) -> Any:
        return GrpcCertificate(self._http).credentials if self._http.certificate else None

    def _options(self) -> list[tuple[str, int]]:
        return [
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", self._http.max_body_bytes + ENVELOPE_BYTES),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_concurrent_streams", CALLS_PER_CONNECTION),
            ("grpc.max_metadata_size", METADATA_BYTES),
            ("grpc.absolute_max_metadata_size", METADATA_BYTES),
            ("grpc.max_connection_idle_ms", int(self._http.idle_timeout_s * 1e3)),
            ("grpc.keepalive_time_ms", PING_MS),
            ("grpc.keepalive_timeout_ms", PONG_MS),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", QUICKEST_PING_MS),
        ]


def ignore_spurious_wakeups(loop: asyncio.AbstractEventLoop) -> None:
    """Keep one harmless error of gRPC's out of the log.

    All event loops of a process that use grpc.aio, Ray Serve's and ours, are woken for every event; whoever finds that
    another was first gets EAGAIN from the socket, which gRPC leaves to the loop.
    """
    before = loop.get_exception_handler()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if isinstance(context.get("exception"), BlockingIOError) and "PollerCompletionQueue" in context.get(
            "message", ""
        ):
            return
        if before is not None:
            before(loop, context)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)
