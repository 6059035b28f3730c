"""What the data listener takes and answers, as an OpenAPI 3.1 document. Data only; what repeats is made by code.

Tests hold it against the routes of the application and against real answers. Errors are named by reason; their statuses
come from the one table in router/protocol/problem.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from router.api.schemas import BINARY, HEADERS, OF_ERRORS, PARAMETERS, SCHEMAS, Json
from router.protocol.problem import PROBLEMS, problem

_ANY = (
    "malformed", "request_timeout", "too_large", "uri_too_long", "unsupported_media_type", "headers_too_large",
    "saturated", "too_many_connections", "internal",
)  # fmt: skip
"""Reasons that any request may meet."""
_KNOWN = ("unauthenticated", "model_not_found", "not_found")
"""And any that asks about a model."""
_QUERY = ("unauthenticated",)
"""And any with a small JSON body."""
_INFER = (
    *_KNOWN, "policy_denied", "shape_mismatch", "quota_exceeded", "no_ready_pool", "draining", "deadline_unmeetable",
    "backend_failed", "backend_lost", "backend_timeout", "wrong_accelerator", "too_many_hops",
)  # fmt: skip


def document(version: str) -> Json:
    """The whole document; `version` is the router's."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Pointsman", "version": version, "description": _ABOUT},
        "security": [{"bearer": []}, {"key": []}],
        "paths": {**_server_paths(), **_model_paths()},
        "components": {
            "schemas": SCHEMAS,
            "headers": HEADERS,
            "parameters": PARAMETERS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


_ABOUT = """\
The data listener of a Pointsman router: the Open Inference Protocol with Triton's configuration, statistics, repository
index and binary tensor extensions, and `explain`.

A model that the tenant may not use is answered like one that does not exist. HEAD is answered wherever GET is. Where
the operator has named an anonymous tenant, requests without any credential are taken for it; otherwise they get 401."""


def _server_paths() -> Json:
    text = {"text/plain": {"schema": {"type": "string"}}}
    leaving = {"503": {"description": "This router is leaving", "content": text}}
    open_to_all: Json = {"security": []}
    return {
        "/-/healthz": _get("Whether this router takes new connections", _ok(text) | leaving, **open_to_all),
        "/openapi.json": _get("This document", _ok(_json({"type": "object"})), **open_to_all),
        "/v2": _get("Name, version and extensions of the server", _ok(_json("ServerMetadata")), **open_to_all),
        "/v2/health/live": _get("Whether the process answers", _ok(_json("Live")), **open_to_all),
        "/v2/health/ready": _get("Whether some pool has a ready replica", _ready("Ready"), **open_to_all),
        "/v2/models/stats": _get(
            "What every model that the tenant may use has done on this node",
            _ok(_json("Statistics")),
            ("unauthenticated", "unsupported_media_type"),
            parameters=[_CLIENT_ID],
        ),
        "/v2/repository/index": _post(
            "Every model that the tenant may use, and whether it is ready",
            {"required": False, "content": _json("IndexQuery")},
            _ok(_json({"type": "array", "items": _ref("IndexEntry")})),
            _QUERY,
            parameters=[_CLIENT_ID],
        ),
        "/v1/explain": _post(
            "What would be decided now for such a request: every pool that the tenant may use, with a reason",
            {"required": True, "content": _json("ExplainQuery")},
            _ok(_json("Explanation"), "x-request-id"),
            (*_QUERY, *_KNOWN),
            parameters=_WISHES,
        ),
    }


def _model_paths() -> Json:
    paths: Json = {}
    infer_answer = {
        "application/json": {"schema": _ref("InferResponse")},
        "application/octet-stream": BINARY,
    }
    for path, names in (
        ("/v2/models/{model}", ("model",)),
        ("/v2/models/{model}/versions/{version}", ("model", "version")),
    ):
        where = [_parameter(name) for name in names]
        asked = {"parameters": [*where, _CLIENT_ID]}
        paths[path] = _get("Inputs and outputs", _ok(_json("ModelMetadata")), _KNOWN, **asked)
        paths[f"{path}/config"] = _get("Triton's model configuration", _ok(_json("ModelConfig")), _KNOWN, **asked)
        paths[f"{path}/stats"] = _get("What it has done on this node", _ok(_json("Statistics")), _KNOWN, **asked)
        paths[f"{path}/ready"] = _get(
            "Whether this tenant's request would find a pool now",
            _ready("ModelReady"),
            _KNOWN,
            parameters=[*where, *_WISHES],
        )
        paths[f"{path}/infer"] = _post(
            "Inference",
            {"required": True, "content": {**_json("InferRequest"), "application/octet-stream": BINARY}},
            _ok(infer_answer, *(name for name in HEADERS if name not in OF_ERRORS)),
            _INFER,
            parameters=[*where, *_WISHES, _parameter("inference-header-content-length")],
        )
    return paths


def _get(summary: str, answers: Json, reasons: Sequence[str] = (), **more: Any) -> Json:
    return {"get": {"summary": summary, **more, "responses": _responses(answers, reasons)}}


def _post(summary: str, body: Json, answers: Json, reasons: Sequence[str], **more: Any) -> Json:
    return {"post": {"summary": summary, **more, "requestBody": body, "responses": _responses(answers, reasons)}}


def _ok(content: Json, *headers: str) -> Json:
    shown = {"headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers}} if headers else {}
    return {"200": {"description": "OK", **shown, "content": content}}


def _ready(schema: str) -> Json:
    content = _json(schema)
    return _ok(content) | {"503": {"description": "Not ready", "content": content}}


def _responses(answers: Json, reasons: Sequence[str]) -> Json:
    """One response per status, which an answer and several errors may share."""
    by_status: dict[str, list[str]] = {}
    for reason in PROBLEMS:
        if reason in reasons or reason in _ANY:
            by_status.setdefault(str(problem(reason).status), []).append(reason)
    errors = {status: _error(shared) for status, shared in sorted(by_status.items())}
    joined = {status: _either(answers[status], errors[status]) for status in answers.keys() & errors.keys()}
    return answers | errors | joined


def _either(answer: Json, error: Json) -> Json:
    content = {**answer["content"]}
    for kind, what in error["content"].items():
        content[kind] = {"schema": {"anyOf": [content[kind]["schema"], what["schema"]]}} if kind in content else what
    headers = {name: {**HEADERS[name], "required": False} for name in error["headers"]}
    return {
        "description": f"{answer['description']}; {error['description']}", "headers": headers, "content": content,
    }  # fmt: skip


def _error(reasons: list[str]) -> Json:
    named = ["x-request-id"]
    if "unauthenticated" in reasons:
        named.append("www-authenticate")
    if any(problem(reason).waiting_helps for reason in reasons):
        named.append("retry-after")
    one_of = {"properties": {"reason": {"enum": reasons}}}
    return {
        "description": "; ".join(f"{reason}: {problem(reason).title}" for reason in reasons),
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in named},
        "content": _json({"allOf": [_ref("Problem"), one_of]}),
    }


def _json(schema: str | Json) -> Json:
    return {"application/json": {"schema": _ref(schema) if isinstance(schema, str) else schema}}


def _ref(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"}


def _parameter(name: str) -> Json:
    return {"$ref": f"#/components/parameters/{name}"}


_CLIENT_ID = _parameter("x-request-id")
_WISHES = [_parameter(name) for name in PARAMETERS if name.startswith("x-")]
