"""Compiling and evaluating single expressions."""

import pytest

from router.core.facts import AcceleratorFacts, LicenceState, PoolFacts, RuleText, TenantFacts
from router.policy.rules import RuleError, compile_rules
from router.policy.variables import POOL_VARIABLES, REQUEST_VARIABLES, pool_facts, request_facts


def compiled(expr):
    return compile_rules([RuleText("r", "true", "allow", expr, where="policies[0]")])[0].expr


def faults(expr, when="true", effect="allow"):
    with pytest.raises(RuleError) as error:
        compile_rules([RuleText("r", when, effect, expr, where="policies[0]")])
    return str(error.value)


def test_a_typo_fails_with_its_position_a_caret_and_the_nearest_name():
    """Every path is a variable of its own, so a typo is no unknown fact."""
    assert faults("pool.emulated && accelerator.exprt.tpp > 1.0") == (
        "policies[0].allow: 1:35: undeclared reference to 'accelerator.exprt.tpp'; "
        "did you mean accelerator.export.tpp?\n"
        "    pool.emulated && accelerator.exprt.tpp > 1.0\n"
        "                                      ^"
    )


def test_a_position_in_a_later_line_shows_that_line():
    """Rules are often folded over lines."""
    assert faults('pool.name == "a"\n  && pool.nam == "b"').endswith(
        "2:10: undeclared reference to 'pool.nam'; did you mean pool.name?\n      && pool.nam == \"b\"\n             ^"
    )


def test_a_whole_number_beside_a_double_is_explained():
    """CEL has no mixed comparison here."""
    assert "write the number with a decimal point, such as 4800.0" in faults("accelerator.export.tpp >= 4800")


@pytest.mark.parametrize(
    ("expr", "kind"),
    [
        ("has(accelerator.export.tpp)", "double"),
        ("pool.name", "string"),
        ("dyn(true)", "dyn"),
        ("1", "int"),
        ("tenant.labels", "map"),
    ],
)
def test_what_is_not_a_yes_or_a_no_is_refused(expr, kind):
    """`has()` of a fact compiles to the fact itself."""
    assert f"must be true or false, but its value is of type {kind}" in faults(expr)


@pytest.mark.parametrize("expr", ["", "true &&", '"a', "accelerator.export", "tenant", "unknown(1)", "(" * 9999])
def test_what_does_not_compile_is_refused(expr):
    """With the path of the expression."""
    assert faults(expr).startswith("policies[0].allow: ")


def test_every_fault_of_every_rule_is_told():
    """Not just the first."""
    rules = [RuleText("r", "x", "deny", "y && z", where=f"policies[{i}]") for i in range(2)]
    with pytest.raises(RuleError) as error:
        compile_rules(rules)
    assert [problem.where for problem in error.value.problems] == [
        f"policies[{i}].{part}" for i in range(2) for part in ("when", "deny", "deny")
    ]


def test_an_unknown_effect_is_refused():
    """The table must never meet one."""
    assert faults("true", effect="permit") == 'policies[0]: unknown effect "permit"'


def test_what_an_expression_reads_does_not_depend_on_spelling():
    """White space and comments hide no path."""
    assert compiled('request\n . version == "1" && pool//x\n.emulated').reads == {"request.version", "pool.emulated"}
    assert compiled("true").reads == frozenset()


@pytest.mark.parametrize(
    ("expr", "value", "why"),
    [
        ("1 < 2", True, ""),
        ('tenant.id == "b"', False, ""),
        ("accelerator.export.tpp > 1.0", None, "accelerator.export.tpp is unknown"),
        ('!(accelerator.vendor == "NVIDIA")', None, "accelerator.vendor is unknown"),
        ('request.version == "1"', None, "request.version is unknown"),
        ('tenant.labels.data == "eu"', None, 'label "data" is not set'),
        ("1 / 0 == 1", None, "INVALID_ARGUMENT: divide by zero"),
        ('accelerator.vendor == "NVIDIA" || tenant.id == "a"', True, ""),
        ('accelerator.vendor == "NVIDIA" && tenant.id == "b"', False, ""),
        ('has(tenant.labels.data) && tenant.labels.data == "eu"', False, ""),
    ],
)
def test_unknown_is_neither_true_nor_false_and_says_why(expr, value, why):
    """Unless the rest decides alone."""
    tenant, chip = TenantFacts("a", (), 0, {}), AcceleratorFacts("x86-cpu")
    pool = PoolFacts("p", chip, "", "cpu", False, {}, 1.0, ())
    outcome = compiled(expr).evaluate(request_facts(tenant, "m", "", 0) | pool_facts(pool, 0.0))
    assert (outcome.value, outcome.why) == (value, why)


def test_an_expression_that_would_run_for_ever_is_unknown():
    """CEL bounds its own iterations; the error is not raised into the router."""
    tens = "[1,2,3,4,5,6,7,8,9,10]"
    expr = "true"
    for name in "abcdef":
        expr = f"{tens}.all({name}, {expr})"
    assert compiled(expr).evaluate({}).value is None


def test_every_declared_path_gets_its_value():
    """A path that is declared but never filled would be unknown for ever."""
    licence = (LicenceState(0.0, "required"),)
    chip = AcceleratorFacts("c", "v", "US", 1.0, "none", 1.0, 1.0, memory_bandwidth_gb_per_s=1.0, licence=licence)
    pool = PoolFacts("p", chip, "r", "cpu", False, {}, 1.0, ())
    assert pool_facts(pool, 0.0).keys() == POOL_VARIABLES.keys()
    assert request_facts(TenantFacts("t", (), 0, {}), "m", "1", 2).keys() == REQUEST_VARIABLES.keys()
