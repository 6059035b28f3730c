"""The admin listener: what its operator may know of a router. Apart from the data listener in everything: address,
credential, application, connections and limits, so that nothing given to a tenant opens it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from router.api.answers import ExplainQuery, Problems, head_of, json_answer, query_of
from router.api.plane import DataPlane
from router.core.errors import RequestError
from router.service.head import Head

MAX_CONNECTIONS = 32
MAX_HEAD_BYTES = 16 * 1024
LIFE_S = 10.0
"""A connection lives no longer, whatever it is doing: one bound for head, body, answer and idleness."""
NO_ADMIN_KEY = "no valid admin key: send `Authorization: Bearer <key>`; a tenant's key is none"

Status = Callable[[], Mapping[str, object]]


class AdminExplainQuery(ExplainQuery, kw_only=True):
    """Body of POST /v1/explain here: also whose request it would be."""

    tenant: str


def admin_app(plane: DataPlane, status: Status) -> Starlette:
    """The application; `status` describes the fleet as this router sees it."""
    endpoints = Endpoints(plane, status)
    routes = [
        Route("/-/healthz", endpoints.healthz),
        Route("/v1/status", endpoints.status),
        Route("/v1/explain", endpoints.explain, methods=["POST"]),
    ]
    app = Starlette(routes=routes, exception_handlers=Problems(plane.request_ids).handlers())
    app.router.redirect_slashes = False
    return app


class Endpoints:
    """One method per path."""

    def __init__(self, plane: DataPlane, status: Status) -> None:
        self._plane = plane
        self._status = status

    async def healthz(self, request: Request) -> Response:
        """As on the data listener; needs no key."""
        if self._plane.leaving:
            return PlainTextResponse("draining\n", 503)
        return PlainTextResponse("success\n")

    async def status(self, request: Request) -> Response:
        """Pools, replicas and providers as this router sees them now."""
        self._proven(request)
        return json_answer(self._status())

    async def explain(self, request: Request) -> Response:
        """What would be decided now for such a request of that tenant, with a reason for every pool."""
        head = self._proven(request)
        query = await query_of(request, AdminExplainQuery, "explain")
        head.model, head.version = query.model, query.version
        answer = self._plane.handler.explain_for(query.tenant, head, query.rows)
        return json_answer(answer, headers={"x-request-id": head.request_id})

    def _proven(self, request: Request) -> Head:
        """The head of a request that shows an admin key. Raises RequestError."""
        head = head_of(request, self._plane.request_ids)
        if not self._plane.handler.credentials.is_admin(head.credential):
            raise RequestError("unauthenticated", NO_ADMIN_KEY)
        return head


class AdminListener:
    """Owns the listening socket and its connections."""

    def __init__(self, plane: DataPlane, status: Status) -> None:
        self._state = ServerState()
        self._config = Config(
            admin_app(plane, status),
            http=_Connection,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        )
        self._server: asyncio.Server | None = None

    async def open(self, host: str, port: int) -> tuple[str, int]:
        """Listen, sharing the port with other router replicas of the node. Returns the address. Raises OSError."""
        self._config.load()
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self._config, self._state, {}), host, port, reuse_port=True, backlog=MAX_CONNECTIONS
        )
        address = self._server.sockets[0].getsockname()
        return str(address[0]), int(address[1])

    @property
    def is_open(self) -> bool:
        """Whether new connections are accepted."""
        return self._server is not None and self._server.is_serving()

    def close(self) -> None:
        """Stop listening and hang up."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._state.connections):
            connection.transport.abort()


class _Connection(H11Protocol):
    """h11 bounds the bytes of a head; this bounds connections and how long they live."""

    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client has connected."""
        full = len(self.connections) >= MAX_CONNECTIONS
        super().connection_made(transport)
        if full:
            transport.abort()
        else:
            self._end = self.loop.call_later(LIFE_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or its time was up."""
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)
