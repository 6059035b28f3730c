"""docs/operations.md against the schema: every key, its default, and nothing that is not there."""

import typing

import yaml
from docs_pages import ROOT, table
from pydantic import BaseModel

from router.config.schema import Fleet
from router.core.durations import parse_duration_s

OPEN = {"accelerators": ".NAME", "accelerators.NAME.sources": ".FACT", "models": ".NAME"}
"""Mappings from a name that the reader chooses."""
WHOLE = {"pools[].replicas", "routing.profile", "accelerators.NAME", "accelerators.NAME.sources.FACT"}
"""Sections that may also be given as one value, or have none of their own: told besides their keys."""


def keys(schema, prefix=""):
    """(path, field) of every key that holds a value; some stand in the schemas of several types."""
    for field_name, field in schema.model_fields.items():
        here = field.alias or field_name
        path = f"{prefix}{here}{OPEN.get(f'{prefix}{here}', '')}"
        inner = models_in(field.annotation)
        if inner and not (prefix == "" and here == "accelerators") and is_list(field.annotation):
            path += "[]"
        if path in WHOLE or not inner:
            yield path, field
        for section in inner:
            yield from keys(section, f"{path}.")


def models_in(annotation):
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in models_in(part)]


def is_list(annotation):
    return typing.get_origin(annotation) is list


def told():
    """Key to the default that the page gives."""
    return {row[0].strip("`"): row[1].strip("`") for row in table(ROOT / "docs" / "operations.md", "key")}


def test_the_page_has_every_key_and_no_other():
    """So that a key cannot come or go without its line."""
    assert sorted(told()) == sorted({path for path, _ in keys(Fleet)})


def test_the_page_has_the_true_defaults():
    """A dash where there is none, `required` where one must be given."""
    page = told()
    for path, field in keys(Fleet):
        if path in WHOLE:
            continue
        if field.is_required():
            assert page[path] == "required", path
        elif field.default in (None, "", [], {}):
            assert page[path] == "–", path
        elif isinstance(field.default, float) and page[path][-1].isalpha():
            assert parse_duration_s(page[path]) == field.default, path
        else:
            assert yaml.safe_load(page[path]) == field.default, path
