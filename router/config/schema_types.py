"""The kinds of values a configuration holds, each with the words for what it must be. A message never repeats a value,
which may hold a secret by mistake.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from router.core.durations import parse_duration_s

MAX_EXPRESSION_CHARS = 4096
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_KEY = re.compile(r"sha256:[0-9a-f]{64}")
_WHEN = re.compile(r"[0-9]{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?)?")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_PREFIX = re.compile(r"[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){0,9}")
_COUNTRY = re.compile(r"[A-Z]{2}")


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("must be 1 to 63 letters, digits, dots, dashes and underscores, the first no punctuation")
    return value


def _label_value(value: str) -> str:
    if not _LABEL.fullmatch(value):
        raise ValueError("must be 1 to 63 letters, digits, dots, dashes and underscores, no punctuation at its ends")
    return value


def _label_key(value: str) -> str:
    prefix, slash, name = value.rpartition("/")
    if not _LABEL.fullmatch(name) or (slash and not _LABEL_PREFIX.fullmatch(prefix)):
        raise ValueError("must be a label key as Kubernetes has them, such as topology.kubernetes.io/zone")
    return value


def _key(value: str) -> str:
    if not _KEY.fullmatch(value):
        raise ValueError("must be sha256: and 64 lower-case hex digits, as `pointsman key new` prints them")
    return value


def _country(value: str) -> str:
    if not _COUNTRY.fullmatch(value):
        raise ValueError("must be a country code of two capital letters, such as US")
    return value


def _day(value: str) -> str:
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        raise ValueError("must be a date such as 2026-11-23") from None


def _when(value: str) -> str:
    """A year, a month or a day."""
    if not _WHEN.fullmatch(value):
        raise ValueError("must be a year, a month or a day such as 2026, 2026-11 or 2026-11-23")
    date.fromisoformat((value + "-01-01")[:10])
    return value


def _duration_s(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError("must be a duration with its unit, such as 50ms, 2s or 1m")
    return parse_duration_s(value)


def _moment_s(value: object) -> float:
    """Unix seconds of a date (its midnight, UTC) or of an RFC 3339 time, which has an offset."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is not None and isinstance(value, str) and len(value) == len("2026-11-23"):
        moment = moment.replace(tzinfo=UTC)
    if moment is None or moment.tzinfo is None:
        raise ValueError("must be a date such as 2026-11-23 or a time with its offset such as 2026-11-23T08:00:00Z")
    return moment.timestamp()


Name = Annotated[str, AfterValidator(_name)]
Text = Annotated[str, Field(min_length=1, max_length=1024)]
KeyDigest = Annotated[str, AfterValidator(_key)]
Country = Annotated[str, AfterValidator(_country)]
Day = Annotated[str, AfterValidator(_day)]
When = Annotated[str, AfterValidator(_when)]
Duration = Annotated[float, BeforeValidator(_duration_s, json_schema_input_type=str)]
Moment = Annotated[float, BeforeValidator(_moment_s, json_schema_input_type=str)]
Expr = Annotated[str, Field(min_length=1, max_length=MAX_EXPRESSION_CHARS)]
Labels = dict[Text, Text]
LabelKey = Annotated[str, AfterValidator(_label_key)]
LabelValue = Annotated[str, AfterValidator(_label_value)]
Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1, le=2**40)]
Host = Annotated[str, Field(min_length=1, max_length=255)]


class Strict(BaseModel):
    """No coercion, no unknown key, no NaN."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
