"""What a configuration may say: every key, its type and bounds, strictly. Values only; build.py checks what names mean.

A message never repeats the value of a key, which may hold a secret by mistake.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from router.core.durations import parse_duration_s
from router.policy.rules import EFFECTS

MAX_EXPRESSION_CHARS = 4096
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_KEY = re.compile(r"sha256:[0-9a-f]{64}")
_COUNTRY = re.compile(r"[A-Z]{2}")


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("must be 1 to 63 letters, digits, dots, dashes and underscores, the first no punctuation")
    return value


def _key(value: str) -> str:
    if not _KEY.fullmatch(value):
        raise ValueError("must be sha256: and 64 lower-case hex digits, as `pointsman key new` prints them")
    return value


def _country(value: str) -> str:
    if not _COUNTRY.fullmatch(value):
        raise ValueError("must be a country code of two capital letters, such as US")
    return value


def _day(value: str) -> str:
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        raise ValueError("must be a date such as 2026-11-23") from None


def _duration_s(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError("must be a duration with its unit, such as 50ms, 2s or 1m")
    return parse_duration_s(value)


def _moment_s(value: object) -> float:
    """Unix seconds of a date (its midnight, UTC) or of an RFC 3339 time, which has an offset."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is not None and isinstance(value, str) and len(value) == len("2026-11-23"):
        moment = moment.replace(tzinfo=UTC)
    if moment is None or moment.tzinfo is None:
        raise ValueError("must be a date such as 2026-11-23 or a time with its offset such as 2026-11-23T08:00:00Z")
    return moment.timestamp()


Name = Annotated[str, AfterValidator(_name)]
Text = Annotated[str, Field(min_length=1, max_length=1024)]
Duration = Annotated[float, BeforeValidator(_duration_s)]
Moment = Annotated[float, BeforeValidator(_moment_s)]
Expr = Annotated[str, Field(min_length=1, max_length=MAX_EXPRESSION_CHARS)]
Labels = dict[Text, Text]
Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1, le=2**40)]
Host = Annotated[str, Field(min_length=1, max_length=255)]


class Strict(BaseModel):
    """No coercion, no unknown key, no NaN."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Export(Strict):
    """Export attributes by numbers. Absent or null: unknown."""

    class_: Text | None = Field(default=None, alias="class")
    tpp: Annotated[float, Field(ge=0)] | None = None
    performance_density: Annotated[float, Field(ge=0)] | None = None


class Accelerator(Strict):
    """A class of the catalogue, or what a fleet file changes in one. Every fact has a source and a date."""

    source: Text
    as_of: Annotated[str, AfterValidator(_day)]
    vendor: Text | None = None
    headquarters: Annotated[str, AfterValidator(_country)] | None = None
    memory_gib: Positive | None = None
    export: Export = Export()
    provider: Name | None = None
    """Execution provider of pools of this class that name none."""
    notes: str = ""


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


class Backend(Strict):
    """What runs a pool's models. Which options belong to which type: build.py."""

    type: str = "onnx"
    provider: Name | None = None
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    time_scale: Positive | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    profile: Text | None = None


class Pool(Strict):
    """Replicas of one accelerator class in one place."""

    name: Name
    accelerator: Name
    region: Name
    models: Annotated[list[Name], Field(min_length=1)]
    replicas: Annotated[Replicas, BeforeValidator(_replicas)] = Replicas(min=1, max=1)
    backend: Backend = Backend()
    cost: Positive = 1.0
    labels: Labels = {}


class Tenant(Strict):
    """Who asks: an id, digests of its API keys, and what rules may read of it."""

    id: Name
    keys: list[Annotated[str, AfterValidator(_key)]] = []
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

    profile: Annotated[Profile, BeforeValidator(_profile)] = Profile()


class Http(Strict):
    """The data listener."""

    host: Host = "127.0.0.1"
    port: Port = 8000
    max_body_bytes: Count = 16 * 1024 * 1024


class Metrics(Strict):
    """The metrics listener, one per node."""

    host: Host = "127.0.0.1"
    port: Port = 8002


class Server(Strict):
    """What a router replica listens on, and how many there are."""

    http: Http = Http()
    metrics: Metrics = Metrics()
    routers: Annotated[int, Field(ge=1, le=256)] = 1
    drain: Duration = 30.0


class Limits(Strict):
    """Bounds of one router replica."""

    queue_items_per_pool: Count = 1024
    queue_bytes_per_pool: Count = 64 * 1024 * 1024
    max_elements: Count = 4 * 1024 * 1024
    max_deadline: Duration = 60.0


class Stream(Strict):
    """The streams between routers and pools."""

    key_file: Text | None = None


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


class TenantsFile(Strict):
    """A tenants_file: keys of tenants of the fleet file, or whole tenants."""

    tenants: list[Tenant] = []


class Catalogue(Strict):
    """The built-in catalogue."""

    credits: list[Text] = []
    accelerators: dict[Name, Accelerator] = {}


Schema = Fleet | TenantsFile | Catalogue
Raw = dict[str, Any]
