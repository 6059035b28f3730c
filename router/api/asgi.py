"""The ASGI application of the data listener: health, metadata, explain. Inference does not pass here; see http.py.

What a path takes and answers is written down in openapi.py.
"""

from __future__ import annotations

import re

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from router.api.answers import ExplainQuery, Problems, head_of, json_answer, query_of
from router.api.openapi import document
from router.api.plane import DataPlane
from router.core.errors import RouterError
from router.protocol import metadata
from router.service.head import Head

NOT_OFFERED = {
    re.compile(r"/v2/repository/models/.*"): "not offered: the fleet's configuration says which models are loaded",
    re.compile(r"/v2(/models/[^/]+)?/trace/setting"): "not offered: there are no traces to set",
    re.compile(r"/v2/logging"): "not offered: clients do not set the log",
    re.compile(r"/v2/(system|cuda)sharedmemory/.*"): "not offered: tensors travel in the request",
}
"""Paths that Triton's clients know and of which nothing is here."""


class IndexQuery(msgspec.Struct):
    """Body of POST /v2/repository/index. Clients may send more; it changes nothing."""

    ready: bool = False


def data_app(plane: DataPlane) -> Starlette:
    """The application of one data plane."""
    endpoints = Endpoints(plane)
    routes = [
        Route("/-/healthz", endpoints.healthz),
        Route("/openapi.json", endpoints.openapi),
        Route("/v2", endpoints.server_metadata),
        Route("/v2/health/live", endpoints.live),
        Route("/v2/health/ready", endpoints.ready),
        Route("/v2/models/stats", endpoints.statistics),
        Route("/v2/repository/index", endpoints.index, methods=["POST"]),
        Route("/v1/explain", endpoints.explain, methods=["POST"]),
    ]
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes += [
            Route(path, endpoints.model_metadata),
            Route(f"{path}/config", endpoints.model_config),
            Route(f"{path}/stats", endpoints.statistics),
            Route(f"{path}/ready", endpoints.model_ready),
            Route(f"{path}/infer", endpoints.infer, methods=["POST"]),
        ]
    app = Starlette(routes=routes, exception_handlers=Problems(plane.request_ids, NOT_OFFERED).handlers())
    app.router.redirect_slashes = False
    return app


class Endpoints:
    """One method per path."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._openapi = msgspec.json.encode(document(plane.version))

    async def healthz(self, request: Request) -> Response:
        """Whether this router replica takes new connections; says `success`, which KubeRay's probe looks for."""
        if self._plane.leaving:
            return PlainTextResponse("draining\n", 503)
        return PlainTextResponse("success\n")

    async def openapi(self, request: Request) -> Response:
        """What this listener takes and answers."""
        return Response(self._openapi, media_type="application/json")

    async def live(self, request: Request) -> Response:
        """The process answers."""
        return json_answer(metadata.server_live(True))

    async def ready(self, request: Request) -> Response:
        """At least one pool has a ready replica."""
        ready = not self._plane.leaving and self._plane.handler.any_pool_ready()
        return json_answer(metadata.server_ready(ready), 200 if ready else 503)

    async def server_metadata(self, request: Request) -> Response:
        """Name, version and extensions of the server."""
        return json_answer(metadata.server_metadata(self._plane.version))

    async def model_metadata(self, request: Request) -> Response:
        """Inputs and outputs of a model that the tenant may use."""
        spec, versions = self._plane.handler.model(self._head(request))
        return json_answer(metadata.model_metadata(spec, versions))

    async def model_config(self, request: Request) -> Response:
        """The same as Triton's model configuration."""
        spec, _ = self._plane.handler.model(self._head(request))
        return json_answer(metadata.model_config(spec))

    async def model_ready(self, request: Request) -> Response:
        """Whether a pool that this tenant may use has a ready replica with the model."""
        head = self._head(request)
        ready = self._plane.handler.model_ready(head)
        return json_answer(metadata.model_ready(head.model, ready), 200 if ready else 503)

    async def statistics(self, request: Request) -> Response:
        """What one model, or every model that the tenant may use, has done on this node."""
        models = await self._plane.handler.statistics(self._head(request))
        return json_answer(metadata.model_statistics(models))

    async def index(self, request: Request) -> Response:
        """Every model that the tenant may use, and whether it is ready."""
        head = self._head(request)
        self._plane.handler.authenticate(head)
        query = await query_of(request, IndexQuery, "index", empty=IndexQuery())
        entries = self._plane.handler.index(head)
        return json_answer([metadata.repository_entry(*entry) for entry in entries if entry[2] or not query.ready])

    async def explain(self, request: Request) -> Response:
        """What would be decided now for such a request, with a reason for each pool. Dispatches nothing."""
        head = self._head(request)
        self._plane.handler.authenticate(head)  # before the body: what a stranger sends is not read
        query = await query_of(request, ExplainQuery, "explain")
        head.model, head.version = query.model, query.version
        answer = self._plane.handler.explain(head, query.rows)
        return json_answer(answer, headers={"x-request-id": head.request_id})

    async def infer(self, request: Request) -> Response:
        """A POST is taken out before ASGI, and Starlette answers other methods 405. What is left are targets with an
        encoded slash where Starlette sees a separator."""
        raise RouterError("not_found", "no inference at this path")

    def _head(self, request: Request) -> Head:
        return head_of(request, self._plane.request_ids)
