"""Accelerator classes: the catalogue merged with what a fleet file says, the facts that policy judges, and for people
every fact with its source. Reads no file.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from router.config.schema_accelerator import Accelerator, Cited, Export, Source, stated
from router.core.export_control import ExportFigures, export_figures
from router.core.facts import AcceleratorFacts, LicenceState

Classes = dict[str, Accelerator]
_MERGED_INSIDE = ("peak_tops", "export", "aliases")
"""Sections of which a fleet file changes only what it states; of any other it replaces the whole."""


class Fact(msgspec.Struct, frozen=True):
    """One stated fact. `value` is plain JSON; None: stated to be unknown."""

    name: str
    """Path, such as peak_tops.fp8."""
    value: object
    source: str
    """In words."""
    url: str
    """"" where there is none."""
    as_of: str
    confidence: str
    """high, medium or low; "" where nobody said."""
    note: str = ""


class LicenceFact(msgspec.Struct, frozen=True):
    """One dated state of the licence requirement, with its source."""

    from_s: float
    """Unix seconds."""
    state: str
    text: str
    source: str
    url: str
    as_of: str
    confidence: str


class Described(msgspec.Struct, frozen=True):
    """Everything that is known of a class."""

    facts: AcceleratorFacts
    """What policy judges."""
    stated: tuple[Fact, ...]
    licence: tuple[LicenceFact, ...]
    export: ExportFigures
    notes: str


def merged(built_in: Classes, changes: Classes) -> Classes:
    """The catalogue with a fleet file's additions; of a class that it has, only what the file states changes, and
    each fact keeps the source of who stated it."""
    classes = dict(built_in)
    for name, change in changes.items():
        base = classes.get(name)
        classes[name] = change if base is None else _changed(base, change)
    return classes


def _changed(base: Accelerator, change: Accelerator) -> Accelerator:
    update = {key: getattr(change, key) for key in change.model_fields_set}
    for section in _MERGED_INSIDE:
        if section in update:
            inner = update[section]
            fields = {key: getattr(inner, key) for key in inner.model_fields_set}
            update[section] = getattr(base, section).model_copy(update=fields)
    return base.model_copy(update=update | {"sources": origins(base) | origins(change)})


def origins(entry: Accelerator) -> dict[str, Cited]:
    """By path of each fact that the entry states, and of `licence`: its source, with its date."""
    found = {}
    for path in (*stated(entry), *(("licence",) if entry.licence else ())):
        cited = entry.sources.get(path) or entry.sources.get(path.partition(".")[0]) or Cited(source=entry.source)
        found[path] = cited.model_copy(update={"as_of": cited.as_of or entry.as_of})
    return found


def facts_of(name: str, entry: Accelerator) -> AcceleratorFacts:
    """What policy may judge of a class."""
    export = figures_of(entry)
    return AcceleratorFacts(
        name=name,
        vendor=entry.vendor,
        headquarters=entry.headquarters,
        memory_gib=entry.memory_gib,
        memory_bandwidth_gb_per_s=entry.memory_bandwidth_gb_per_s,
        export_class=export.class_.value,
        export_tpp=export.tpp.value,
        export_performance_density=export.performance_density.value,
        licence=tuple(LicenceState(step.from_, step.state) for step in entry.licence),
        source=entry.source,
        as_of=entry.as_of,
    )


def figures_of(entry: Accelerator) -> ExportFigures:
    """Export attributes: computed from peaks and die area, but for those that the entry states."""
    peaks: dict[str, float | None] = entry.peak_tops.model_dump()
    return export_figures(peaks, entry.die_area_mm2, _stated_export(entry.export))


def _stated_export(export: Export) -> dict[str, float | str | None]:
    return export.model_dump(by_alias=True, include=set(export.model_fields_set))


def described(name: str, entry: Accelerator, sources: Mapping[str, Source]) -> Described:
    """Everything known of a class; `sources` explains the ids that its facts cite."""
    cited = origins(entry)
    facts = []
    for path, value in stated(entry).items():
        at = cited[path]
        title, url, trust = _resolved(at.source, sources)
        facts.append(Fact(path, value, title, url, at.as_of or "", at.confidence or trust, at.note or ""))
    steps = []
    for step in entry.licence:
        title, url, trust = _resolved(step.source, sources)
        as_of = cited["licence"].as_of or ""
        steps.append(LicenceFact(step.from_, step.state, step.text, title, url, as_of, trust))
    return Described(facts_of(name, entry), tuple(facts), tuple(steps), figures_of(entry), entry.notes)


def _resolved(source: str, sources: Mapping[str, Source]) -> tuple[str, str, str]:
    """(words, URL, confidence) of a cited id; words that are no id stand for themselves."""
    known = sources.get(source)
    return (f"{known.title} ({known.as_of})", known.url or "", known.confidence) if known else (source, "", "")
