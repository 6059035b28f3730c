"""Puts the router's parts together for one process: settings to state, policy, cycle and handler. No Ray here."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from deployments.backends import registry
from models.repository import latest
from models.spec import ModelSpec
from router.config.build import policy_table, routing_profile
from router.config.load import load_value
from router.config.settings import ModelPolicy, Settings
from router.core.profile import RoutingProfile
from router.policy.credentials import Credentials
from router.policy.table import PolicyTable
from router.protocol.codec import ParseLimits
from router.service.cycle import Cycle
from router.service.handler import Handler
from router.service.head import ModelDefaults
from router.service.ports import Clock
from router.service.reply import Badge, badge
from router.state.fleet_view import FleetView
from router.state.inflight import Ledger
from router.state.pool_queue import PoolQueue
from router.telemetry.metrics import Metrics
from router.telemetry.totals import NodeTotals

Specs = Mapping[str, Mapping[str, ModelSpec]]

UNSERVED = ModelPolicy(latency_target_s=0.1, deadline_s=2.0, prefer=(), max_rows=None)
"""Times of a model that is in the store but in no pool; its requests end in the decision."""


class LoopTimers:
    """router.service.ports.Timers on an asyncio loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Callable[[], None]:
        """See Timers.call_later."""
        return self._loop.call_later(delay_s, callback).cancel


class Prepared(msgspec.Struct, frozen=True):
    """A configuration worked out and ready to be put in force."""

    settings: Settings
    specs: Specs
    policy: PolicyTable
    credentials: Credentials
    defaults: dict[str, ModelDefaults]
    profile: RoutingProfile


class RouterState(msgspec.Struct):
    """The parts of a router that outlive a reload, and the handler in force."""

    handler: Handler
    fleet: FleetView
    queues: dict[str, PoolQueue]
    facts: dict[str, str]
    """Digest of each pool's facts, by name."""
    clock: Clock
    metrics: Metrics

    def prepare(self, settings: Settings, specs: Specs) -> Prepared:
        """Work out new settings, off the event loop; changes nothing. Raises where they cannot be put in force."""
        if fact_digests(settings) != self.facts:
            raise ValueError("pools or their facts have changed: that takes a restart of the router and of those pools")
        return prepare(settings, specs, self.clock.unix_s())

    def put_in_force(self, new: Prepared) -> None:
        """On the event loop: between two requests, so that each sees the old configuration or the new one, whole."""
        handler = self.handler
        handler.policy, handler.credentials, handler.defaults = new.policy, new.credentials, new.defaults
        handler.specs, handler.limits = new.specs, parse_limits(new.settings)
        handler.reveal_pools, handler.badges = new.settings.server.http.reveal_pools, pool_badges(new.settings)
        handler.max_per_tenant = new.settings.limits.requests_per_tenant
        handler.cycle = handler.cycle.with_profile(new.profile)
        handler.generation = object()
        configure_metrics(self.metrics, new.settings, new.specs)


def settings_of_value(value: dict[str, Any], specs: Specs) -> Settings:
    """Settings from Serve's user_config: as `to_wire` wrote them or, from the Helm chart, {"fleet": a fleet file}.

    Raises msgspec.ValidationError and ConfigError.
    """
    return load_value(value["fleet"], set(specs), registry.kinds()) if "fleet" in value else Settings.from_wire(value)


def prepare(settings: Settings, specs: Specs, unix_s: float) -> Prepared:
    """Everything that follows from settings and models alone."""
    served = newest_first(specs, settings)
    return Prepared(
        settings,
        served,
        filled_table(settings, served, unix_s),
        Credentials(
            settings.tenants, anonymous=settings.server.anonymous, admin_digests=settings.server.admin.key_digests
        ),
        model_defaults(settings, served),
        routing_profile(settings.routing),
    )


def fact_digests(settings: Settings) -> dict[str, str]:
    """Digest of the facts of each pool, by name."""
    return {pool.facts.name: pool.facts.digest() for pool in settings.pools}


def router_state(settings: Settings, specs: Specs, timers: LoopTimers, clock: Clock, metrics: Metrics) -> RouterState:
    """A router's parts for these settings. The dispatcher is still to be set on the handler."""
    new = prepare(settings, specs, clock.unix_s())
    facts = [pool.facts for pool in settings.pools]
    limits = settings.limits
    ledger = Ledger()
    fleet = FleetView(facts, ledger, queue_items=limits.queue_items_per_pool)
    queues = {f.name: PoolQueue(limits.queue_items_per_pool, limits.queue_bytes_per_pool) for f in facts}
    rng = random.Random()
    handler = Handler(
        specs=new.specs,
        defaults=new.defaults,
        credentials=new.credentials,
        policy=new.policy,
        cycle=Cycle(fleet, ledger, new.profile, rng),
        timers=timers,
        clock=clock,
        record=metrics.observe,
        badges=pool_badges(settings),
        limits=parse_limits(settings),
        totals=NodeTotals(metrics.folder, metrics.flush),
        reveal_pools=settings.server.http.reveal_pools,
        max_per_tenant=limits.requests_per_tenant,
    )
    configure_metrics(metrics, settings, new.specs)
    return RouterState(handler, fleet, queues, fact_digests(settings), clock, metrics)


def pool_badges(settings: Settings) -> dict[str, Badge]:
    """What replies say of each pool, by its name."""
    reveal = settings.server.http.reveal_pools
    facts = [pool.facts for pool in settings.pools]
    return {f.name: badge(f.name, f.accelerator.name, f.emulated, reveal) for f in facts}


def parse_limits(settings: Settings) -> ParseLimits:
    """What one request may hold."""
    return ParseLimits(settings.limits.max_elements, settings.server.http.max_json_bytes)


def newest_first(specs: Specs, settings: Settings) -> dict[str, dict[str, ModelSpec]]:
    """Versions of each model, the one served by default first, with the largest batch that the settings let it have."""
    ordered = {}
    for name, versions in specs.items():
        newest = latest(versions)
        bound = settings.models.get(name, UNSERVED).max_rows
        bounded = {version: spec.bounded(bound) for version, spec in versions.items()}
        ordered[name] = {newest: bounded[newest], **bounded}
    return ordered


def filled_table(settings: Settings, specs: Specs, unix_s: float) -> PolicyTable:
    """The table of the settings' rules, filled for now."""
    table = policy_table(settings, {name: list(versions) for name, versions in specs.items()})
    table.fill(unix_s)
    return table


def model_defaults(settings: Settings, specs: Specs) -> dict[str, ModelDefaults]:
    """Times for every model of the store, configured or not."""
    maximum_s = settings.limits.max_deadline_s
    defaults = {}
    for name in specs:
        policy = settings.models.get(name, UNSERVED)
        defaults[name] = ModelDefaults(policy.latency_target_s, policy.deadline_s, maximum_s)
    return defaults


def configure_metrics(metrics: Metrics, settings: Settings, specs: Specs) -> None:
    """Tell the metrics which label values there are."""
    metrics.configure(
        version=settings.digest,
        tenants=[tenant.id for tenant in settings.tenants],
        models=list(specs),
        pools=[pool.facts for pool in settings.pools],
    )
