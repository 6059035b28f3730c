"""What a rule may speak of: every attribute path, its CEL type, and its value from the facts.

Each path is a variable of its own, so a typo fails when the rule is compiled. An unknown fact (None or "") has no
value: it is left out, and what reads it evaluates to unknown. Nothing is guessed here.
"""

from __future__ import annotations

from cel_expr_python import cel

from router.core.facts import PoolFacts, TenantFacts

Facts = dict[str, object]
"""Attribute path to known value. A path that is absent is unknown."""

PRIORITIES = ("interactive", "standard", "batch")
"""Names of the priorities 0, 1 and 2, as rules and config write them."""

_LABELS = cel.Type.Map(cel.Type.STRING, cel.Type.STRING)

REQUEST_VARIABLES: dict[str, cel.Type] = {
    "request.model": cel.Type.STRING,
    "request.version": cel.Type.STRING,
    "request.priority": cel.Type.STRING,
    "tenant.id": cel.Type.STRING,
    "tenant.labels": _LABELS,
    "model.name": cel.Type.STRING,
}
"""Attributes of who asks for what. A request that names no version has an unknown one."""

POOL_VARIABLES: dict[str, cel.Type] = {
    "accelerator.class": cel.Type.STRING,
    "accelerator.vendor": cel.Type.STRING,
    "accelerator.headquarters": cel.Type.STRING,
    "accelerator.memory_gib": cel.Type.DOUBLE,
    "accelerator.memory_bandwidth_gb_per_s": cel.Type.DOUBLE,
    "accelerator.export.class": cel.Type.STRING,
    "accelerator.export.tpp": cel.Type.DOUBLE,
    "accelerator.export.performance_density": cel.Type.DOUBLE,
    "accelerator.licence.state": cel.Type.STRING,
    "pool.name": cel.Type.STRING,
    "pool.region": cel.Type.STRING,
    "pool.provider": cel.Type.STRING,
    "pool.emulated": cel.Type.BOOL,
    "pool.labels": _LABELS,
}
"""Attributes of a pool and of its accelerator class."""


def request_facts(tenant: TenantFacts, model: str, version: str, priority: int) -> Facts:
    """Known values of REQUEST_VARIABLES. `priority` is 0, 1 or 2."""
    return _known(
        {
            "request.model": model,
            "request.version": version,
            "request.priority": PRIORITIES[priority],
            "tenant.id": tenant.id,
            "tenant.labels": tenant.labels,
            "model.name": model,
        }
    )


def pool_facts(pool: PoolFacts, now_s: float) -> Facts:
    """Known values of POOL_VARIABLES at `now_s` (Unix seconds), on which the licence state depends."""
    chip = pool.accelerator
    return _known(
        {
            "accelerator.class": chip.name,
            "accelerator.vendor": chip.vendor,
            "accelerator.headquarters": chip.headquarters,
            "accelerator.memory_gib": chip.memory_gib,
            "accelerator.memory_bandwidth_gb_per_s": chip.memory_bandwidth_gb_per_s,
            "accelerator.export.class": chip.export_class,
            "accelerator.export.tpp": chip.export_tpp,
            "accelerator.export.performance_density": chip.export_performance_density,
            "accelerator.licence.state": chip.licence_state(now_s),
            "pool.name": pool.name,
            "pool.region": pool.region,
            "pool.provider": pool.provider,
            "pool.emulated": pool.emulated,
            "pool.labels": pool.labels,
        }
    )


def _known(values: Facts) -> Facts:
    return {path: value for path, value in values.items() if value is not None and value != ""}
