"""What the ASGI applications share: bodies read up to a bound, values and errors as HTTP answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec
import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from router.api.heads import RequestIds, read_head, request_id
from router.core.errors import RequestError, RouterError
from router.core.outcome import MAX_QUOTED
from router.service.head import Head
from router.service.reply import Reply, failed

MAX_QUERY_BYTES = 64 * 1024
"""Of a body that is no inference request."""

T = TypeVar("T")


class ExplainQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST /v1/explain: the request that would be sent, without its tensors."""

    model: str
    version: str = ""
    rows: Annotated[int, msgspec.Meta(ge=1, lt=2**31)] = 1


async def bounded_body(request: Request, limit_bytes: int) -> bytes:
    """The whole body. Raises RequestError once it is over the limit."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit_bytes:
                raise RequestError("too_large", f"the body is over the limit of {limit_bytes} bytes")
    except ClientDisconnect:
        raise RequestError("malformed", "the client left before its body was complete") from None
    return bytes(body)


async def query_of(request: Request, kind: type[T], what: str, empty: T | None = None) -> T:
    """A small JSON body as a value of `kind`, `empty` for none; errors name it `what`. Raises RequestError."""
    body = await bounded_body(request, MAX_QUERY_BYTES)
    if not body and empty is not None:
        return empty
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise RequestError("malformed", f"{what}: {error}") from error


def head_of(request: Request, ids: RequestIds) -> Head:
    """Who asks, and for what. Raises BadHead."""
    target = (request.path_params.get("model", ""), request.path_params.get("version", ""))
    return read_head(target, request.scope["headers"], ids)


def json_answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A value as JSON."""
    return Response(orjson.dumps(value), status, headers, media_type="application/json")


def reply_answer(reply: Reply) -> Response:
    """A reply, whole."""
    return Response(b"".join((reply.body, *reply.more)), reply.status, dict(reply.headers()))


class Problems:
    """Errors as answers, each with the id of its request."""

    def __init__(self, ids: RequestIds, not_offered: Mapping[re.Pattern[str], str] | None = None) -> None:
        """`not_offered`: paths of which nothing is here, and the words that say so."""
        self._ids = ids
        self._not_offered = not_offered or {}

    def handlers(self) -> Mapping[Any, Any]:
        """As Starlette wants them."""
        return {HTTPException: self._http, RouterError: self._router, Exception: self._internal}

    async def _http(self, request: Request, error: HTTPException) -> Response:
        """No such path or method."""
        reason = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "malformed")
        path = request.url.path
        words = next((words for known, words in self._not_offered.items() if known.fullmatch(path)), error.detail)
        detail = f"{request.method[:MAX_QUOTED]} {path[:MAX_QUOTED]!r}: {words}"
        return self._answer(request, RouterError(reason, detail), error.headers)

    async def _router(self, request: Request, error: RouterError) -> Response:
        """An error of the router's own tree."""
        return self._answer(request, error)

    async def _internal(self, request: Request, error: Exception) -> Response:
        """A fault of ours: the client learns that, the log learns what."""
        return self._answer(request, RouterError("internal", "internal error; the router's log has the details"))

    def _answer(self, request: Request, error: RouterError, more: Mapping[str, str] | None = None) -> Response:
        answer = reply_answer(failed(error, request_id(request.scope["headers"], self._ids)))
        answer.headers.update(more or {})
        return answer
