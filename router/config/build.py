"""From settings to the values that decide: the plugin table, the routing profile, the policy table. Reads no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from router.config.schema_upstream import UpstreamKeys
from router.config.settings import UPSTREAM, RoutingSettings, Settings
from router.core.filters.capacity import capacity
from router.core.filters.deadline import deadline
from router.core.filters.model import model
from router.core.filters.readiness import readiness
from router.core.pickers.max_score import max_score
from router.core.pickers.power_of_two import power_of_two
from router.core.plugins import Filter, Picker, Scorer
from router.core.profile import RoutingProfile, default_profile
from router.core.scorers.cost import Cost
from router.core.scorers.headroom import Headroom
from router.core.scorers.latency import Latency
from router.policy.table import PolicyTable, policy_version

FILTERS: dict[str, Filter] = {"model": model, "readiness": readiness, "capacity": capacity, "deadline": deadline}
NEEDED_FILTERS = ("model", "readiness", "capacity")
"""Without these a decision could name a pool that cannot take the request."""
SCORERS: dict[str, Scorer] = {scorer.name: scorer for scorer in (Latency(), Headroom(), Cost())}
PICKERS: dict[str, Picker] = {"max_score": max_score, "power_of_two": power_of_two}
BACKENDS: dict[str, frozenset[str]] = {
    "onnx": frozenset({"provider", "threads"}),
    "emulated": frozenset({"time_scale", "seed", "profile"}),
    UPSTREAM: frozenset(UpstreamKeys.model_fields),
}
"""Backend kinds with the options they take."""
PROVIDERS = frozenset({"cpu", "openvino", "cuda", "tensorrt", "cann"})
"""Execution providers of the onnx backend."""

KINDRED: dict[str, tuple[str, ...]] = {
    "cpu": ("cpu", "openvino"),
    "openvino": ("cpu", "openvino"),
    "cuda": ("cuda", "tensorrt"),
    "tensorrt": ("cuda", "tensorrt"),
    "cann": ("cann",),
}
"""A class's default provider to every provider that runs on the same hardware."""

DEFAULT_WEIGHTS = default_profile().weights


def routing_profile(settings: RoutingSettings) -> RoutingProfile:
    """The profile that the settings name. Raises KeyError on a name that is not in the table."""
    return RoutingProfile(
        name="configured",
        filters=tuple(FILTERS[name] for name in settings.filters),
        scorers=tuple((SCORERS[name], weight) for name, weight in settings.scorers.items()),
        picker=PICKERS[settings.picker],
    )


def policy_table(settings: Settings, models: Mapping[str, Sequence[str]]) -> PolicyTable:
    """The table of these settings, not yet filled. `models`: versions by model name. Raises RuleError."""
    pools = [pool.facts for pool in settings.pools]
    version = policy_version(settings.rules, settings.tenants, pools, settings.default_allow)
    return PolicyTable(version, settings.rules, settings.tenants, pools, models, settings.default_allow)
