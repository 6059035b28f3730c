"""The fleet as events have left it: who is ready, what they granted, what they last reported. Makes the snapshots.

Every count is the safe one: a report too old is no news, never a sign of idleness, and what this router itself has open
is always counted. A pool without a ready replica has no capacity.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from math import inf

import msgspec

from router.core.facts import PoolFacts
from router.core.fleet import FleetSnapshot, PoolView, ServingView
from router.core.predict import Curve, service_s
from router.protocol.link import Load, ModelGrant
from router.state.estimator import Estimator
from router.state.inflight import Held, Ledger

QUEUE_FULL = "queue_full"
"""A replica's word for a model that takes nothing now and will after a wait."""
_REFRESH_S = 0.25
"""How often estimates of silent pools are let fade."""


class ReplicaView(msgspec.Struct, frozen=True):
    """One replica, as it last told of itself."""

    name: str
    provider: str
    """The execution provider that its nodes run on."""
    draining: bool
    models: tuple[str, ...]
    waiting_rows: dict[str, int]
    """Rows queued or running by model, as last reported, however long ago."""
    closed: dict[str, str]
    """Models that it takes nothing for now, with its words."""


class _Replica(msgspec.Struct):
    grants: dict[str, ModelGrant]
    provider: str
    draining: bool = False
    waiting_rows: dict[str, int] = {}
    reported_s: float = -inf
    closed: dict[str, tuple[str, str]] = {}

    def takes(self, model: str) -> bool:
        """Whether it may be sent requests for the model."""
        return model in self.grants and not self.draining and model not in self.closed


class _Pool:
    """One configured pool. `models` and `reported` are replaced, never changed: snapshots share them."""

    __slots__ = (
        "capacity",
        "draining",
        "estimators",
        "facts",
        "held",
        "models",
        "ready",
        "replicas",
        "reported",
        "until_s",
    )

    def __init__(self, facts: PoolFacts, held: Held) -> None:
        self.facts = facts
        self.held = held
        self.replicas: dict[str, _Replica] = {}
        self.ready = 0
        self.draining = False
        self.capacity = 0
        self.models = {name: ServingView(version="", max_rows=0, curve=()) for name in facts.models}
        self.estimators: dict[str, Estimator] = {}
        self.reported: dict[str, int] = {}
        self.until_s = inf
        """Moment at which the first report within `reported` becomes too old."""


class FleetView:
    """Events in, snapshots out. Pools are those of the configuration, in its order; an unknown pool is a KeyError.

    Events about a replica that is not (or no longer) known are late and change nothing.
    """

    def __init__(
        self, pools: Sequence[PoolFacts], ledger: Ledger, *, queue_items: int, report_max_age_s: float = 1.0
    ) -> None:
        """`queue_items`: requests that may wait in this router per pool, on top of what replicas grant."""
        self._pools = {facts.name: _Pool(facts, ledger.held(facts.name)) for facts in pools}
        self._queue_items = queue_items
        self._max_age_s = report_max_age_s
        self._refreshed_s = -inf

    def replica_up(self, pool: str, replica: str, grants: Iterable[ModelGrant], *, provider: str = "") -> None:
        """A replica can take work, on the execution provider it says its nodes run on.

        Models that the pool's configuration does not list are left out.
        """
        at = self._pools[pool]
        at.replicas.pop(replica, None)
        listed = {g.model: g for g in grants if g.model in at.facts.models}
        at.replicas[replica] = _Replica(listed, provider)
        self._rebuild(at, measured=at.facts.models)

    def replica_down(self, pool: str, replica: str) -> None:
        """A replica is gone, with everything it had."""
        at = self._pools[pool]
        if at.replicas.pop(replica, None) is not None:
            self._rebuild(at)

    def replica_draining(self, pool: str, replica: str) -> None:
        """A replica finishes what it holds and takes nothing new."""
        at = self._pools[pool]
        found = at.replicas.get(replica)
        if found is not None and not found.draining:
            found.draining = True
            self._rebuild(at)

    def load(self, pool: str, replica: str, load: Load, now_s: float) -> None:
        """A load report, taken at `now_s`."""
        at = self._pools[pool]
        found = at.replicas.get(replica)
        if found is None:
            return
        found.waiting_rows = load.waiting_rows
        found.reported_s = now_s
        if load.draining:
            self.replica_draining(pool, replica)
        if load.grants or load.closed != found.closed:
            found.closed = load.closed
            found.grants |= {g.model: g for g in load.grants if g.model in found.grants}
            self._rebuild(at, measured={grant.model for grant in load.grants})
        self._recount(at, now_s)

    def observe(self, pool: str, model: str, batch_rows: int, run_s: float, weight: float, now_s: float) -> None:
        """A batch of the model ran for `run_s`. See Estimator.observe."""
        at = self._pools[pool]
        estimator = at.estimators.get(model)
        if estimator is not None and estimator.observe(batch_rows, run_s, weight, now_s):
            _apply(at, model, estimator)

    def able(self, pool: str, model: str, without: Sequence[str] = ()) -> bool:
        """Whether a replica that is not among `without` is ready for the model."""
        replicas = self._pools[pool].replicas.items()
        return any(r.takes(model) and name not in without for name, r in replicas)

    def providers(self, pool: str) -> tuple[str, ...]:
        """Providers on which the pool's replicas really run, each once, in the order they came up."""
        return tuple(dict.fromkeys(r.provider for r in self._pools[pool].replicas.values()))

    def replicas(self, pool: str) -> tuple[ReplicaView, ...]:
        """Every replica that is up, in the order they came."""
        known = self._pools[pool].replicas.items()
        views = []
        for name, r in known:
            closed = {model: words for model, (_, words) in r.closed.items()}
            views.append(ReplicaView(name, r.provider, r.draining, tuple(r.grants), r.waiting_rows, closed))
        return tuple(views)

    def snapshot(self, now_s: float) -> FleetSnapshot:
        """The fleet at `now_s`; later events do not change it."""
        if now_s - self._refreshed_s >= _REFRESH_S:
            self._refresh(now_s)
        views = []
        for name, at in self._pools.items():
            if at.until_s < now_s:
                self._recount(at, now_s)
            held = at.held
            waiting = held.rows.copy()
            for model, rows in at.reported.items():
                if rows > waiting.get(model, 0):
                    waiting[model] = rows
            facts = at.facts
            views.append(
                PoolView(
                    name,
                    facts.accelerator.name,
                    facts.emulated,
                    facts.cost,
                    at.ready,
                    at.draining,
                    held.requests,
                    at.capacity,
                    at.models,
                    waiting,
                    facts.emulation,
                    facts.region,
                )
            )
        return FleetSnapshot(now_s, tuple(views))

    def _refresh(self, now_s: float) -> None:
        self._refreshed_s = now_s
        for at in self._pools.values():
            for model, estimator in at.estimators.items():
                if estimator.refresh(now_s):
                    _apply(at, model, estimator)

    def _recount(self, at: _Pool, now_s: float) -> None:
        """Sum the reports that are young enough, draining replicas' left out: nothing new waits behind theirs."""
        reported: dict[str, int] = {}
        until_s = inf
        for replica in at.replicas.values():
            expires_s = replica.reported_s + self._max_age_s
            if replica.draining or expires_s < now_s:
                continue
            until_s = min(until_s, expires_s)
            for model, rows in replica.waiting_rows.items():
                if rows:
                    reported[model] = reported.get(model, 0) + rows
        at.reported = reported
        at.until_s = until_s

    def _rebuild(self, at: _Pool, *, measured: Collection[str] = ()) -> None:
        """What replicas there are or take has changed. Estimates of `measured` models start again, from new curves."""
        ready = [r for r in at.replicas.values() if not r.draining]
        at.ready = len(ready)
        at.draining = bool(at.replicas) and not ready
        at.capacity = sum(g.items for r in ready for g in r.grants.values())
        if at.capacity:
            at.capacity += self._queue_items
        models = dict(at.models)
        for name in at.facts.models:
            grants = [r.grants[name] for r in ready if r.takes(name)]
            if not grants:
                # The last known shape stays, so that the version can be told; without a curve it is not ready.
                said = [r.closed[name] for r in ready if name in r.closed]
                full = next((words for reason, words in said if reason == QUEUE_FULL), "")
                why = full or next((words for _, words in said), "")
                old = models[name]
                models[name] = ServingView(old.version, old.max_rows, (), old.variant, why=why, full=bool(full))
                if not said or name in measured:
                    at.estimators.pop(name, None)
                continue
            max_rows = min(g.max_rows for g in grants)
            if name in measured or name not in at.estimators:
                at.estimators[name] = Estimator(_mean_curve(grants), max_rows)
            models[name] = ServingView(grants[-1].version, max_rows, at.estimators[name].curve, grants[-1].variant)
        at.models = models
        at.until_s = -inf


def _apply(at: _Pool, model: str, estimator: Estimator) -> None:
    old = at.models[model]
    if not old.curve:  # closed for now
        return
    at.models = {**at.models, model: ServingView(old.version, old.max_rows, estimator.curve, old.variant)}


def _mean_curve(grants: Sequence[ModelGrant]) -> Curve:
    """Mean of the replicas' curves at every size that one of them measured; of one replica, its own."""
    curves = [tuple((rows, seconds) for rows, seconds in g.curve) for g in grants if g.curve]
    sizes = sorted({rows for curve in curves for rows, _ in curve})
    return tuple((rows, sum(service_s(c, rows) for c in curves) / len(curves)) for rows in sizes)
