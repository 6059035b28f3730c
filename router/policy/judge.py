"""From rules and facts to verdicts. Owns what unknown means: true for deny, false for allow, require and prefer.

A rule is evaluated once per distinct value of the attributes it reads; requests that meet the same effects share a
verdict dict.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from router.core.eligibility import Verdict
from router.core.facts import PoolFacts, RuleText
from router.policy.rules import FALSE, Expression, Outcome, Rule
from router.policy.variables import REQUEST_VARIABLES, Facts, pool_facts

Hit = tuple[int, bool, str]
"""(index of a pool, whether the rule takes effect on it, why it is unknown or "")."""
Effect = tuple[int, tuple[Hit, ...]]
"""(index of a rule, the pools it touches). A rule that touches none has no effect."""


class Judge:
    """The rules in force, over the pools of a fleet as they are at one moment. Not thread-safe; for one filling."""

    def __init__(self, rules: Sequence[Rule], pools: Sequence[PoolFacts], default_allow: bool, now_s: float) -> None:
        """`rules` in the order in which they are written: the first that decides gives the reason. `now_s`: Unix
        seconds."""
        self._rules = rules
        self._names = [pool.name for pool in pools]
        self._default_allow = default_allow
        facts = [pool_facts(pool, now_s) for pool in pools]
        self._groups: dict[tuple[str, ...], list[_BoundRule]] = {}
        for index, rule in enumerate(rules):
            bound = _BoundRule(index, rule, facts)
            self._groups.setdefault(bound.reads, []).append(bound)
        self._effects: dict[tuple[tuple[str, ...], Values], int] = {}
        self._interned: dict[tuple[Effect, ...], int] = {}
        self._verdicts: dict[tuple[int, ...], dict[str, Verdict]] = {}

    def verdicts(self, request: Facts) -> dict[str, Verdict]:
        """The verdict on every pool, by name. The dict is shared: never change it."""
        met = tuple([self._effects_of(reads, request) for reads in self._groups])
        found = self._verdicts.get(met)
        if found is None:
            found = self._verdicts[met] = self._judge(met)
        return found

    def _effects_of(self, reads: tuple[str, ...], request: Facts) -> int:
        """Number of the set of effects that the rules of one group have on this request."""
        key = (reads, _values(reads, request))
        number = self._effects.get(key)
        if number is None:
            effects = tuple((rule.index, hits) for rule in self._groups[reads] if (hits := rule.hits(request)))
            number = self._effects[key] = self._interned.setdefault(effects, len(self._interned))
        return number

    def _judge(self, met: tuple[int, ...]) -> dict[str, Verdict]:
        by_number = {number: effects for effects, number in self._interned.items()}
        tallies = [_Tally() for _ in self._names]
        for index, hits in sorted(effect for number in met for effect in by_number[number]):
            for pool, acts, why in hits:
                tallies[pool].count(self._rules[index].text, acts, why)
        return {name: tally.verdict(self._default_allow) for name, tally in zip(self._names, tallies, strict=True)}


Values = tuple[Hashable, ...]


def _values(reads: tuple[str, ...], facts: Facts) -> Values:
    """The values of `reads` as a key; an unknown one is None, which no fact is."""
    return tuple([_hashable(facts.get(path)) for path in reads])


def _hashable(value: object) -> Hashable:
    return frozenset(value.items()) if isinstance(value, dict) else value


class _Column:
    """One expression over all pools, evaluated once per distinct value of what it reads of them."""

    def __init__(self, expression: Expression, pools: Sequence[Facts]) -> None:
        self._expression = expression
        self._size = len(pools)
        self._alike: dict[Values, tuple[Facts, list[int]]] = {}
        reads = tuple(sorted(expression.reads - REQUEST_VARIABLES.keys()))
        for index, facts in enumerate(pools):
            known = {path: facts[path] for path in reads if path in facts}
            self._alike.setdefault(_values(reads, known), (known, []))[1].append(index)
        self._fixed = None if expression.reads & REQUEST_VARIABLES.keys() else self._evaluate({})

    def outcomes(self, request: Facts) -> list[Outcome]:
        """One outcome per pool."""
        return self._fixed if self._fixed is not None else self._evaluate(request)

    def _evaluate(self, request: Facts) -> list[Outcome]:
        if len(self._alike) == 1:
            ((known, _),) = self._alike.values()
            return [self._expression.evaluate(request | known if known else request)] * self._size
        outcomes = [FALSE] * self._size
        for known, indexes in self._alike.values():
            outcome = self._expression.evaluate(request | known)
            for index in indexes:
                outcomes[index] = outcome
        return outcomes


class _BoundRule:
    """One rule over the pools of the fleet."""

    def __init__(self, index: int, rule: Rule, pools: Sequence[Facts]) -> None:
        self.index = index
        self.reads = tuple(sorted((rule.when.reads | rule.expr.reads) & REQUEST_VARIABLES.keys()))
        self._hit = _HITS[rule.text.effect]
        self._when = _Column(rule.when, pools)
        self._expr = _Column(rule.expr, pools)

    def hits(self, request: Facts) -> tuple[Hit, ...]:
        whens = self._when.outcomes(request)
        if all(when.value is False for when in whens):
            return ()
        found = (self._hit(when, expr) for when, expr in zip(whens, self._expr.outcomes(request), strict=True))
        return tuple((pool, *hit) for pool, hit in enumerate(found) if hit is not None)


def _deny(when: Outcome, expr: Outcome) -> tuple[bool, str] | None:
    """Takes effect unless `when` or the expression is known to be false."""
    return None if when.value is False or expr.value is False else (True, when.why or expr.why)


def _require(when: Outcome, expr: Outcome) -> tuple[bool, str] | None:
    """Takes effect, against the pool, unless `when` is known to be false or the expression to be true."""
    return None if when.value is False or expr.value else (True, when.why or expr.why)


def _grant(when: Outcome, expr: Outcome) -> tuple[bool, str] | None:
    """Takes effect where both are known to be true; one that is unknown is kept, for the reason only."""
    if when.value is False or expr.value is False:
        return None
    return (bool(when.value and expr.value), when.why or expr.why)


_HITS = {"deny": _deny, "require": _require, "allow": _grant, "prefer": _grant}


class _Tally:
    """What the rules say of one pool, counted in the order in which they are written."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[RuleText, str]] = {}
        self._nearly = ""
        self._prefer = 0.0

    def count(self, rule: RuleText, acts: bool, why: str) -> None:
        if not acts:
            if rule.effect == "allow":
                self._nearly = self._nearly or f'; rule "{rule.name}" would, but {why}'
        elif rule.effect == "prefer":
            self._prefer += rule.weight
        else:
            self._first.setdefault(rule.effect, (rule, why))

    def verdict(self, default_allow: bool) -> Verdict:
        if "deny" in self._first:
            return _no(*self._first["deny"], 'denied by rule "{0.name}"')
        if "require" in self._first:
            return _no(*self._first["require"], 'rule "{0.name}" requires {0.expr}')
        if "allow" in self._first:
            rule, _ = self._first["allow"]
            return Verdict(True, rule.name, rule.reason or f'allowed by rule "{rule.name}"', self._prefer)
        if default_allow:
            return Verdict(True, "", "allowed by policy_default", self._prefer)
        return Verdict(False, "", f"no rule allows it{self._nearly}")


def _no(rule: RuleText, why: str, generated: str) -> Verdict:
    if rule.reason:
        return Verdict(False, rule.name, f"{rule.reason} ({why})" if why else rule.reason)
    words = generated.format(rule)
    return Verdict(False, rule.name, f"{words}: {why}" if why else words)
