"""Durations as people write them, `50ms`, to seconds. Pure; used by the config and by the x-pointsman-* headers."""

from __future__ import annotations

import re

MAX_DURATION_S = 3600.0
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(us|ms|s|m|h)")


def parse_duration_s(text: str) -> float:
    """Seconds of `text`, in (0, 3600]. Raises ValueError in words fit for the one who wrote it."""
    match = _DURATION.fullmatch(text.strip(" "))
    if match is None:
        raise ValueError(f'"{text[:40]}" is not a duration: write a number and a unit, such as 50ms, 2s or 1m')
    seconds = float(match[1]) * _SECONDS[match[2]]
    if not 0.0 < seconds <= MAX_DURATION_S:
        raise ValueError(f'"{text[:40]}" is out of range: a duration is more than 0 and at most 1h')
    return seconds
