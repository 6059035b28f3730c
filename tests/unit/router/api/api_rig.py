"""A router without Ray: the real settings, state and applications over pools whose replicas the test brings up."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import yaml

from deployments.runtime import LoopTimers, RouterState, router_state
from models.spec import BatchRule, ModelSpec, TensorSpec, TextInput, Variant
from router.api.admin import admin_app
from router.api.asgi import data_app
from router.api.heads import RequestIds
from router.api.plane import DataPlane
from router.config.load import load
from router.policy.credentials import digest
from router.protocol.link import ModelGrant
from router.service.clock import SystemClock
from router.service.status import fleet_status
from router.telemetry.metrics import Metrics

KEYS = {name: f"pm_{name}" for name in ("all", "part", "late", "admin")}
FLEET = {
    "pools": [
        {"name": "open", "accelerator": "x86-cpu", "region": "r", "models": ["shown", "words"]},
        {"name": "trial", "accelerator": "x86-cpu", "region": "r", "models": ["shown"]},
        {"name": "secret", "accelerator": "nvidia-h20", "region": "r", "models": ["hidden", "shown"],
         "backend": {"type": "emulated"}},
    ],
    "tenants": [
        {"id": "all", "priority": "interactive", "keys": [f"sha256:{digest(KEYS['all'])}"]},
        {"id": "part", "priority": "interactive", "keys": [f"sha256:{digest(KEYS['part'])}"]},
        {"id": "late", "priority": "batch", "keys": [f"sha256:{digest(KEYS['late'])}"]},
    ],
    "policies": [
        {"name": "everybody", "when": "true", "allow": "true"},
        {"name": "the-secret-rule", "when": 'tenant.id != "all"', "deny": 'pool.name == "secret"'},
        {"name": "no-batch-on-trial", "when": 'request.priority == "batch"', "deny": 'pool.name == "trial"'},
        {"name": "words-are-not-for-batch", "when": 'request.model == "words"',
         "deny": 'request.priority == "batch"'},
    ],
    "server": {"admin": {"keys": [f"sha256:{digest(KEYS['admin'])}"]}},
}  # fmt: skip
"""`part` may use everything but the pool `secret`, which alone serves `hidden`; `late` has batch priority only."""


VARIANTS = (Variant("fp32", "a.onnx", ""), Variant("fp16", "b.onnx", ""))


def _spec(name: str, version: str = "1", text: TextInput | None = None) -> ModelSpec:
    inputs = (TensorSpec("x", "FP32", ("batch", 4)),)
    return ModelSpec(
        name, version, inputs, (TensorSpec("y", "FP32", ("batch", "n")),), BatchRule(8), VARIANTS, text=text
    )


WORDS = TextInput(TensorSpec("text", "BYTES", ("batch",)), "tokenizer.json")
SPECS = {
    "shown": {"1": _spec("shown"), "2": _spec("shown", "2")},
    "hidden": {"1": _spec("hidden")},
    "words": {"1": _spec("words", text=WORDS)},
}


class Rig:
    """One router's parts, and clients of its two applications."""

    def __init__(self, state: RouterState, plane: DataPlane, data: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
        self.state = state
        self.plane = plane
        self.data = data
        self.admin = admin

    def up(self, pool: str, model: str = "shown", version: str = "2") -> None:
        """A replica of the pool with one model."""
        grants = [ModelGrant(model, version, 8, 8, 1 << 20, [(1, 0.001), (8, 0.002)])]
        self.state.fleet.replica_up(pool, f"{pool}-{model}", grants, provider="cpu")

    def reload(self, tmp_path: Path, **server: object) -> None:
        """Put the same fleet with other `server` settings in force."""
        settings = load(fleet_file(tmp_path, **server), SPECS)
        self.state.put_in_force(self.state.prepare(settings, SPECS))


def fleet_file(tmp_path: Path, **server: object) -> Path:
    """The fleet as a file, with these keys of `server` besides."""
    fleet = copy.deepcopy(FLEET)
    fleet["server"] |= server
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump(fleet))
    return path


def bearer(who: str, **more: str) -> dict[str, str]:
    """Headers with that key; `more` names headers with _ for -."""
    return {"authorization": f"Bearer {KEYS[who]}"} | {name.replace("_", "-"): value for name, value in more.items()}


@asynccontextmanager
async def running(tmp_path: Path, **server: object) -> AsyncIterator[Rig]:
    """The parts of a router for FLEET; no replica is up."""
    metrics = Metrics(tmp_path / "metrics")
    settings = load(fleet_file(tmp_path, **server), SPECS)
    state = router_state(settings, SPECS, LoopTimers(asyncio.get_running_loop()), SystemClock(), metrics)
    plane = DataPlane(state.handler, RequestIds("t"), settings.server.http, settings.limits.body_bytes, "0.0.0")

    def status() -> dict[str, object]:
        return {"pools": fleet_status(state.fleet, state.clock.now_s())}

    async with (
        httpx.AsyncClient(transport=httpx.ASGITransport(data_app(plane)), base_url="http://data") as data,
        httpx.AsyncClient(transport=httpx.ASGITransport(admin_app(plane, status)), base_url="http://admin") as admin,
    ):
        yield Rig(state, plane, data, admin)
    metrics.close()
