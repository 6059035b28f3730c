"""The composition root: settings to Ray Serve applications, one per pool and one for the router.

Everything that would restart replicas when it changes is in `args`; what may change while they run is user_config.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from ray import serve
from ray.serve import Application
from ray.serve.config import RequestRouterConfig

from deployments.environments import runtime_env
from deployments.membership import POOL_DEPLOYMENT, app_name
from deployments.placement import place
from deployments.pool import PoolArgs, PoolReplica
from deployments.router_server import RouterArgs, RouterReplica
from router.config.settings import PoolSettings, Settings

ROUTER_APP = "router"
ROUTER_DEPLOYMENT = "RouterReplica"
ROUTER_CPUS = 0.1
HEALTH_PERIOD_S = 2.0
REPLICA_MAX_ITEMS = 4096
"""Items a lane of a replica holds at most, all routers together."""
SETTLE_S = 3.0
"""How long a new router waits for its pools. Where they are slower, clients are told so."""
ACCEPT_S = 1.0
"""How long a leaving router goes on accepting, so that what still connects to it is answered."""
STOP_MARGIN_S = 5.0
"""Serve notices up to 2 s late that a replica may stop, and that counts against its shutdown timeout."""


class Paths(msgspec.Struct, frozen=True):
    """Folders and files of one running fleet, absolute."""

    store: str
    key_file: str
    metrics_dir: str


def build_pool(args: dict[str, Any]) -> Application:
    """Serve application of one pool. `args`: {"pool": PoolArgs, "options": deployment options, "generation": n}."""
    options = dict(args["options"])
    router = RequestRouterConfig(request_router_class="deployments.membership:MembershipWatcher")
    deployment = serve.deployment(PoolReplica, name=POOL_DEPLOYMENT, request_router_config=router, **options)
    return deployment.bind(args["pool"])


def build_router(args: dict[str, Any]) -> Application:
    """Serve application of the router. `args`: {"router": RouterArgs, "options": ..., "generation": n}."""
    deployment = serve.deployment(RouterReplica, name=ROUTER_DEPLOYMENT, **args["options"])
    return deployment.bind(args["router"])


def applications(settings: Settings, paths: Paths, generations: dict[str, int] | None = None) -> list[dict[str, Any]]:
    """Every application of the fleet as Serve's config schema has it. A raised generation restarts that one alone."""
    generations = generations or {}
    pools = [_pool(pool, settings, paths, generations.get(app_name(pool.facts.name), 0)) for pool in settings.pools]
    return [*pools, _router(settings, paths, generations.get(ROUTER_APP, 0))]


def _pool(pool: PoolSettings, settings: Settings, paths: Paths, generation: int) -> dict[str, Any]:
    options = pool_options(pool, settings)
    if pool.backend == "onnx":
        options["ray_actor_options"]["runtime_env"] = runtime_env(pool.facts.provider)
    options |= replica_count(pool)
    built = {"pool": pool_args(pool, settings, paths), "options": options, "generation": generation}
    return _application(app_name(pool.facts.name), "build_pool", built, [])


def pool_args(pool: PoolSettings, settings: Settings, paths: Paths) -> dict[str, Any]:
    """What a pool's replicas are made from, as plain values."""
    facts = pool.facts
    args = PoolArgs(
        name=facts.name,
        accelerator=facts.accelerator.name,
        emulated=facts.emulated,
        facts=facts.digest(),
        backend=pool.backend,
        options=dict(pool.options),
        models=facts.models,
        max_rows={name: m.max_rows for name, m in settings.models.items() if m.max_rows and name in facts.models},
        variants=pool.variants,
        provider=pool.native_provider,
        store=paths.store,
        key_file=paths.key_file,
        beyond_loopback=settings.stream_beyond_loopback,
        max_items=REPLICA_MAX_ITEMS,
        max_bytes=settings.limits.queue_bytes_per_pool,
        drain_s=settings.server.drain_s,
        region=facts.region,
    )
    built: dict[str, Any] = msgspec.to_builtins(args)
    return built


def pool_options(pool: PoolSettings, settings: Settings) -> dict[str, Any]:
    """Serve's options of a pool, less the number of replicas and the environment they run in."""
    return {
        "ray_actor_options": place(pool).ray_actor_options(),
        "health_check_period_s": HEALTH_PERIOD_S,
        "graceful_shutdown_timeout_s": settings.server.drain_s + STOP_MARGIN_S,
        "max_constructor_retry_count": 3,
    }


def replica_count(pool: PoolSettings) -> dict[str, Any]:
    """Serve's options for the number of replicas."""
    if pool.replicas_min == pool.replicas_max:
        return {"num_replicas": pool.replicas_min}
    return {"autoscaling_config": {"min_replicas": pool.replicas_min, "max_replicas": pool.replicas_max}}


def _router(settings: Settings, paths: Paths, generation: int) -> dict[str, Any]:
    options = router_options(settings) | {"num_replicas": settings.server.routers, "max_surge_percent": 100}
    built = {"router": router_args(settings, paths), "options": options, "generation": generation}
    settings_wire = [{"name": ROUTER_DEPLOYMENT, "user_config": settings.to_wire()}]
    return _application(ROUTER_APP, "build_router", built, settings_wire)


def router_args(settings: Settings, paths: Paths) -> dict[str, Any]:
    """What a router's replicas are made from, as plain values."""
    server = settings.server
    args = RouterArgs(
        server=server,
        body_bytes=settings.limits.body_bytes,
        metrics_dir=paths.metrics_dir,
        store=paths.store,
        key_file=paths.key_file,
        settle_s=SETTLE_S,
        accept_s=min(ACCEPT_S, server.drain_s / 2),
        drain_s=server.drain_s,
        version=version("pointsman"),
    )
    built: dict[str, Any] = msgspec.to_builtins(args)
    return built


def router_options(settings: Settings) -> dict[str, Any]:
    """Serve's options of the router, less their number and how they are replaced."""
    return {
        "ray_actor_options": {"num_cpus": ROUTER_CPUS},
        "health_check_period_s": HEALTH_PERIOD_S,
        "graceful_shutdown_timeout_s": settings.server.drain_s + STOP_MARGIN_S,
    }


def _application(name: str, builder: str, args: dict[str, Any], deployments: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "route_prefix": None,
        "import_path": f"deployments.app:{builder}",
        "args": args,
        "deployments": deployments,
    }


def default_paths(settings: Settings, state: Path) -> Paths:
    """Where a local fleet keeps its things: what the settings name, else folders under `state`."""
    return Paths(
        store=settings.model_store or str((state / "models").resolve()),
        key_file=settings.stream_key_file or str((state / "run" / "stream.key").resolve()),
        metrics_dir=str((state / "run" / "metrics").resolve()),
    )
