"""Serve applications as the Helm chart names them: each gets its part of the fleet file as a value in `args`.

Owns what differs in pods: the image is the environment, node labels say which pod is for what, secrets are mounted
files. Reads nothing: these builders run on any node, while the files are there only where they are used.
"""

from __future__ import annotations

from typing import Any

from ray.serve import Application

from deployments import app
from deployments.backends import registry
from deployments.loopback import LoopbackOnly
from deployments.placement import CLASS_LABEL
from router.config.load import load_value
from router.config.settings import UPSTREAM, Settings

ROLE_LABEL = "pointsman.io/role"
ON_CPU = "x86-cpu"
ELSEWHERE = ("emulated", UPSTREAM)
"""Backends whose pools run on nodes of ON_CPU, whatever class they stand for. All others run on nodes of their own."""

ACCEPT_S = 10.0
"""How long a leaving router goes on accepting: until every node of Kubernetes has taken it out of the Service."""


def pool(args: dict[str, Any]) -> Application:
    """Application of one pool. `args`: {"fleet": a fleet file of this pool alone}. Raises ConfigError, LoopbackOnly."""
    settings = _settings(args)
    (only,) = settings.pools
    options = app.pool_options(only, settings)
    actor = options["ray_actor_options"]
    node = ON_CPU if only.backend in ELSEWHERE else only.facts.accelerator.name
    actor["label_selector"] = actor.get("label_selector", {}) | {CLASS_LABEL: node}
    return app.build_pool({"pool": app.pool_args(only, settings, _paths(settings)), "options": options})


def router(args: dict[str, Any]) -> Application:
    """Application of the router. `args`: {"fleet": what takes a restart to change, "metrics_dir", "settle_s"}.

    The whole fleet file comes as user_config. One replica to a node, whose ports it owns; so one leaves before its
    successor starts. Raises ConfigError, LoopbackOnly.
    """
    settings = _settings(args)
    options = app.router_options(settings) | {"max_replicas_per_node": 1, "max_surge_percent": 0}
    options["ray_actor_options"]["label_selector"] = {ROLE_LABEL: "router"}
    built = app.router_args(settings, _paths(settings, args["metrics_dir"]))
    built |= {"settle_s": float(args["settle_s"]), "accept_s": min(ACCEPT_S, settings.server.drain_s / 2)}
    return app.build_router({"router": built, "options": options})


def _settings(args: dict[str, Any]) -> Settings:
    settings = load_value(args["fleet"], kinds=registry.kinds(), certificates=False)
    if not settings.stream_beyond_loopback:
        raise LoopbackOnly("streams between pods are not encrypted: stream.beyond_loopback: true says that they may be")
    return settings


def _paths(settings: Settings, metrics_dir: str = "") -> app.Paths:
    return app.Paths(settings.model_store, settings.stream_key_file, metrics_dir)
