"""What every exchange of one router replica shares: who may ask, for what, and through which doors.

Owns no request; exchange.py does. A reload replaces what it holds between two requests.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from models.spec import ModelSpec
from router.core.errors import CapacityError, RequestError, RouterError
from router.core.facts import TenantFacts
from router.core.outcome import MAX_QUOTED, unknown_model
from router.core.record import RequestRecord
from router.core.request import RequestFacts
from router.policy.credentials import Credentials
from router.policy.table import PolicyTable
from router.protocol.codec import Body, ParseLimits
from router.protocol.metadata import ModelTotals
from router.protocol.problem import problem
from router.service.cycle import Cycle
from router.service.exchange import Exchange, OnEnd
from router.service.head import Head, ModelDefaults, RequestTimes, Terms, hops, narrowing
from router.service.ports import Clock, Dispatcher, NoDispatcher, NoTotals, RecordHook, Timers, Totals
from router.service.reply import Badge, Reply, failed
from router.service.turns import Turns

log = logging.getLogger("pointsman.request")

NO_KEY = "no valid API key: send `Authorization: Bearer <key>`"
LARGE_TEXT_BYTES = 64 * 1024
"""JSON above this takes turns: it holds the loop for 10 ns a byte."""
QUOTA_RETRY_S = 1.0


class Handler(msgspec.Struct):
    """One per router replica."""

    specs: Mapping[str, Mapping[str, ModelSpec]]
    """Model name to version to spec, the version served by default first."""
    defaults: Mapping[str, ModelDefaults]
    credentials: Credentials
    policy: PolicyTable
    cycle: Cycle
    timers: Timers
    clock: Clock
    record: RecordHook
    badges: Mapping[str, Badge]
    """What replies say of each pool, by its name."""
    limits: ParseLimits
    dispatcher: Dispatcher = NoDispatcher()
    totals: Totals = NoTotals()
    reveal_pools: bool = True
    """Whether tenants may be told of the pools they use."""
    generation: object = msgspec.field(default_factory=object)
    """Identity of the configuration in force; a reload brings a new one."""
    open_exchanges: int = 0
    max_per_tenant: int = 4096
    """Exchanges of one tenant under way at once."""
    under_way: dict[str, int] = msgspec.field(default_factory=dict)
    """Exchanges by tenant."""
    _turns: Turns | None = None
    _next_id: int = 0

    def start(self, head: Head, body: Body, on_end: OnEnd) -> Exchange:
        """Begin one request. `on_end` is called once, possibly before this returns, unless it is cancelled first."""
        exchange = Exchange(self, head, on_end)
        self.open_exchanges += 1
        terms = head.terms
        known = terms is not None and terms.generation is self.generation
        tenant = terms.tenant if terms and known else self.credentials.authenticate(head.credential)
        if tenant is not None:
            exchange.counted = tenant.id
            under_way = self.under_way[tenant.id] = self.under_way.get(tenant.id, 0) + 1
            if under_way > self.max_per_tenant:
                detail = f"the tenant has {self.max_per_tenant} requests under way already"
                exchange.refuse(CapacityError("quota_exceeded", detail, retry_after_s=QUOTA_RETRY_S))
                return exchange
        if len(body) > LARGE_TEXT_BYTES and head.codec.text_bytes(body) > LARGE_TEXT_BYTES:
            exchange.wait(body)
            self._large_turns().take(exchange.run_late)
        else:
            exchange.run(body)
        return exchange

    def _large_turns(self) -> Turns:
        if self._turns is None:
            self._turns = Turns(self.clock, self.timers, lambda: self._next_id)
        return self._turns

    def terms(self, head: Head, tenant: TenantFacts) -> Terms:
        """What the head of a proven tenant asks for, kept in it for requests like it. Raises RequestError."""
        spec = self.spec(head, tenant)
        times = RequestTimes.read(head, self.defaults[head.model], tenant.priority)
        terms = head.terms = Terms(
            self.generation, tenant, spec, spec.accepted_inputs(), times, narrowing(head), hops(head)
        )
        return terms

    def refused(self, head: Head, error: RouterError) -> Reply:
        """The reply to a request refused before it was whole; it is recorded as every end of a request is."""
        tenant = self.credentials.authenticate(head.credential)
        model = head.model if tenant and self._visible(tenant, head.model) else ""
        status = problem(error.reason).status
        self.record(RequestRecord(head.request_id, tenant.id if tenant else "", model, error.reason, status))
        log.info("request %s: %s: %s", head.request_id, error.reason, error.detail)
        return failed(error, head.request_id)

    def ended(self, record: RequestRecord, counted: str) -> None:
        """An exchange has ended; it was counted as under way for that tenant, "" for none."""
        self.open_exchanges -= 1
        if counted:
            self.under_way[counted] -= 1
        self.record(record)

    def new_item_id(self) -> int:
        """Unique among the items this router sends."""
        self._next_id += 1
        return self._next_id

    def authenticate(self, head: Head) -> TenantFacts:
        """The tenant that the credential proves. Raises RequestError."""
        tenant = self.credentials.authenticate(head.credential)
        if tenant is None:
            raise RequestError("unauthenticated", NO_KEY)
        return tenant

    def knows(self, head: Head) -> bool:
        """Whether the head's credential proves a tenant, now or earlier under this very configuration."""
        known = head.terms
        if known is not None and known.generation is self.generation:
            return True
        return self.credentials.authenticate(head.credential) is not None

    def spec(self, head: Head, tenant: TenantFacts) -> ModelSpec:
        """The model that the request names. Raises RequestError: for the tenant, one it may not use is not there."""
        versions = self._visible(tenant, head.model)
        spec = versions.get(head.version) if head.version else next(iter(versions.values()), None)
        if spec is None:
            raise unknown_model(head.model, head.version)
        return spec

    def facts(
        self, head: Head, tenant: TenantFacts, times: RequestTimes, rows: int, nbytes: int, arrived_s: float
    ) -> RequestFacts:
        """The request as the core sees it."""
        row = self.policy.lookup(tenant.id, head.model, head.version, times.priority)
        return RequestFacts(
            head.request_id, tenant.id, head.model, head.version, rows, nbytes, arrived_s,
            arrived_s + times.timeout_s, times.target_s, times.priority, row,
        )  # fmt: skip

    def explain(self, head: Head, rows: int) -> dict[str, object]:
        """What would be decided now for the tenant, who sees only pools that it may use. Raises RequestError."""
        tenant = self.authenticate(head)
        if not self.reveal_pools:
            raise RequestError("not_found", "this server tells no tenant of its pools: ask its operator")
        facts = self._probe(head, tenant, rows)
        return self.cycle.explain(facts, facts.arrived_s, show_ineligible=False)

    def explain_for(self, tenant_id: str, head: Head, rows: int) -> dict[str, object]:
        """The same for the operator: any tenant, any model of the store, all pools. Raises RequestError."""
        tenant = self.credentials.tenant(tenant_id)
        if tenant is None:
            raise RequestError("malformed", f"explain: there is no tenant {tenant_id[:MAX_QUOTED]!r}")
        if head.model not in self.specs:
            raise unknown_model(head.model, head.version)
        times = RequestTimes.read(head, self.defaults[head.model], tenant.priority)
        facts = self.facts(head, tenant, times, rows, 0, self.clock.now_s())
        facts.only = narrowing(head)
        return self.cycle.explain(facts, facts.arrived_s)

    def model(self, head: Head) -> tuple[ModelSpec, list[str]]:
        """A model and its versions. Raises RequestError."""
        spec = self.spec(head, self.authenticate(head))
        return spec, list(self.specs[head.model])

    def model_ready(self, head: Head) -> bool:
        """Whether an idle router would now find a pool for this tenant and model. Raises RequestError."""
        facts = self._probe(head, self.authenticate(head), 1)
        return bool(self.cycle.decide(facts, facts.arrived_s).pool)

    def index(self, head: Head) -> list[tuple[str, str, bool]]:
        """(name, version, ready) of every model that the tenant may use. Raises RequestError.

        Ready: a pool that some request class of the tenant may use has a ready replica with that version.
        """
        tenant = self.authenticate(head)
        pools = [pool for pool in self.cycle.snapshot(self.clock.now_s()).pools if pool.ready_replicas]
        found = []
        for name in self.specs:
            for version in self._visible(tenant, name):
                allowed = self.policy.allowed(tenant, name, version)
                serving = (pool.models[name] for pool in pools if pool.name in allowed and name in pool.models)
                found.append((name, version, any(s.curve and s.version == version for s in serving)))
        return found

    async def statistics(self, head: Head) -> list[tuple[str, str, ModelTotals]]:
        """(name, version, totals) of the model that the head names, or with "" of every one the tenant may use.

        Pools serve the default version, so the counts stand under that one. Raises RequestError, OSError.
        """
        tenant = self.authenticate(head)
        if head.model:
            spec = self.spec(head, tenant)
            asked = {head.model: [spec.version] if head.version else list(self.specs[head.model])}
        else:
            asked = {name: list(self._visible(tenant, name)) for name in self.specs}
        specs = self.specs  # a reload may replace them meanwhile
        totals = await self.totals.by_model()
        none = ModelTotals()
        return [
            (name, version, totals.get(name, none) if version == next(iter(specs[name])) else none)
            for name, versions in asked.items()
            for version in versions
        ]

    def any_pool_ready(self) -> bool:
        """Whether some pool has a ready replica."""
        return self.cycle.any_ready(self.clock.now_s())

    def _visible(self, tenant: TenantFacts, model: str) -> Mapping[str, ModelSpec]:
        """Versions of a model, none where the tenant may not know of it."""
        if not self.policy.lookup(tenant.id, model, "", tenant.priority).visible:
            return {}
        return self.specs.get(model, {})

    def _probe(self, head: Head, tenant: TenantFacts, rows: int) -> RequestFacts:
        self.spec(head, tenant)
        times = RequestTimes.read(head, self.defaults[head.model], tenant.priority)
        facts = self.facts(head, tenant, times, rows, 0, self.clock.now_s())
        facts.only = narrowing(head)
        return facts
