"""Real answers against the document: is what was answered what the document says of that path, method and status?"""

from __future__ import annotations

import re
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from router.api.openapi import document

DOCUMENT: dict[str, Any] = document("0.0.0")


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """What a $ref into the document leads to; anything else as it is."""
    while "$ref" in part:
        at: Any = DOCUMENT
        for step in part["$ref"].removeprefix("#/").split("/"):
            at = at[step]
        part = at
    return part


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    """Of one schema of the document; its references are resolved there."""
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def path_of(url_path: str) -> str:
    """The path of the document that a URL's path belongs to; the one with the fewest variables wins."""
    found = [
        path for path in DOCUMENT["paths"] if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)), url_path)
    ]
    return min(found, key=lambda path: path.count("{"))


def check(answer: httpx.Response) -> str:
    """Assert that the document says of this answer all that it is. Returns the path, method and status."""
    request = answer.request
    path, method = path_of(request.url.raw_path.decode()), request.method.lower()
    told = DOCUMENT["paths"][path][method]["responses"]
    name = f"{method} {path} {answer.status_code}"
    assert str(answer.status_code) in told, f"{name} is not documented: {answer.text}"
    response = told[str(answer.status_code)]
    kind = answer.headers["content-type"].partition(";")[0]
    assert kind in response["content"], f"{name}: {kind} is not documented"
    for header, where in response.get("headers", {}).items():
        value = resolved(where)
        assert header in answer.headers or not value["required"], f"{name} lacks {header}"
        if header in answer.headers and value["schema"]["type"] == "integer":
            validator(value["schema"]).validate(int(answer.headers[header]))
    own = {header for header in answer.headers if header.startswith(("x-", "server-timing", "retry-", "www-"))}
    assert own <= set(response.get("headers", {})), f"{name}: {own} are not all documented"
    if kind == "application/json":
        validator(response["content"][kind]["schema"]).validate(answer.json())
    return name
