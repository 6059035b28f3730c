"""Accelerator classes for people: a table of all, or everything about one with its sources. Prints nothing and reads no
file or clock: makes text of values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from deployments.serving import table
from router.config.accelerators import Described, Fact, LicenceFact
from router.core.export_control import CONTROLLED_TPP, DENSE_TPP, RULE, number

NO_ADVICE = (
    "Class by numbers and licence state are facts with a date, not legal advice; whom they bind depends on more."
)
_GUESSED = "~ rests on a fact of low confidence"
_HEAD = ("class", "vendor", "HQ", "memory", "TPP", "PD", "by numbers", "licence today", "provider", "Ray")


def overview(classes: Iterable[Described], now_s: float) -> str:
    """A table of the classes. `now_s`: Unix seconds, for the licence state."""
    rows = [_row(described, now_s) for described in classes]
    legend = f"? unknown; {_GUESSED}; `pointsman accelerators NAME` has sources"
    return "\n".join((table(_HEAD, rows), "", legend, NO_ADVICE))


def _row(described: Described, now_s: float) -> Sequence[str]:
    facts = described.facts
    values = _values(described)
    tpp, density, class_ = _guessed(described)
    memory = "?" if facts.memory_gib is None else f"{number(facts.memory_gib)} GiB"
    amount = f"x{values['ray.amount']:g}" if "ray.amount" in values else ""
    ray = " ".join(filter(None, (str(values.get("ray.resource") or ""), amount, str(values.get("ray.type") or ""))))
    return (
        facts.name,
        facts.vendor or "?",
        facts.headquarters or "?",
        memory,
        _marked(facts.export_tpp, tpp),
        _marked(facts.export_performance_density, density),
        (facts.export_class or "?") + ("~" if class_ else ""),
        _licence_today(described, now_s),
        str(values.get("provider") or "-"),
        ray or "-",
    )


def _marked(value: float | None, guessed: bool) -> str:
    return "?" if value is None else number(value) + ("~" if guessed else "")


def _values(described: Described) -> dict[str, object]:
    return {fact.name: fact.value for fact in described.stated}


def _guessed(described: Described) -> tuple[bool, bool, bool]:
    """Whether TPP, density and class rest on a fact of low confidence."""
    low = {fact.name for fact in described.stated if fact.confidence == "low" and fact.value is not None}
    tpp = any(name.startswith("peak_tops.") for name in low) or "export.tpp" in low
    density = tpp or bool(low & {"die_area_mm2", "export.performance_density"})
    value = described.export.tpp.value
    decides_alone = value is not None and not DENSE_TPP <= value < CONTROLLED_TPP
    known = described.export.class_.value is not None
    return tpp, density, known and ("export.class" in low or (tpp if decides_alone else density))


def _licence_today(described: Described, now_s: float) -> str:
    step = next((step for step in reversed(described.licence) if step.from_s <= now_s), None)
    return f"{step.state} since {_day(step.from_s)}" if step is not None else "?"


def _day(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s, UTC).date().isoformat()


def detail(described: Described, now_s: float) -> str:
    """Everything about one class: each fact with source, date and confidence, the arithmetic, the licence's dates."""
    export, facts = described.export, described.facts
    tpp, density, class_ = _guessed(described)
    figures = (
        ("TPP", _marked(export.tpp.value, tpp), export.tpp.how),
        ("PD", _marked(export.performance_density.value, density), export.performance_density.how),
        ("class", (export.class_.value or "?") + ("~" if class_ else ""), export.class_.how),
    )
    cited: dict[str, int] = {}
    rows = [
        (fact.name, _shown(fact.value), fact.as_of, fact.confidence or "not stated", _mark(fact, cited), fact.note)
        for fact in described.stated
    ]
    steps = [
        (_day(step.from_s), step.state, step.as_of, step.confidence or "not stated", _mark(step, cited), step.text)
        for step in described.licence
    ]
    lines = [
        facts.name,
        "",
        table(("fact", "value", "as of", "confidence", "source", ""), rows),
        "",
        f"Export attributes by numbers ({RULE}):",
        *(f"  {name} {value}: {how}" for name, value, how in figures),
        "",
        f"Licence state today: {_licence_today(described, now_s)}",
        *([table(("from", "state", "as of", "confidence", "source", ""), steps)] if steps else ()),
        *(("", described.notes) if described.notes else ()),
        "",
        *(f"[{at}] {source}" for source, at in cited.items()),
        "",
        f"? unknown; {_GUESSED}",
        NO_ADVICE,
    ]
    return "\n".join(lines)


def _mark(fact: Fact | LicenceFact, cited: dict[str, int]) -> str:
    source = f"{fact.source} {fact.url}" if fact.url else fact.source
    return f"[{cited.setdefault(source, len(cited) + 1)}]"


def _shown(value: object) -> str:
    if value is None:
        return "?"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return number(value)
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def document(described: Described, now_s: float) -> dict[str, Any]:
    """The same as plain JSON values, with the licence state in force at `now_s`."""
    built: dict[str, Any] = msgspec.to_builtins(described)
    return {"name": described.facts.name, "licence_today": described.facts.licence_state(now_s), **built}
