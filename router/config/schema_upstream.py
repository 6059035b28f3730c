"""What a pool that is another server may say of it: every key, its type and bounds."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from router.config.schema_types import Duration, Name, Strict, Text


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise ValueError("must be http:// or https://, a host and a port, such as http://10.0.0.7:8000")
    if "@" in parts.netloc:
        raise ValueError("must not hold a credential: name a file in authorization_file")
    return value


def _root(value: str) -> str:
    if urlsplit(_url(value)).path.strip("/") or "?" in value or "#" in value:
        raise ValueError("must end after host and port: the protocol's paths are added")
    return value


Url = Annotated[str, Field(max_length=1024), AfterValidator(_url)]
Root = Annotated[str, Field(max_length=1024), AfterValidator(_root)]


class UpstreamKeys(Strict):
    """Keys of a backend of type oip_upstream."""

    url: Root
    connections: Annotated[int, Field(ge=1, le=1024)] | None = None
    tensors: Literal["binary", "json"] | None = None
    authorization_file: Text | None = None
    ca_file: Text | None = None
    metrics_url: Url | None = None
    health_period: Annotated[Duration, Field(ge=0.05, le=0.5)] | None = None
    hung_after: Annotated[Duration, Field(ge=0.1, le=60)] | None = None
    timeout_parameter: bool | None = None
    names: dict[Name, Text] | None = None
    versions: dict[Name, Text] | None = None
    emulated: bool | None = None
