"""Static facts of accelerators, pools, tenants and rules, as configuration states them. Unknown facts are None."""

from __future__ import annotations

import hashlib

import msgspec


class LicenceState(msgspec.Struct, frozen=True):
    """State of the export licence requirement from `from_s` (Unix seconds) on, until the next begins."""

    from_s: float
    state: str
    """not-required, required, case-by-case, use-restricted or granted."""


class AcceleratorFacts(msgspec.Struct, frozen=True):
    """One accelerator class of the catalogue. None means unknown: policy fails closed on it."""

    name: str
    vendor: str | None = None
    headquarters: str | None = None
    """ISO 3166 country code of the vendor's headquarters."""
    memory_gib: float | None = None
    export_class: str | None = None
    """Class by numbers, for example "3A090.a" or "none"."""
    export_tpp: float | None = None
    """Total processing performance: dense TOPS times bit length, best over precisions."""
    export_performance_density: float | None = None
    """TPP divided by die area in mm2."""
    source: str = ""
    as_of: str = ""
    """Date (ISO) and source (an id of the catalogue, or words) of the entry; each fact's own is in the catalogue."""
    memory_bandwidth_gb_per_s: float | None = None
    licence: tuple[LicenceState, ...] = ()
    """In the order of their dates."""

    def licence_state(self, now_s: float) -> str | None:
        """The state in force at `now_s` (Unix seconds); unknown before the first."""
        return next((entry.state for entry in reversed(self.licence) if entry.from_s <= now_s), None)


class Emulation(msgspec.Struct, frozen=True):
    """Whose times an emulated pool keeps: nobody may take an assumed or stretched time for a measured one."""

    basis: str
    """Of the latency profile it follows: measured or assumed; "unknown" where there is no such profile."""
    time_scale: float
    """Every time of the profile is multiplied by it."""


class PoolFacts(msgspec.Struct, frozen=True):
    """One configured pool."""

    name: str
    accelerator: AcceleratorFacts
    region: str
    provider: str
    """Execution provider or upstream kind asked for: cpu, openvino, cuda, cann, ..."""
    emulated: bool
    labels: dict[str, str]
    cost: float
    models: tuple[str, ...]
    emulation: Emulation | None = None
    """None where the hardware is real."""

    def digest(self) -> str:
        """Identity of what policy judges of the pool, 16 hex digits. Cost, models and times are no part of it."""
        judged = (self.name, self.accelerator, self.region, self.provider, self.emulated, self.labels)
        return hashlib.sha256(msgspec.json.encode(judged, order="deterministic")).hexdigest()[:16]


class TenantFacts(msgspec.Struct, frozen=True):
    """One tenant. `key_digests` are lower-case hex SHA-256 digests of API keys."""

    id: str
    key_digests: tuple[str, ...]
    priority: int
    """The highest priority it may ask for: 0 interactive, 1 standard, 2 batch."""
    labels: dict[str, str]


class RuleText(msgspec.Struct, frozen=True):
    """One policy rule as written. `effect` is allow, require, deny or prefer; `expr` its CEL text.

    `valid_from_s` and `valid_until_s` are Unix seconds (UTC midnight where the config gave a date), None where open.
    `where` is the YAML path of the rule, for errors.
    """

    name: str
    when: str
    effect: str
    expr: str
    weight: float = 1.0
    """Only for prefer."""
    reason: str = ""
    owner: str = ""
    valid_from_s: float | None = None
    valid_until_s: float | None = None
    where: str = ""
