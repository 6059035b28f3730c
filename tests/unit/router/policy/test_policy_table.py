"""Rows of the eligibility table."""

import pytest

from router.config.load import catalogue
from router.core.facts import AcceleratorFacts, PoolFacts, RuleText, TenantFacts
from router.policy.rules import RuleError
from router.policy.table import PolicyTable, policy_version

H20 = AcceleratorFacts("nvidia-h20", "NVIDIA", "US", 96.0, "none", 2368.0, 2.91)
ASCEND = AcceleratorFacts("huawei-ascend-910b3", "Huawei", "CN", 64.0, "3A090.a", 5008.0, 7.52)
CPU = AcceleratorFacts("x86-cpu")
POOLS = [
    PoolFacts("h20", H20, "cn-north", "cuda", False, {}, 1.0, ("m",)),
    PoolFacts("ascend", ASCEND, "cn-east", "cpu", True, {"stage": "trial"}, 1.0, ("m",)),
    PoolFacts("cpu", CPU, "eu-1", "cpu", False, {}, 1.0, ("m",)),
]
TENANTS = [TenantFacts("a", (), 0, {"data": "eu"}), TenantFacts("b", (), 0, {})]
ALLOW_ALL = RuleText("all", "true", "allow", "true")


def table(*rules, default_allow=False, now_s=0.0, models=None):
    filled = PolicyTable("v1", rules, TENANTS, POOLS, models or {"m": ("1", "2")}, default_allow)
    filled.fill(now_s)
    return filled


def allowed(policy, tenant="a", model="m", version="", priority=0):
    return {
        name for name, verdict in policy.lookup(tenant, model, version, priority).verdicts.items() if verdict.allowed
    }


def verdict(policy, pool, tenant="a"):
    found = policy.lookup(tenant, "m", "", 0).verdicts[pool]
    return found.allowed, found.rule, found.reason


def test_without_rules_nothing_is_eligible_unless_configured():
    """Deny is the default."""
    assert allowed(table()) == set()
    assert verdict(table(), "cpu") == (False, "", "no rule allows it")
    assert allowed(table(default_allow=True)) == {"h20", "ascend", "cpu"}
    assert verdict(table(default_allow=True), "cpu") == (True, "", "allowed by policy_default")


def test_allows_add_up_and_a_deny_or_an_unmet_require_outweighs_them():
    """Eligible is no deny, every require, some allow."""
    rules = (
        RuleText("nv", "true", "allow", 'accelerator.class == "nvidia-h20"'),
        RuleText("rest", "true", "allow", 'accelerator.class != "nvidia-h20"'),
    )
    assert allowed(table(*rules)) == {"h20", "ascend", "cpu"}
    assert allowed(table(*rules, RuleText("d", "true", "deny", "pool.emulated"))) == {"h20", "cpu"}
    assert allowed(table(*rules, RuleText("r", "true", "require", "pool.emulated"))) == {"ascend"}


def test_unknown_is_true_for_deny_and_false_for_allow_and_require():
    """The CPU's vendor is unknown, negated or not."""
    for expr in ('accelerator.vendor == "Huawei"', '!(accelerator.vendor == "NVIDIA")'):
        assert "cpu" not in allowed(table(ALLOW_ALL, RuleText("d", "true", "deny", expr)))
        assert "cpu" not in allowed(table(ALLOW_ALL, RuleText("r", "true", "require", expr)))
        assert "cpu" not in allowed(table(RuleText("x", "true", "allow", expr)))


def test_an_unknown_when_applies_for_deny_and_require_only():
    """Tenant b has no label data."""
    when = 'tenant.labels.data == "us"'
    assert allowed(table(ALLOW_ALL, RuleText("d", when, "deny", "true")), "b") == set()
    assert allowed(table(ALLOW_ALL, RuleText("r", when, "require", "false")), "b") == set()
    assert allowed(table(RuleText("x", when, "allow", "true")), "b") == set()
    assert allowed(table(ALLOW_ALL, RuleText("d", when, "deny", "true")), "a") == {"h20", "ascend", "cpu"}


def test_preferences_add_up_where_they_are_certain():
    """Unknown prefers nothing."""
    policy = table(
        ALLOW_ALL,
        RuleText("p", "true", "prefer", 'accelerator.vendor != "NVIDIA"', weight=0.5),
        RuleText("q", "true", "prefer", "pool.emulated", weight=0.25),
        RuleText("u", 'tenant.labels.x == "y"', "prefer", "true", weight=9.0),
    )
    row = policy.lookup("a", "m", "", 0)
    assert {name: v.prefer for name, v in row.verdicts.items()} == {"h20": 0.0, "ascend": 0.75, "cpu": 0.0}


@pytest.mark.parametrize(
    ("rule", "pool", "reason"),
    [
        (RuleText("x", "true", "deny", "pool.emulated"), "ascend", 'denied by rule "x"'),
        (
            RuleText("x", "true", "deny", "accelerator.export.tpp > 1.0"),
            "cpu",
            'denied by rule "x": accelerator.export.tpp is unknown',
        ),
        (RuleText("x", "true", "deny", "pool.emulated", reason="no toys"), "ascend", "no toys"),
        (
            RuleText("x", "true", "require", 'accelerator.vendor == "Huawei"', reason="Ascend only"),
            "cpu",
            "Ascend only (accelerator.vendor is unknown)",
        ),
        (RuleText("x", "true", "require", "pool.emulated"), "h20", 'rule "x" requires pool.emulated'),
        (
            RuleText("x", 'tenant.labels.z == "1"', "require", "pool.emulated"),
            "h20",
            'rule "x" requires pool.emulated: label "z" is not set',
        ),
    ],
)
def test_a_no_says_which_rule_and_why(rule, pool, reason):
    """The rule's own words where it has them."""
    assert verdict(table(ALLOW_ALL, rule), pool) == (False, "x", reason)


def test_an_allow_that_fails_for_an_unknown_fact_is_named():
    """The operator sees what to fill in."""
    policy = table(RuleText("x", "true", "allow", 'accelerator.vendor == "NVIDIA"'))
    assert verdict(policy, "cpu") == (
        False,
        "",
        'no rule allows it; rule "x" would, but accelerator.vendor is unknown',
    )


def test_the_first_rule_as_written_gives_the_reason():
    """Whatever attributes each of them reads."""
    first = RuleText("first", "true", "deny", 'pool.name == "cpu" && tenant.id == "a"')
    second = RuleText("second", "true", "deny", "true")
    third = RuleText("third", 'request.priority == "interactive"', "deny", "true")
    assert verdict(table(first, second, third), "cpu")[1] == "first"
    assert verdict(table(third, second, first), "cpu")[1] == "third"


def test_who_or_what_the_table_does_not_know_has_no_verdicts():
    """Fail closed, also before the first filling."""
    policy = table(ALLOW_ALL)
    assert policy.lookup("nobody", "m", "", 0).verdicts == {}
    assert policy.lookup("a", "nothing", "", 0).verdicts == {}
    assert policy.lookup("a", "m", "", 3).verdicts == {}
    assert PolicyTable("v", [ALLOW_ALL], TENANTS, POOLS, {"m": ()}, True).lookup("a", "m", "", 0).verdicts == {}


def test_priority_is_part_of_the_row():
    """Rules may keep hardware for some classes of request."""
    policy = table(ALLOW_ALL, RuleText("d", 'request.priority == "batch"', "deny", 'pool.name == "h20"'))
    assert [("h20" in allowed(policy, priority=p)) for p in range(3)] == [True, True, False]


def test_a_version_counts_only_where_a_rule_reads_it():
    """Then none named is unknown, and one that nobody declared is nothing."""
    assert allowed(table(ALLOW_ALL), version="99") == {"h20", "ascend", "cpu"}
    policy = table(ALLOW_ALL, RuleText("d", 'request.version == "2"', "deny", "true"))
    assert allowed(policy, version="1") == {"h20", "ascend", "cpu"}
    assert allowed(policy, version="2") == allowed(policy, version="") == allowed(policy, version="99") == set()


def test_a_rule_holds_from_its_first_second_to_before_its_last():
    """And the next boundary is told."""
    policy = table(ALLOW_ALL, RuleText("d", "true", "deny", "true", valid_from_s=100.0, valid_until_s=200.0))
    seen = []
    now_s = 0.0
    while (boundary_s := policy.next_boundary_s(now_s)) is not None:
        before = allowed(policy)
        policy.fill(boundary_s)
        seen.append((boundary_s, len(before), len(allowed(policy))))
        now_s = boundary_s
    assert seen == [(100.0, 3, 0), (200.0, 0, 3)]


def test_a_licence_state_holds_from_its_day_on():
    """The catalogue's H20: free to go until 9 April 2025, then in need of a licence. Before all dates it is unknown."""
    pool = PoolFacts("h20", catalogue()["nvidia-h20"], "cn-1", "cuda", False, {}, 1.0, ("m",))
    rule = RuleText("licence", "true", "deny", 'accelerator.licence.state != "not-required"')
    policy = PolicyTable("v", [ALLOW_ALL, rule], TENANTS, [pool], {"m": ("1",)})
    rule_of_2023_s, letter_s = 1700179200.0, 1744156800.0
    policy.fill(rule_of_2023_s - 1)
    assert policy.lookup("a", "m", "", 0).verdicts["h20"].reason.endswith("accelerator.licence.state is unknown")
    assert policy.next_boundary_s(rule_of_2023_s - 1) == rule_of_2023_s
    policy.fill(rule_of_2023_s)
    assert allowed(policy) == {"h20"}
    assert policy.next_boundary_s(rule_of_2023_s) == letter_s
    assert (policy.is_due(letter_s - 1), policy.is_due(letter_s)) == (False, True)
    policy.fill(letter_s)
    assert allowed(policy) == set()
    assert policy.next_boundary_s(letter_s) is None


def test_requests_that_meet_the_same_effects_share_their_verdicts():
    """So that many tenants cost little memory."""
    policy = table(ALLOW_ALL, RuleText("d", 'tenant.id == "nobody"', "deny", "true"))
    assert policy.lookup("a", "m", "", 0) is policy.lookup("b", "m", "", 2)


def test_a_rule_that_does_not_compile_makes_no_table():
    """Never a silent yes."""
    with pytest.raises(RuleError):
        table(RuleText("x", "true", "deny", "pool.emulatd"))


def test_the_version_changes_with_what_verdicts_depend_on_and_not_with_keys():
    """Rotation of keys is no change of policy."""
    base = policy_version([ALLOW_ALL], TENANTS, POOLS, False)
    rotated = [TenantFacts(t.id, ("0" * 64,), t.priority, t.labels) for t in TENANTS]
    assert policy_version([ALLOW_ALL], rotated, POOLS, False) == base
    assert (
        len({base, policy_version([], TENANTS, POOLS, False), policy_version([ALLOW_ALL], TENANTS, POOLS, True)}) == 3
    )
    assert policy_version([ALLOW_ALL], TENANTS[:1], POOLS, False) != base
    assert policy_version([ALLOW_ALL], TENANTS, POOLS[:2], False) != base


def visible(policy, tenant="a", model="m"):
    return policy.lookup(tenant, model, "", 0).visible


def test_a_model_shows_where_some_class_of_the_tenant_may_use_some_pool_that_serves_it():
    """Of any version; a pool that does not serve it shows nothing."""
    assert visible(table(ALLOW_ALL))
    assert not visible(table())
    only_batch = table(ALLOW_ALL, RuleText("d", 'request.priority != "batch"', "deny", "true"))
    assert visible(only_batch)
    only_two = table(ALLOW_ALL, RuleText("d", 'request.version != "2"', "deny", "true"))
    assert visible(only_two)
    elsewhere = table(ALLOW_ALL, models={"m": ("1",), "unserved": ("1",)})
    assert (visible(elsewhere), visible(elsewhere, model="unserved")) == (True, False)
    mine = RuleText("d", 'tenant.id == "b"', "deny", "true")
    assert [visible(table(ALLOW_ALL, mine), tenant) for tenant in ("a", "b")] == [True, False]


def test_what_is_allowed_above_a_tenants_own_priority_shows_it_nothing():
    """It never asks with it."""
    rules = (ALLOW_ALL, RuleText("d", 'request.priority != "interactive"', "deny", "true"))
    shown = {}
    for priority in range(3):
        policy = PolicyTable("v1", rules, [TenantFacts("t", (), priority, {})], POOLS, {"m": ("1",)})
        policy.fill(0.0)
        shown[priority] = visible(policy, "t")
    assert shown == {0: True, 1: False, 2: False}


def test_whom_or_what_the_table_does_not_know_shows_nothing():
    """Fail closed."""
    policy = table(ALLOW_ALL)
    assert not any((visible(policy, "nobody"), visible(policy, model="absent"), policy.lookup("a", "m", "", 3).visible))


def test_pools_of_any_class_are_those_that_some_own_class_may_use():
    """And of one version."""
    policy = table(ALLOW_ALL, RuleText("d", 'request.priority != "batch"', "deny", 'pool.name == "h20"'))
    assert policy.allowed(TENANTS[0], "m", "1") == {"h20", "ascend", "cpu"}
    assert policy.allowed(TenantFacts("a", (), 2, {}), "m", "1") == {"h20", "ascend", "cpu"}
    assert policy.allowed(TENANTS[0], "absent", "1") == frozenset()
