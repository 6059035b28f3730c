"""What every exchange of one router replica shares: who may ask, for what, and through which doors.

Owns no request; exchange.py does. A reload replaces what it holds between two requests.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial

import msgspec

from models.spec import ModelSpec
from router.core.errors import CapacityError, RequestError, RouterError
from router.core.facts import TenantFacts
from router.core.record import RequestRecord
from router.core.request import RequestFacts
from router.policy.credentials import Credentials
from router.policy.table import PolicyTable
from router.protocol.codec import Body
from router.protocol.oip import JSON
from router.protocol.problem import problem
from router.service.cycle import Cycle
from router.service.exchange import Exchange, OnEnd
from router.service.head import Head, ModelDefaults, RequestTimes, Terms
from router.service.ports import Clock, Dispatcher, NoDispatcher, RecordHook, Timers
from router.service.reply import Badge, Reply, failed
from router.service.turns import Turns

log = logging.getLogger("pointsman.request")

NO_KEY = "no valid API key: send `Authorization: Bearer <key>`"
LARGE_JSON_BYTES = 64 * 1024
"""JSON above this takes turns: it holds the loop for 10 ns a byte."""
QUOTA_RETRY_S = 1.0
MAX_QUOTED = 128
"""Characters of a client's own words that an error repeats."""


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
    max_elements: int
    dispatcher: Dispatcher = NoDispatcher()
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
        if len(body) > LARGE_JSON_BYTES and head.codec is JSON:
            self._large_turns().take(partial(exchange.run_late, body))
        else:
            exchange.run(body)
        return exchange

    def _large_turns(self) -> Turns:
        if self._turns is None:
            self._turns = Turns(self.clock, self.timers, lambda: self._next_id)
        return self._turns

    def terms(self, head: Head, tenant: TenantFacts) -> Terms:
        """What the head of a proven tenant asks for, kept in it for requests like it. Raises RequestError."""
        spec = self.spec(head)
        times = RequestTimes.read(head, self.defaults[head.model], tenant.priority)
        terms = head.terms = Terms(self.generation, tenant, spec, spec.accepted_inputs(), times)
        return terms

    def refused(self, head: Head, error: RouterError) -> Reply:
        """The reply to a request refused before it was whole; it is recorded as every end of a request is."""
        tenant = self.credentials.authenticate(head.credential)
        model = head.model if tenant and head.model in self.specs else ""
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

    def spec(self, head: Head) -> ModelSpec:
        """The model that the request names. Raises RequestError in the words Triton's clients know."""
        versions = self.specs.get(head.model)
        if versions:
            spec = versions.get(head.version) if head.version else next(iter(versions.values()))
            if spec is not None:
                return spec
        version = f" version {head.version[:MAX_QUOTED]!r}" if head.version else ""
        asked = f"{head.model[:MAX_QUOTED]!r}{version}"
        raise RequestError("model_not_found", f"Request for unknown model: {asked} is not found")

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
        """What would be decided now, with a reason for each pool; dispatches nothing. Raises RequestError."""
        facts = self._probe(head, rows)
        return self.cycle.explain(facts, facts.arrived_s)

    def model(self, head: Head) -> tuple[ModelSpec, list[str]]:
        """A model and its versions, for a tenant with a valid key. Raises RequestError."""
        self.authenticate(head)
        return self.spec(head), list(self.specs[head.model])

    def model_ready(self, head: Head) -> bool:
        """Whether an idle router would now find a pool for this tenant and model. Raises RequestError."""
        facts = self._probe(head, 1)
        return bool(self.cycle.decide(facts, facts.arrived_s).pool)

    def any_pool_ready(self) -> bool:
        """Whether some pool has a ready replica."""
        return self.cycle.any_ready(self.clock.now_s())

    def _probe(self, head: Head, rows: int) -> RequestFacts:
        tenant = self.authenticate(head)
        self.spec(head)
        times = RequestTimes.read(head, self.defaults[head.model], tenant.priority)
        return self.facts(head, tenant, times, rows, 0, self.clock.now_s())
