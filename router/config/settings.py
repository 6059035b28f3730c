"""The configuration as the rest of the house sees it: checked values, no schema, no secret. Travels as plain JSON."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from router.core.facts import PoolFacts, RuleText, TenantFacts

UPSTREAM = "oip_upstream"
"""Backend kind of a pool that is another server."""


class Hardware(msgspec.Struct, frozen=True):
    """How a cluster knows an accelerator class: what places a pool, and nothing that policy judges."""

    ray_resource: str = ""
    """GPU, NPU, TPU or a custom Ray resource; "" for a CPU only."""
    ray_amount: float = 1.0
    ray_type: str = ""
    """Accelerator type as Ray detects it; "" where it detects none."""
    exact: bool = True
    """The type names this class and no other. Where not, the node's label decides."""
    kubernetes_resource: str = ""


class PoolSettings(msgspec.Struct, frozen=True):
    """One pool. `options` go to the backend as they are."""

    facts: PoolFacts
    replicas_min: int
    replicas_max: int
    backend: str
    """Backend kind: onnx, emulated, or one of another package."""
    options: dict[str, Any]
    hardware: Hardware = Hardware()
    variants: dict[str, str] = {}
    """The variant wanted, by model; the others are chosen for class and provider (models/variants.py)."""
    native_provider: str = ""
    """Provider by which they are chosen: the pool's own, or, where it is emulated, its class's."""
    node_labels: dict[str, str] = {}
    """Labels that a node must have to hold a replica."""

    @property
    def deviceless(self) -> bool:
        """Its replicas need no device of this cluster: it is emulated, or another server does the work."""
        return self.facts.emulated or self.backend == UPSTREAM


class ModelPolicy(msgspec.Struct, frozen=True):
    """What a request for the model is given where it does not say. `prefer` is already among the rules."""

    latency_target_s: float
    deadline_s: float
    prefer: tuple[str, ...]
    """Accelerator classes, the most wanted first."""
    max_rows: int | None
    """Bound on the rows of one batch, where it is to be below the model's own."""


class RoutingSettings(msgspec.Struct, frozen=True):
    """Names of the plugin table. Policy is no filter of this list: it always comes first."""

    filters: tuple[str, ...]
    scorers: dict[str, float]
    """Weight (> 0) by scorer name."""
    picker: str


class HttpSettings(msgspec.Struct, frozen=True):
    """The data listener. Port 0: any free one. Paths are absolute, "" without TLS."""

    host: str
    port: int
    certificate: str
    key: str
    max_body_bytes: int
    """Of one request, as sent and inflated."""
    max_json_bytes: int
    max_connections: int
    head_timeout_s: float
    body_timeout_s: float
    idle_timeout_s: float
    reveal_pools: bool


class GrpcSettings(msgspec.Struct, frozen=True):
    """The gRPC listener; `http`'s certificate and limits hold for it too."""

    enabled: bool
    host: str
    port: int


class AdminSettings(msgspec.Struct, frozen=True):
    """The admin listener. `key_digests` as in TenantFacts."""

    host: str
    port: int
    key_digests: tuple[str, ...]


class ServerSettings(msgspec.Struct, frozen=True):
    """Where the router listens, and how many there are."""

    http: HttpSettings
    grpc: GrpcSettings
    admin: AdminSettings
    metrics_host: str
    metrics_port: int
    anonymous: str
    """Id of the tenant that a request without any credential is taken for; "": none."""
    routers: int
    drain_s: float


class LimitSettings(msgspec.Struct, frozen=True):
    """Bounds of one router replica. The queue is what waits in the router for one pool."""

    queue_items_per_pool: int
    queue_bytes_per_pool: int
    body_bytes: int
    """Of all requests being received or under way."""
    requests_per_tenant: int
    """Under way at once."""
    max_elements: int
    """Tensor elements in the JSON of one request."""
    max_deadline_s: float
    """The longest deadline a request may ask for."""


class Settings(msgspec.Struct, frozen=True):
    """One whole configuration. Tenants hold digests of keys, never keys."""

    pools: tuple[PoolSettings, ...]
    tenants: tuple[TenantFacts, ...]
    rules: tuple[RuleText, ...]
    default_allow: bool
    models: dict[str, ModelPolicy]
    """By name: every model that some pool serves."""
    routing: RoutingSettings
    server: ServerSettings
    limits: LimitSettings
    model_store: str
    """Absolute folder, "" where the file names none."""
    stream_key_file: str
    """Absolute path, "" where the file names none."""
    stream_beyond_loopback: bool
    """Pool replicas listen on their node's address, for routers of other nodes, in place of loopback."""
    tenants_file: str
    """Absolute path, "" where the file names none."""
    digest: str = ""
    """Version of the configuration: 16 hex digits, the same for the same content."""

    def stamped(self) -> Settings:
        """The same with its digest."""
        blob = msgspec.json.encode(msgspec.structs.replace(self, digest=""), order="deterministic")
        return msgspec.structs.replace(self, digest=hashlib.sha256(blob).hexdigest()[:16])

    def to_wire(self) -> dict[str, Any]:
        """Plain JSON values, fit for Serve's user_config."""
        wire: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return wire

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> Settings:
        """The inverse of to_wire. Raises msgspec.ValidationError."""
        return msgspec.convert(wire, cls)
