"""The policy table against an evaluator written apart from it: three-valued logic in plain Python, no CEL, no caching.

Random rules over random facts, unknown ones included; every cell of every table must agree.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.facts import AcceleratorFacts, PoolFacts, RuleText, TenantFacts
from router.policy.table import PolicyTable

WORDS = ["a", "b", "ab", ""]
KEYS = ["x", "y"]
NUMBERS = [1.0, 1600.0, 4800.0]
MODELS = {"m": ("1", "2"), "n": ("1",)}
PRIORITY = {0: "interactive", 1: "standard", 2: "batch"}

# --- facts -----------------------------------------------------------------------------------------------------------

words = st.sampled_from(WORDS[:3])
maybe_words = st.none() | words
labels = st.dictionaries(st.sampled_from(KEYS), words)
numbers = st.sampled_from(NUMBERS)
chips = st.builds(
    AcceleratorFacts,
    name=words,
    vendor=maybe_words,
    headquarters=maybe_words,
    memory_gib=st.none() | numbers,
    export_class=maybe_words,
    export_tpp=st.none() | numbers,
    export_performance_density=st.none() | numbers,
)
pools = st.lists(
    st.builds(
        PoolFacts,
        name=st.sampled_from(["a", "b", "p", "q"]),
        accelerator=chips,
        region=st.sampled_from(WORDS),
        provider=words,
        emulated=st.booleans(),
        labels=labels,
        cost=st.just(1.0),
        models=st.sampled_from([(), ("m",), tuple(MODELS)]),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda pool: pool.name,
)
tenants = st.lists(
    st.builds(
        TenantFacts,
        id=st.sampled_from(["a", "b", "t"]),
        key_digests=st.just(()),
        priority=st.integers(0, 2),
        labels=labels,
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda tenant: tenant.id,
)

TEXTS = {
    "request.model": lambda r, p: r["model"],
    "request.version": lambda r, p: r["version"] or None,
    "request.priority": lambda r, p: PRIORITY[r["priority"]],
    "tenant.id": lambda r, p: r["tenant"].id,
    "model.name": lambda r, p: r["model"],
    "accelerator.class": lambda r, p: p.accelerator.name,
    "accelerator.vendor": lambda r, p: p.accelerator.vendor,
    "accelerator.headquarters": lambda r, p: p.accelerator.headquarters,
    "accelerator.export.class": lambda r, p: p.accelerator.export_class,
    "pool.name": lambda r, p: p.name,
    "pool.region": lambda r, p: p.region or None,
    "pool.provider": lambda r, p: p.provider,
}
FIGURES = {
    "accelerator.memory_gib": lambda r, p: p.accelerator.memory_gib,
    "accelerator.export.tpp": lambda r, p: p.accelerator.export_tpp,
    "accelerator.export.performance_density": lambda r, p: p.accelerator.export_performance_density,
}
LABELS = {"tenant.labels": lambda r, p: r["tenant"].labels, "pool.labels": lambda r, p: p.labels}

# --- expressions: pairs of (CEL text, function of request and pool to True, False or None) ----------------------------


def strictly(text, get, then):
    """A strict operator: unknown where its operand is."""

    def value(r, p):
        operand = get(r, p)
        return None if operand is None else then(operand)

    return text, value


def on_text(path, word, operator):
    get = TEXTS[path]
    forms = {
        "eq": (f'{path} == "{word}"', lambda v: v == word),
        "ne": (f'"{word}" != {path}', lambda v: v != word),
        "in": (f'{path} in ["{word}", "batch", "1", "m"]', lambda v: v in {word, "batch", "1", "m"}),
        "starts": (f'{path}.startsWith("{word}")', lambda v: v.startswith(word)),
    }
    return strictly(forms[operator][0], get, forms[operator][1])


def on_number(path, number, operator):
    then = {">=": lambda v: v >= number, "<": lambda v: v < number, "==": lambda v: v == number}[operator]
    return strictly(f"{path} {operator} {number}", FIGURES[path], then)


def on_label(path, key, word, form):
    get = LABELS[path]
    if form == "value":
        return strictly(f'{path}.{key} == "{word}"', lambda r, p: get(r, p).get(key), lambda v: v == word)
    text = f"has({path}.{key})" if form == "has" else f'"{key}" in {path}'
    return text, lambda r, p: key in get(r, p)


def negated(inner):
    return strictly(f"!({inner[0]})", inner[1], lambda v: not v)


def both(left, right):
    def value(r, p):
        seen = {left[1](r, p), right[1](r, p)}
        return False if False in seen else None if None in seen else True

    return f"({left[0]}) && ({right[0]})", value


def either(left, right):
    def value(r, p):
        seen = {left[1](r, p), right[1](r, p)}
        return True if True in seen else None if None in seen else False

    return f"({left[0]}) || ({right[0]})", value


def chosen(test, yes, no):
    def value(r, p):
        held = test[1](r, p)
        return None if held is None else (yes if held else no)[1](r, p)

    return f"({test[0]}) ? ({yes[0]}) : ({no[0]})", value


leaves = st.one_of(
    st.just(("true", lambda r, p: True)),
    st.just(("false", lambda r, p: False)),
    st.just(("1 / 0 == 1", lambda r, p: None)),
    st.just(("pool.emulated", lambda r, p: p.emulated)),
    st.builds(
        on_text,
        st.sampled_from(sorted(TEXTS)),
        st.sampled_from([*WORDS, "batch", "1", "m"]),
        st.sampled_from(["eq", "ne", "in", "starts"]),
    ),
    st.builds(on_number, st.sampled_from(sorted(FIGURES)), numbers, st.sampled_from([">=", "<", "=="])),
    st.builds(
        on_label,
        st.sampled_from(sorted(LABELS)),
        st.sampled_from(KEYS),
        words,
        st.sampled_from(["value", "has", "in"]),
    ),
)
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(negated, inner),
        st.builds(both, inner, inner),
        st.builds(either, inner, inner),
        st.builds(chosen, inner, inner, inner),
    ),
    max_leaves=5,
)
moments = st.none() | st.sampled_from([10.0, 20.0])
rules = st.lists(
    st.tuples(
        st.sampled_from(["allow", "allow", "allow", "require", "deny", "prefer"]),
        st.one_of(st.just(("true", lambda r, p: True)), expressions),
        expressions,
        st.sampled_from([0.5, 1.0, -2.0]),
        moments,
        moments,
    ),
    min_size=1,
    max_size=6,
)

# --- the evaluator ---------------------------------------------------------------------------------------------------


def expected(rules, default_allow, request, pool, now_s):
    """(allowed, preference, whether something unknown was met), straight from the words of the rules."""
    denied, unmet, granted, preferred, unknown = False, False, default_allow, 0.0, False
    for effect, when, expr, weight, start, end in rules:
        if (start is not None and now_s < start) or (end is not None and now_s >= end):
            continue
        applies, holds = when[1](request, pool), expr[1](request, pool)
        unknown = unknown or applies is None or holds is None
        if effect == "deny" and applies in (True, None) and holds in (True, None):
            denied = True
        if effect == "require" and applies in (True, None) and holds is not True:
            unmet = True
        if effect == "allow" and applies is True and holds is True:
            granted = True
        if effect == "prefer" and applies is True and holds is True:
            preferred += weight
    allowed = granted and not denied and not unmet
    return allowed, preferred if allowed else 0.0, unknown


def compare(rules, tenants, pools, default_allow, now_s, seen):
    texts = [
        RuleText(f"r{i}", when[0], effect, expr[0], weight, valid_from_s=start, valid_until_s=end)
        for i, (effect, when, expr, weight, start, end) in enumerate(rules)
    ]
    table = PolicyTable("v", texts, tenants, pools, MODELS, default_allow)
    table.fill(now_s)
    for tenant in tenants:
        for model, versions in MODELS.items():
            shows = {False}
            for version in ("", *versions):
                for priority in PRIORITY:
                    request = {"tenant": tenant, "model": model, "version": version, "priority": priority}
                    row = table.lookup(tenant.id, model, version, priority)
                    assert row.verdicts.keys() == {pool.name for pool in pools}
                    for pool in pools:
                        allowed, prefer, unknown = expected(rules, default_allow, request, pool, now_s)
                        got = row.verdicts[pool.name]
                        assert (got.allowed, got.prefer) == (allowed, prefer), (texts, request, pool, got)
                        seen[allowed, unknown] += 1
                        shows.add(allowed and model in pool.models and priority >= tenant.priority)
            assert {table.lookup(tenant.id, model, "", p).visible for p in PRIORITY} == {True in shows}


def test_every_cell_agrees_with_an_independent_evaluator():
    """Unknown facts, negations, dates and several tenants and pools at once: no difference in any cell."""
    seen: Counter[tuple[bool, bool]] = Counter()

    @settings(max_examples=600, deadline=None)
    @given(rules, tenants, pools, st.booleans(), st.sampled_from([0.0, 10.0, 15.0, 20.0]))
    def run(rules, tenants, pools, default_allow, now_s):
        compare(rules, tenants, pools, default_allow, now_s, seen)

    run()
    assert sum(seen.values()) > 10_000
    assert all(seen[allowed, unknown] > 200 for allowed in (True, False) for unknown in (True, False)), seen
