"""The ASGI application of the data listener: health, metadata, explain. Inference does not pass here; see http.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from router.api.heads import read_head, request_id
from router.api.plane import DataPlane
from router.core.errors import RequestError, RouterError
from router.protocol import metadata
from router.service.handler import MAX_QUOTED
from router.service.head import Head
from router.service.reply import Reply, failed

MAX_EXPLAIN_BYTES = 64 * 1024


class ExplainQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST /v1/explain: the request that would be sent, without its tensors."""

    model: str
    version: str = ""
    rows: int = 1


def data_app(plane: DataPlane) -> Starlette:
    """The application of one data plane."""
    endpoints = Endpoints(plane)
    model, version = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
    routes = [
        Route("/-/healthz", endpoints.healthz),
        Route("/v2", endpoints.server_metadata),
        Route("/v2/health/live", endpoints.live),
        Route("/v2/health/ready", endpoints.ready),
        Route("/v1/explain", endpoints.explain, methods=["POST"]),
    ]
    for path in (model, version):
        routes += [
            Route(path, endpoints.model_metadata),
            Route(f"{path}/ready", endpoints.model_ready),
            Route(f"{path}/infer", endpoints.infer, methods=["POST"]),
        ]
    handlers: Mapping[Any, Any] = {
        HTTPException: endpoints.http_error,
        RouterError: endpoints.router_error,
        Exception: endpoints.internal_error,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app


class Endpoints:
    """One method per path."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def healthz(self, request: Request) -> Response:
        """Whether this router replica takes new connections; says `success`, which KubeRay's probe looks for."""
        if self._plane.leaving:
            return PlainTextResponse("draining\n", 503)
        return PlainTextResponse("success\n")

    async def live(self, request: Request) -> Response:
        """The process answers."""
        return _json(metadata.server_live(True))

    async def ready(self, request: Request) -> Response:
        """At least one pool has a ready replica."""
        ready = not self._plane.leaving and self._plane.handler.any_pool_ready()
        return _json(metadata.server_ready(ready), 200 if ready else 503)

    async def server_metadata(self, request: Request) -> Response:
        """Name, version and extensions of the server."""
        return _json(metadata.server_metadata(self._plane.version))

    async def model_metadata(self, request: Request) -> Response:
        """Inputs and outputs of a model that the tenant may use."""
        head = self._head(request)
        spec, versions = self._plane.handler.model(head)
        return _json(metadata.model_metadata(spec, versions))

    async def model_ready(self, request: Request) -> Response:
        """Whether a pool that this tenant may use has a ready replica with the model."""
        head = self._head(request)
        ready = self._plane.handler.model_ready(head)
        return _json(metadata.model_ready(head.model, ready), 200 if ready else 503)

    async def explain(self, request: Request) -> Response:
        """What would be decided now for such a request, with a reason for each pool. Dispatches nothing."""
        body = await _bounded_body(request, MAX_EXPLAIN_BYTES)
        try:
            query = msgspec.json.decode(body, type=ExplainQuery)
        except msgspec.MsgspecError as error:
            raise RequestError("malformed", f"explain: {error}") from error
        if query.rows < 1:
            raise RequestError("malformed", "explain: rows must be at least 1")
        head = self._head(request)
        head.model, head.version = query.model, query.version
        return _json(self._plane.handler.explain(head, query.rows), headers={"x-request-id": head.request_id})

    async def infer(self, request: Request) -> Response:
        """A POST is taken out before ASGI, and Starlette answers other methods 405. What is left are targets with an
        encoded slash where Starlette sees a separator."""
        raise RouterError("not_found", "no inference at this path")

    def _head(self, request: Request) -> Head:
        target = (request.path_params.get("model", ""), request.path_params.get("version", ""))
        return read_head(target, request.scope["headers"], self._plane.request_ids)[0]

    async def http_error(self, request: Request, error: HTTPException) -> Response:
        """No such path or method."""
        reason = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "malformed")
        detail = f"{request.method} {request.url.path[:MAX_QUOTED]!r}: {error.detail}"
        return self._problem(request, RouterError(reason, detail), error.headers)

    async def router_error(self, request: Request, error: RouterError) -> Response:
        """An error of the router's own tree."""
        return self._problem(request, error)

    async def internal_error(self, request: Request, error: Exception) -> Response:
        """A fault of ours: the client learns that, the log learns what."""
        return self._problem(request, RouterError("internal", "internal error; the router's log has the details"))

    def _problem(self, request: Request, error: RouterError, more: Mapping[str, str] | None = None) -> Response:
        response = _response(failed(error, request_id(request.scope["headers"], self._plane.request_ids)))
        response.headers.update(more or {})
        return response


def _response(reply: Reply) -> Response:
    return Response(b"".join((reply.body, *reply.more)), reply.status, dict(reply.headers()))


async def _bounded_body(request: Request, limit_bytes: int) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit_bytes:
                raise RequestError("too_large", f"the body is over the limit of {limit_bytes} bytes")
    except ClientDisconnect:
        raise RequestError("malformed", "the client left before its body was complete") from None
    return bytes(body)


def _json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, media_type="application/json")
