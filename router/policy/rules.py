"""Rules: CEL text to compiled expressions, and their evaluation to true, false or unknown with a why.

Refuses at load what is not certain to be a yes or a no. Never turns an error into a value: judge.py does.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from functools import cache

import msgspec
from cel_expr_python import cel

from router.core.facts import RuleText
from router.policy.variables import POOL_VARIABLES, REQUEST_VARIABLES, Facts

EFFECTS = ("allow", "require", "deny", "prefer")
_VARIABLES = REQUEST_VARIABLES | POOL_VARIABLES
_PROBLEM = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")
_NO_VALUE = re.compile(r'No value with name "([^"]*)"')
_NO_KEY = re.compile(r'Key not found in map : "(.*)"', re.DOTALL)


class RuleProblem(msgspec.Struct, frozen=True):
    """One fault in one expression. `line` and `column` count from 1; 0 where the whole expression is meant."""

    where: str
    """Path of the expression, for example policies[2].when."""
    message: str
    line: int
    column: int
    text: str
    """The expression."""

    def words(self) -> str:
        """Position, message, the line of the expression and a caret under the place."""
        if not self.line:
            return self.message
        shown = (self.text.split("\n")[self.line - 1 : self.line] or [""])[0]
        return f"{self.line}:{self.column}: {self.message}\n    {shown}\n    {' ' * (self.column - 1)}^"

    def __str__(self) -> str:
        return f"{self.where}: {self.words()}"


class RuleError(ValueError):
    """Rules that cannot be used. `problems` holds every fault of every rule."""

    def __init__(self, problems: Sequence[RuleProblem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


class Outcome(msgspec.Struct, frozen=True):
    """What an expression says of some facts: True, False, or None for unknown with `why` in words."""

    value: bool | None
    why: str = ""


TRUE, FALSE = Outcome(True), Outcome(False)


class Expression:
    """One compiled CEL expression of type bool."""

    def __init__(self, compiled: cel.Expression) -> None:
        self._compiled = compiled
        checked = compiled.serialize()
        self.reads = frozenset(path for path in _VARIABLES if path.encode() in checked)
        """Paths it may read: those named in its checked form. Perhaps too many (a look-alike string), never too few."""

    def evaluate(self, facts: Facts) -> Outcome:
        """Evaluate on `facts`. Whatever goes wrong is unknown; nothing is raised."""
        data = {path: facts[path] for path in self.reads if path in facts}
        try:
            result = self._compiled.eval(data=data)
        except Exception as error:  # for example CEL's own bound on iterations; law 1 asks for a no, not a crash
            return Outcome(None, _words(str(error)))
        if result.type() == cel.Type.BOOL:
            return TRUE if result.value() else FALSE
        return Outcome(None, _words(str(result.value())))


class Rule(msgspec.Struct, frozen=True):
    """A rule ready to be evaluated."""

    text: RuleText
    when: Expression
    expr: Expression

    def in_force(self, now_s: float) -> bool:
        """Whether `now_s` (Unix seconds) lies in [valid_from_s, valid_until_s)."""
        start, end = self.text.valid_from_s, self.text.valid_until_s
        return (start is None or start <= now_s) and (end is None or now_s < end)


def compile_rules(texts: Sequence[RuleText]) -> tuple[Rule, ...]:
    """Compile all rules. Raises RuleError with every fault found."""
    env = _environment()
    rules: list[Rule] = []
    problems: list[RuleProblem] = []
    for text in texts:
        if text.effect not in EFFECTS:
            problems.append(RuleProblem(text.where, f'unknown effect "{text.effect}"', 0, 0, ""))
            continue
        when = _compile(env, text.when, f"{text.where}.when", problems)
        expr = _compile(env, text.expr, f"{text.where}.{text.effect}", problems)
        if when is not None and expr is not None:
            rules.append(Rule(text, when, expr))
    if problems:
        raise RuleError(problems)
    return tuple(rules)


@cache
def _environment() -> cel.Env:
    return cel.NewEnv(variables=_VARIABLES)  # takes 100 ms


def _compile(env: cel.Env, text: str, where: str, problems: list[RuleProblem]) -> Expression | None:
    try:
        compiled = env.compile(text)
    except RuntimeError as error:
        problems.extend(_explain(str(error), text, where))
        return None
    # `has(accelerator.export.tpp)` compiles, to a double: a rule must be a yes or a no.
    if compiled.return_type() != cel.Type.BOOL:
        kind = str(compiled.return_type()).lower()
        problems.append(RuleProblem(where, f"must be true or false, but its value is of type {kind}", 1, 1, text))
        return None
    return Expression(compiled)


def _explain(error: str, text: str, where: str) -> list[RuleProblem]:
    found = [
        RuleProblem(where, _hinted(message), int(line), int(column), text)
        for line, column, message in _PROBLEM.findall(error)
    ]
    return found or [RuleProblem(where, error, 0, 0, text)]


def _hinted(message: str) -> str:
    message = message.replace(" (in container '')", "").removesuffix(" [INVALID_ARGUMENT]")
    if "applied to '(double, int)'" in message:
        return f"{message}; write the number with a decimal point, such as 4800.0"
    undeclared = _UNDECLARED.search(message)
    near = difflib.get_close_matches(undeclared[1], _VARIABLES, n=1) if undeclared else []
    return f"{message}; did you mean {near[0]}?" if near else message


def _words(error: str) -> str:
    if missing := _NO_VALUE.search(error):
        return f"{missing[1]} is unknown"
    if missing := _NO_KEY.search(error):
        return f'label "{missing[1]}" is not set'
    return error
