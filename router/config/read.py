"""A document into its schema: all faults at once, and what is sound kept so that its names can be checked as well."""

from __future__ import annotations

import difflib
import itertools
import re
import typing
from collections.abc import Iterator
from typing import Generic, TypeVar

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from router.config.document import Document
from router.config.problems import ConfigError, Problem

S = TypeVar("S", bound=BaseModel)
T = TypeVar("T")
Location = tuple[int | str, ...]
_TAG = re.compile(r"\[[a-z_]+\]")
"""What pydantic puts into a place that is no step of the path: `[key]`, and the tags of schema_backend.py."""


class Draft(Generic[S]):
    """The sound part of a document: `value` without the list items and mapping entries that have faults."""

    def __init__(self, document: Document, value: S, problems: list[Problem], faulty: set[Location]) -> None:
        self.document = document
        self.value = value
        self.problems = problems
        self._faulty = faulty

    def items(self, section: str) -> Iterator[tuple[str, typing.Any]]:
        """(path in the document, item) of the sound items of a list."""
        sound = iter(getattr(self.value, section))
        for index in itertools.count():
            if (section, index) not in self._faulty:
                item = next(sound, None)
                if item is None:
                    return
                yield f"{section}[{index}]", item

    def whole(self, section: str) -> bool:
        """Whether nothing of the section was left out."""
        return all(where[0] != section for where in self._faulty)

    def fault(self, path: str, message: str) -> None:
        """Note a problem at `path`."""
        self.problems.append(self.document.problem(path, message))


def read(document: Document, schema: type[S]) -> Draft[S]:
    """Check a document against its schema. Problems are in the draft; raises ConfigError if it is no mapping."""
    data = document.data
    if not isinstance(data, dict):
        raise ConfigError([document.problem("", "must be a mapping of keys to values")])
    problems: list[Problem] = []
    faulty: set[Location] = set()
    try:
        schema.model_validate(data)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_context=True):
            where = tuple(part for part in detail["loc"] if not _TAG.fullmatch(str(part)))
            problems.append(document.problem(_path(where), _words(detail, schema)))
            faulty.add(_prune_at(data, where))
    return Draft(document, schema.model_validate(_without(data, faulty)), problems, faulty)


def _prune_at(data: dict[str, object], where: Location) -> Location:
    """The smallest part to leave out: an item of a list, an entry of a mapping of names, or a section."""
    section = data.get(str(where[0]))
    if len(where) > 1 and (isinstance(section, list) or where[0] in ("accelerators", "models")):
        return where[:2]
    return where[:1]


def _without(data: dict[str, object], faulty: set[Location]) -> dict[str, object]:
    sound: dict[str, object] = {}
    for name, section in data.items():
        if (name,) in faulty:
            continue
        if isinstance(section, list):
            sound[name] = [item for index, item in enumerate(section) if (name, index) not in faulty]
        elif isinstance(section, dict):
            sound[name] = {key: item for key, item in section.items() if (name, key) not in faulty}
        else:
            sound[name] = section
    return sound


def _path(where: Location) -> str:
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


_SIMPLE = {
    "missing": "is required",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
}
_BOUNDS = {
    "greater_than": ("must be more than {}", "gt"),
    "greater_than_equal": ("must be at least {}", "ge"),
    "less_than_equal": ("must be at most {}", "le"),
    "string_too_long": ("must be at most {} characters long", "max_length"),
}


def _words(detail: ErrorDetails, schema: type[BaseModel]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        bound = context[key]
        return words.format(int(bound) if isinstance(bound, float) and bound.is_integer() else bound)
    if kind == "value_error":
        return str(context["error"])
    if kind == "string_type":
        quotes = isinstance(detail["input"], bool | int | float)
        return "must be text" + (": put it in quotes" if quotes else "")
    if kind == "literal_error":
        return f"must be {context['expected'].replace(chr(39), '')}"
    if kind == "extra_forbidden":
        return _unknown_key(schema, detail["loc"])
    return detail["msg"]


def _unknown_key(schema: type[BaseModel], where: Location) -> str:
    """Words for a key that the schema does not have there; the last two steps are a tag and a key where a type does."""
    key, tag = str(where[-1]), str(where[-2]) if len(where) > 1 else ""
    keys = _keys_at(schema, where[:-1])
    near = difflib.get_close_matches(key, keys, n=1)
    if _TAG.fullmatch(tag) and not (near and key not in _keys_at(schema, where[:-2])):
        takes = ", ".join(sorted(set(keys) - {"type"}))
        return f"a {where[-3]} of type {tag.strip('[]')} takes only {takes}"
    return "unknown key" + (f'; did you mean "{near[0]}"?' if near else "")


def _keys_at(schema: type[BaseModel], where: Location) -> list[str]:
    """The keys that the schema has at a place; of all types where a tag would tell which."""
    at: list[tuple[str, type[BaseModel]]] = [("", schema)]
    for part in where:
        if any(tag == part for tag, _ in at):
            at = [(tag, model) for tag, model in at if tag == part]
        for _, model in at:
            fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
            if part in fields:
                at = list(_models_in(fields[str(part)]))
                break
    return [field.alias or name for _, model in at for name, field in model.model_fields.items()]


def _models_in(annotation: object, tag: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """(tag, "" without one; model) of every model of an annotation."""
    if isinstance(annotation, type):
        if issubclass(annotation, BaseModel):
            yield tag, annotation
        return
    parts = typing.get_args(annotation)
    tags = [part.tag for part in parts if isinstance(part, Tag)]
    for part in parts:
        yield from _models_in(part, tags[0] if tags else tag)
