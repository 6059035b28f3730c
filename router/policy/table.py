"""The table of eligibility: every (tenant, model, version, request class) to the verdict on every pool, filled ahead.

A look-up is one dict get and evaluates nothing. What the table does not know has no verdicts: fail closed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from router.core.eligibility import EligibilityRow
from router.core.facts import PoolFacts, RuleText, TenantFacts
from router.policy.judge import Judge
from router.policy.rules import compile_rules
from router.policy.variables import PRIORITIES, request_facts

_Key = tuple[str, str, str, int]


def policy_version(
    rules: Sequence[RuleText], tenants: Sequence[TenantFacts], pools: Sequence[PoolFacts], default_allow: bool
) -> str:
    """Digest of everything a verdict depends on, 16 hex digits. API keys are no part of it."""
    facts = [(tenant.id, tenant.labels) for tenant in tenants]
    blob = msgspec.json.encode((rules, facts, pools, default_allow), order="deterministic")
    return hashlib.sha256(blob).hexdigest()[:16]


class PolicyTable:
    """The rules of one policy version, worked out for its tenants, models and pools.

    Construct and fill off the event loop, then look up. Rows change only in `fill`, all at once.
    """

    def __init__(
        self,
        version: str,
        rules: Sequence[RuleText],
        tenants: Sequence[TenantFacts],
        pools: Sequence[PoolFacts],
        models: Mapping[str, Sequence[str]],
        default_allow: bool = False,
    ) -> None:
        """`models`: each model name with its versions. Raises RuleError if a rule does not compile. Holds no rows."""
        self.version = version
        self._rules = compile_rules(rules)
        self._tenants = tuple(tenants)
        self._pools = tuple(pools)
        self._default_allow = default_allow
        # Only where a rule reads the version do rows differ by it; then a version that nobody declared has no row.
        self._by_version = any("request.version" in r.when.reads | r.expr.reads for r in self._rules)
        self._versions = {name: ("", *known) if self._by_version else ("",) for name, known in models.items()}
        self._serving = {name: [pool.name for pool in pools if name in pool.models] for name in models}
        self._nothing = EligibilityRow(version, {}, visible=False)
        ends = (m for rule in self._rules for m in (rule.text.valid_from_s, rule.text.valid_until_s))
        self._moments = {m for m in ends if m is not None} | {s.from_s for p in pools for s in p.accelerator.licence}
        self._rows: dict[_Key, EligibilityRow] = {}
        self._filled_s = 0.0

    def fill(self, now_s: float) -> None:
        """Work out every row for the rules and licences in force at `now_s` (Unix seconds).

        Call again at `next_boundary_s`.
        """
        rules = [rule for rule in self._rules if rule.in_force(now_s)]
        judge = Judge(rules, self._pools, self._default_allow, now_s)
        shared: dict[tuple[int, bool], EligibilityRow] = {}
        rows: dict[_Key, EligibilityRow] = {}
        for tenant in self._tenants:
            for model, versions in self._versions.items():
                judged = {
                    (version, priority): judge.verdicts(request_facts(tenant, model, version, priority))
                    for version in versions
                    for priority in range(len(PRIORITIES))
                }
                # Above its own priority a tenant never asks: what would be allowed there shows it nothing.
                own = {id(v): v for (_, priority), v in judged.items() if priority >= tenant.priority}
                serving = self._serving[model]
                visible = any(verdicts[pool].allowed for verdicts in own.values() for pool in serving)
                for (version, priority), verdicts in judged.items():
                    row = shared.get((id(verdicts), visible))
                    if row is None:
                        row = shared[id(verdicts), visible] = EligibilityRow(self.version, verdicts, visible)
                    rows[tenant.id, model, version, priority] = row
        self._rows, self._filled_s = rows, now_s

    def is_due(self, now_s: float) -> bool:
        """Whether a rule or a licence state has begun or ended since the rows were filled."""
        boundary_s = self.next_boundary_s(self._filled_s)
        return boundary_s is not None and boundary_s <= now_s

    def lookup(self, tenant_id: str, model: str, version: str, priority: int) -> EligibilityRow:
        """The row of one request. `version` is "" where none was named. Unknown anything: a row without verdicts."""
        return self._rows.get((tenant_id, model, version if self._by_version else "", priority), self._nothing)

    def allowed(self, tenant: TenantFacts, model: str, version: str) -> frozenset[str]:
        """Pools that some request class of the tenant may use for that version."""
        rows = (
            self.lookup(tenant.id, model, version, priority) for priority in range(tenant.priority, len(PRIORITIES))
        )
        return frozenset(pool for row in rows for pool, verdict in row.verdicts.items() if verdict.allowed)

    def next_boundary_s(self, now_s: float) -> float | None:
        """The first moment after `now_s` (Unix seconds) at which a rule or a licence state begins or ends, or None."""
        return min((moment for moment in self._moments if moment > now_s), default=None)
