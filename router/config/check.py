"""What names mean: a fleet file's references against each other, the catalogue and the plugin table; then the settings.

Notes every fault in the draft and builds on what is sound. Reads no file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from router.config.accelerators import Classes, facts_of, merged
from router.config.build import DEFAULT_WEIGHTS, FILTERS, NEEDED_FILTERS, PICKERS, SCORERS
from router.config.check_backend import Kinds, chosen
from router.config.check_server import digests_of, limit_settings, path_of, server_settings
from router.config.problems import unknown
from router.config.read import Draft
from router.config.schema import Fleet, Model, Policy, Pool, Profile, Tenant, TenantsFile
from router.config.schema_accelerator import Accelerator
from router.config.settings import (
    Hardware,
    ModelPolicy,
    PoolSettings,
    RoutingSettings,
    Settings,
)
from router.core.facts import PoolFacts, RuleText, TenantFacts
from router.policy.credentials import Credentials
from router.policy.rules import EFFECTS, RuleError, compile_rules
from router.policy.variables import PRIORITIES


def settings_of(
    draft: Draft[Fleet],
    more: Draft[TenantsFile] | None,
    built_in: Classes,
    known_models: Collection[str] | None,
    kinds: Kinds,
) -> Settings:
    """The settings of a fleet file and its tenants file; sound only if no draft has a problem afterwards.

    `known_models`: names in the model store, None where they are not to be checked.
    `kinds`: backend types of other packages.
    """
    fleet = draft.value
    classes = merged(built_in, fleet.accelerators)
    pools = _pools(draft, classes, known_models, kinds)
    models = _models(draft, classes, pools)
    here = Path(draft.document.file).absolute().parent
    server = server_settings(draft, here, more.value.admin.keys if more is not None else ())
    return Settings(
        pools=tuple(pools),
        tenants=tuple(_tenants(draft, more, server.admin.key_digests)),
        rules=(*_rules(draft), *_preferences(models)),
        default_allow=fleet.policy_default == "allow",
        models=models,
        routing=_routing(draft),
        server=server,
        limits=limit_settings(fleet.limits),
        model_store=path_of(here, fleet.model_store),
        stream_key_file=path_of(here, fleet.stream.key_file),
        stream_beyond_loopback=fleet.stream.beyond_loopback,
        tenants_file=path_of(here, fleet.tenants_file),
    ).stamped()


def hardware_of(entry: Accelerator) -> Hardware:
    """What places a pool of a catalogue entry's class."""
    ray = entry.ray
    return Hardware(ray.resource or "", ray.amount, ray.type or "", ray.exact, entry.kubernetes or "")


def _once(draft: Draft[Fleet], section: str, field: str) -> None:
    """Note every name that a list gives twice."""
    lines = draft.document.lines
    first: dict[str, str] = {}
    for path, item in draft.items(section):
        name = getattr(item, field)
        if name in first:
            at = f"{path}.{field}"
            draft.fault(at, f'"{name}" is taken: {first[name]} at line {lines[first[name]]}')
        first.setdefault(name, path)


def _known_class(draft: Draft[Fleet], path: str, name: str, classes: Classes) -> None:
    # A class whose entry has a fault is missing here, and already complained of.
    if name not in classes and draft.whole("accelerators"):
        draft.fault(path, unknown("accelerator class", name, classes))


def _pools(
    draft: Draft[Fleet], classes: Classes, known_models: Collection[str] | None, kinds: Kinds
) -> list[PoolSettings]:
    _once(draft, "pools", "name")
    if not draft.value.pools and draft.whole("pools"):
        draft.fault("pools", "a fleet needs at least one pool")
    pools = []
    for path, pool in draft.items("pools"):
        _known_class(draft, f"{path}.accelerator", pool.accelerator, classes)
        for index, model in enumerate(pool.models):
            if model in pool.models[:index]:
                draft.fault(f"{path}.models[{index}]", f'"{model}" is listed twice')
            elif known_models is not None and model not in known_models:
                draft.fault(f"{path}.models[{index}]", unknown("model", model, known_models))
        for model in sorted(pool.variants.keys() - set(pool.models)):
            draft.fault(
                f"{path}.variants.{model}", "the pool does not serve it; " + unknown("model", model, pool.models)
            )
        entry = classes.get(pool.accelerator)
        if entry is not None:
            pools.append(_pool(draft, path, pool, entry, kinds))
    return pools


def _pool(draft: Draft[Fleet], path: str, pool: Pool, entry: Accelerator, kinds: Kinds) -> PoolSettings:
    backend = chosen(draft, path, pool, entry, kinds)
    facts = PoolFacts(
        name=pool.name,
        accelerator=facts_of(pool.accelerator, entry),
        region=pool.region,
        provider=backend.provider,
        emulated=backend.emulated,
        labels=pool.labels,
        cost=pool.cost,
        models=tuple(pool.models),
    )
    kind, replicas = pool.backend.type, pool.replicas
    native = entry.provider or "" if kind == "emulated" else backend.provider
    return PoolSettings(
        facts,
        replicas.min,
        replicas.max,
        kind,
        backend.options,
        hardware_of(entry),
        pool.variants,
        native,
        dict(pool.node_labels),
    )


def _models(draft: Draft[Fleet], classes: Classes, pools: Iterable[PoolSettings]) -> dict[str, ModelPolicy]:
    fleet = draft.value
    served = {model for pool in fleet.pools for model in pool.models}
    limit_s = fleet.limits.max_deadline
    for name, model in fleet.models.items():
        if name not in served and draft.whole("pools"):
            draft.fault(f"models.{name}", "no pool serves it; " + unknown("model", name, served))
        if not model.latency_target <= model.deadline <= limit_s:
            draft.fault(
                f"models.{name}",
                f"needs latency_target <= deadline <= limits.max_deadline, "
                f"has {model.latency_target:g}s, {model.deadline:g}s, {limit_s:g}s",
            )
        for index, wanted in enumerate(model.prefer):
            _known_class(draft, f"models.{name}.prefer[{index}]", wanted, classes)
    return {name: _model(fleet.models.get(name, Model())) for name in sorted(served)}


def _model(model: Model) -> ModelPolicy:
    return ModelPolicy(model.latency_target, model.deadline, tuple(model.prefer), model.max_rows)


def _tenants(draft: Draft[Fleet], more: Draft[TenantsFile] | None, admin_digests: tuple[str, ...]) -> list[TenantFacts]:
    _once(draft, "tenants", "id")
    tenants = {tenant.id: tenant for tenant in draft.value.tenants}
    inline = set(tenants)
    for path, tenant in more.items("tenants") if more is not None else ():
        assert more is not None
        if tenant.id not in inline:
            if tenant.id in tenants:
                more.fault(f"{path}.id", f'"{tenant.id}" is taken: it stands twice in this file')
            tenants[tenant.id] = tenant
        elif tenant.model_fields_set - {"id", "keys"}:
            more.fault(path, f'tenant "{tenant.id}" is in {draft.document.file}: only its keys can be added here')
        else:
            keys = [*tenants[tenant.id].keys, *tenant.keys]
            tenants[tenant.id] = tenants[tenant.id].model_copy(update={"keys": keys})
    facts = [_tenant(tenant) for tenant in tenants.values()]
    try:
        Credentials(facts, admin_digests=admin_digests)
    except ValueError as error:
        (more or draft).fault("tenants", str(error))
    return facts


def _tenant(tenant: Tenant) -> TenantFacts:
    return TenantFacts(tenant.id, digests_of(tenant.keys), PRIORITIES.index(tenant.priority), tenant.labels)


def _rules(draft: Draft[Fleet]) -> list[RuleText]:
    _once(draft, "policies", "name")
    rules = [_rule(path, policy) for path, policy in draft.items("policies")]
    try:
        compile_rules(rules)
    except RuleError as error:
        for problem in error.problems:
            draft.fault(problem.where, problem.words())
    return rules


def _rule(path: str, policy: Policy) -> RuleText:
    effect = next(name for name in EFFECTS if getattr(policy, name) is not None)
    return RuleText(
        name=policy.name,
        when=policy.when,
        effect=effect,
        expr=getattr(policy, effect),
        weight=1.0 if policy.weight is None else policy.weight,
        reason=policy.reason,
        owner=policy.owner,
        valid_from_s=policy.from_,
        valid_until_s=policy.until,
        where=path,
    )


def _preferences(models: dict[str, ModelPolicy]) -> list[RuleText]:
    """`prefer` of a model as rules, so that preference has one mechanism: weights 1, then evenly down towards 0."""
    return [
        RuleText(
            name=f"models.{name}.prefer[{index}]",
            when=f'request.model == "{name}"',
            effect="prefer",
            expr=f'accelerator.class == "{wanted}"',
            weight=1.0 - index / len(model.prefer),
            where=f"models.{name}.prefer[{index}]",
        )
        for name, model in models.items()
        for index, wanted in enumerate(model.prefer)
    ]


def _routing(draft: Draft[Fleet]) -> RoutingSettings:
    profile: Profile = draft.value.routing.profile
    filters = list(FILTERS) if profile.filters is None else profile.filters
    scorers = DEFAULT_WEIGHTS if profile.scorers is None else profile.scorers
    at = "routing.profile"
    for index, name in enumerate(filters):
        if name not in FILTERS:
            draft.fault(f"{at}.filters[{index}]", unknown("filter", name, FILTERS))
        elif name in filters[:index]:
            draft.fault(f"{at}.filters[{index}]", f'"{name}" is listed twice')
    missing = [name for name in NEEDED_FILTERS if name not in filters]
    if missing and len(set(filters) & FILTERS.keys()) == len(filters):
        words = " and ".join(f'"{name}"' for name in missing)
        draft.fault(f"{at}.filters", f"lacks {words}: requests would go to pools that cannot take them")
    for name in scorers:
        if name not in SCORERS:
            draft.fault(f"{at}.scorers.{name}", unknown("scorer", name, SCORERS))
    if profile.picker not in PICKERS:
        draft.fault(f"{at}.picker", unknown("picker", profile.picker, PICKERS))
    return RoutingSettings(tuple(filters), scorers, profile.picker)
