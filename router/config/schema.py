"""What a configuration may say: every key, its type and bounds, strictly. Values only; see check.py for names."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from router.config.schema_accelerator import Accelerator, Cited, Source, in_full
from router.config.schema_backend import BackendKeys, OnnxBackend
from router.config.schema_server import Limits, Server, Stream
from router.config.schema_types import (
    Count,
    Duration,
    Expr,
    KeyDigest,
    LabelKey,
    Labels,
    LabelValue,
    Moment,
    Name,
    Positive,
    Strict,
    Text,
)
from router.policy.rules import EFFECTS


class Replicas(Strict):
    """How many replicas a pool may have. It may start with none, but not end there."""

    min: Annotated[int, Field(le=10_000)]
    max: Annotated[int, Field(le=10_000)]

    @model_validator(mode="after")
    def _possible(self) -> Replicas:
        if not 0 <= self.min <= self.max or self.max < 1:
            raise ValueError(f"impossible: min {self.min}, max {self.max}; needs 0 <= min <= max and max of at least 1")
        return self


def _replicas(value: object) -> object:
    return {"min": value, "max": value} if isinstance(value, int) and not isinstance(value, bool) else value


class Pool(Strict):
    """Replicas of one accelerator class in one place."""

    name: Name
    accelerator: Name
    region: Name
    models: Annotated[list[Name], Field(min_length=1)]
    variants: dict[Name, Name] = {}
    """By model, the one to serve where the choice is not to be left to class and provider."""
    replicas: Annotated[Replicas, BeforeValidator(_replicas, json_schema_input_type=int | Replicas)] = Replicas(
        min=1, max=1
    )
    backend: BackendKeys = OnnxBackend()
    cost: Positive = 1.0
    labels: Labels = {}
    node_labels: dict[LabelKey, LabelValue] = {}
    """Labels that a node of the cluster must have to hold a replica."""


class Tenant(Strict):
    """Who asks: an id, digests of its API keys, and what rules may read of it."""

    id: Name
    keys: list[KeyDigest] = []
    priority: Literal["interactive", "standard", "batch"] = "standard"
    labels: Labels = {}


class Policy(Strict):
    """One rule: `when` with exactly one of allow, require, deny, prefer."""

    name: Name
    when: Expr
    allow: Expr | None = None
    require: Expr | None = None
    deny: Expr | None = None
    prefer: Expr | None = None
    weight: float | None = None
    from_: Moment | None = Field(default=None, alias="from")
    until: Moment | None = None
    reason: str = ""
    owner: str = ""

    @model_validator(mode="after")
    def _whole(self) -> Policy:
        given = [effect for effect in EFFECTS if getattr(self, effect) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of {', '.join(EFFECTS)}; it has {' and '.join(given) or 'none'}")
        if self.weight is not None and self.prefer is None:
            raise ValueError("weight belongs to prefer only")
        if (self.from_ or -math.inf) >= (self.until or math.inf):
            raise ValueError("from must be before until")
        return self


class Model(Strict):
    """What a request for the model is given where it does not say."""

    latency_target: Duration = 0.1
    deadline: Duration = 2.0
    prefer: list[Name] = []
    """Accelerator classes, the most wanted first."""
    max_rows: Count | None = None


class Profile(Strict):
    """Filters, scorers with their weights, and the picker."""

    filters: list[str] | None = None
    scorers: Annotated[dict[str, Positive], Field(min_length=1)] | None = None
    picker: str = "max_score"


def _profile(value: object) -> object:
    if isinstance(value, str) and value != "default":
        raise ValueError("must be default, or a mapping of filters, scorers and picker")
    return {} if value == "default" else value


class Routing(Strict):
    """How pools are chosen."""

    profile: Annotated[Profile, BeforeValidator(_profile, json_schema_input_type=Literal["default"] | Profile)] = (
        Profile()
    )


class Fleet(Strict):
    """A fleet file."""

    accelerators: dict[Name, Accelerator] = {}
    pools: list[Pool] = []
    tenants: list[Tenant] = []
    tenants_file: Text | None = None
    policy_default: Literal["deny", "allow"] = "deny"
    policies: list[Policy] = []
    models: dict[Name, Model] = {}
    routing: Routing = Routing()
    server: Server = Server()
    limits: Limits = Limits()
    model_store: Text | None = None
    stream: Stream = Stream()


class AdminKeys(Strict):
    """Digests that count beside those of server.admin.keys."""

    keys: list[KeyDigest] = []


class TenantsFile(Strict):
    """A tenants_file: keys of tenants of the fleet file, or whole tenants, and keys of the operator."""

    tenants: list[Tenant] = []
    admin: AdminKeys = AdminKeys()


class Catalogue(Strict):
    """One file of the built-in catalogue."""

    sources: dict[Name, Source] = {}
    """By the id under which facts cite them."""
    cited: dict[Name, Annotated[Cited, BeforeValidator(in_full, json_schema_input_type=str | Cited)]] = {}
    """Source by fact, for all classes of the file that do not say otherwise."""
    accelerators: dict[Name, Accelerator] = {}


Schema = Fleet | TenantsFile | Catalogue
Raw = dict[str, Any]
