"""Reads latency profiles from files (models/profiles/<accelerator>.yaml), strictly. Owns their form.

Measured or assumed, a file says which; nothing here estimates.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from models.latency import LatencyPoint, LatencyProfile
from models.repository import RepositoryError, read_yaml
from models.scaling import Scaling

FOLDER = Path(__file__).parent / "profiles"


class ProfileError(Exception):
    """No such profile, or its file is not well formed. The text names the file and what is wrong."""


class _Point(LatencyPoint, frozen=True, forbid_unknown_fields=True):
    """A point as its file writes it."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A profile file. `note` says on what, how and when; `scaling` by which rule a model's points are assumed."""

    accelerator: str
    basis: str
    note: str
    models: dict[str, list[_Point]]
    scaling: dict[str, Scaling] = {}


def load_profile(model: str, accelerator: str) -> LatencyProfile:
    """The bundled profile of the model on the class. Raises ProfileError."""
    return read_profile(_bundled(accelerator), model, accelerator)


def find_profile(model: str, accelerator: str, path: str = "") -> LatencyProfile:
    """The profile of the model on the class, from a file or the bundled one. Raises ProfileError."""
    return read_profile(Path(path), model, accelerator) if path else load_profile(model, accelerator)


def basis_of(accelerator: str, path: str = "") -> str:
    """Basis of the class's profiles, those of a file or the bundled ones: measured or assumed. Raises ProfileError."""
    return _read(Path(path) if path else _bundled(accelerator), accelerator).basis


def _bundled(accelerator: str) -> Path:
    known = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    if accelerator not in known:
        raise ProfileError(f"no latency profile for accelerator {accelerator!r}, known: {', '.join(known)}")
    return FOLDER / f"{accelerator}.yaml"


def read_profile(path: Path, model: str, accelerator: str) -> LatencyProfile:
    """The profile of the model on the class from that file. Raises ProfileError."""
    parsed = _read(path, accelerator)
    if model not in parsed.models:
        raise ProfileError(f"latency profile {path} has no model {model!r}, only: {', '.join(parsed.models)}")
    wrong = _fault(parsed, parsed.models[model])
    if wrong:
        raise ProfileError(f"latency profile {path}, model {model}: {wrong}")
    points = tuple(LatencyPoint(p.rows, p.p50_s, p.p99_s, p.p90_s) for p in parsed.models[model])
    return LatencyProfile(model, accelerator, points, parsed.basis, parsed.note.strip(), parsed.scaling.get(model))


def _read(path: Path, accelerator: str) -> _File:
    try:
        parsed = msgspec.convert(read_yaml(path), _File)
    except RepositoryError as error:
        raise ProfileError(f"latency profile {error}") from error
    except msgspec.ValidationError as error:
        raise ProfileError(f"latency profile {path}: {error}") from error
    if parsed.accelerator != accelerator:
        raise ProfileError(f"latency profile {path} is for accelerator {parsed.accelerator!r}, not {accelerator!r}")
    if parsed.basis not in ("measured", "assumed"):
        raise ProfileError(f"latency profile {path}: basis must be measured or assumed, not {parsed.basis!r}")
    return parsed


def _fault(parsed: _File, points: list[_Point]) -> str:
    """What is wrong with the profile, or ""."""
    rows = [point.rows for point in points]
    if not parsed.note.strip():
        return "note is empty: say on what and how the times were measured or assumed"
    if not points:
        return "it has no point"
    if rows != sorted(set(rows)) or rows[0] < 1:
        return f"rows must rise from at least 1, not {rows}"
    # Written so that NaN fails too.
    if not all(0 < point.p50_s <= point.p99_s < float("inf") for point in points):
        return "every point needs 0 < p50_s <= p99_s"
    known = [point for point in points if point.p90_s is not None]
    if known and not all(point.p90_s is not None and point.p50_s <= point.p90_s <= point.p99_s for point in points):
        return "either no point has a p90_s, or every one has, with p50_s <= p90_s <= p99_s"
    return ""
