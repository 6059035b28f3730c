"""What a configuration may say of the server: listeners, their exposure, and bounds. Values only."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from router.config.schema_types import Count, Duration, Host, KeyDigest, Name, Port, Strict, Text


class Tls(Strict):
    """PEM files, relative to the fleet file. The key must not need a passphrase."""

    certificate: Text
    key: Text


class Http(Strict):
    """The data listener."""

    host: Host = "127.0.0.1"
    port: Port = 8000
    tls: Tls | None = None
    max_body_bytes: Count = 80 * 1024 * 1024
    """Of one request, as sent and inflated."""
    max_json_bytes: Count = 8 * 1024 * 1024
    """Of the JSON in one request: reading it holds up everybody else, binary tensors do not."""
    max_connections: Count = 16 * 1024
    head_timeout: Duration = 10.0
    """From the first byte of a request to the end of its headers."""
    body_timeout: Duration = 30.0
    """From the end of the headers to the end of the body, and for a client to read its answer."""
    idle_timeout: Duration = 75.0
    reveal_pools: bool = True
    """Whether answers name the pool and its accelerator class in headers."""


class Grpc(Strict):
    """The gRPC listener. It has the TLS files and the largest body of the data listener."""

    enabled: bool = True
    host: Host = "127.0.0.1"
    port: Port = 8001


class Admin(Strict):
    """The admin listener. Without a key it refuses everybody."""

    host: Host = "127.0.0.1"
    port: Port = 8003
    keys: list[KeyDigest] = []


class Metrics(Strict):
    """The metrics listener, one per node."""

    host: Host = "127.0.0.1"
    port: Port = 8002


class Anonymous(Strict):
    """Who a request without any credential is taken for."""

    tenant: Name
    beyond_loopback: bool = False
    """Also where the data listeners can be reached from other machines."""


class Server(Strict):
    """What a router replica listens on, and how many there are."""

    http: Http = Http()
    grpc: Grpc = Grpc()
    metrics: Metrics = Metrics()
    admin: Admin = Admin()
    anonymous: Anonymous | None = None
    routers: Annotated[int, Field(ge=1, le=256)] = 1
    drain: Duration = 30.0


class Limits(Strict):
    """Bounds of one router replica."""

    queue_items_per_pool: Count = 1024
    queue_bytes_per_pool: Count = 256 * 1024 * 1024
    body_bytes: Count = 512 * 1024 * 1024
    """Of all requests being received or under way."""
    requests_per_tenant: Count = 4096
    """Under way at once."""
    max_elements: Count = 4 * 1024 * 1024
    """Tensor elements in the JSON of one request."""
    max_deadline: Duration = 60.0


class Stream(Strict):
    """The streams between routers and pools."""

    key_file: Text | None = None
    beyond_loopback: bool = False
    """Also between nodes: proven at both ends, but not encrypted."""
