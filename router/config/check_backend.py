"""What `backend:` of a pool means: the built-in types against the catalogue, all others against their packages.

Knows packages only through the argument `kinds`; imports none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from router.config.build import KINDRED, PROVIDERS
from router.config.check_server import path_of
from router.config.check_upstream import upstream_options
from router.config.problems import unknown
from router.config.read import Draft
from router.config.schema import Fleet, Pool
from router.config.schema_accelerator import Accelerator
from router.config.schema_backend import SCHEMAS, EmulatedBackend, OnnxBackend, OtherBackend, UpstreamBackend
from router.config.settings import UPSTREAM

MAX_OPTION_DEPTH = 8
MAX_OPTIONS = 1000
"""Values of one pool's options, nested ones included."""
MAX_TEXT_CHARS = 4096


class Judged(msgspec.Struct, frozen=True):
    """What a package says of one pool's options for its type."""

    emulated: bool = False
    faults: tuple[tuple[str, str], ...] = ()
    """(path below `backend`, such as options.tiles[2], and words); never with a value, which may be a secret."""


Kinds = Mapping[str, Callable[[Mapping[str, Any]], Judged]]
"""Types of other packages that this environment has, each with the check of its options."""


class Chosen(msgspec.Struct, frozen=True):
    """A pool's backend, checked."""

    provider: str
    """Execution provider, or the type of another package's backend."""
    emulated: bool
    options: dict[str, Any]


def chosen(draft: Draft[Fleet], path: str, pool: Pool, entry: Accelerator, kinds: Kinds) -> Chosen:
    """What runs the pool at `path`; every fault is in the draft."""
    backend = pool.backend
    if isinstance(backend, OnnxBackend):
        return _onnx(draft, path, pool, entry, backend)
    if isinstance(backend, EmulatedBackend):
        given = backend.model_dump(exclude={"type"}, exclude_none=True)
        if backend.profile is not None:
            given["profile"] = path_of(Path(draft.document.file).absolute().parent, backend.profile)
        return Chosen("cpu", True, given)
    if isinstance(backend, UpstreamBackend):
        here = Path(draft.document.file).absolute().parent
        given = upstream_options(draft, f"{path}.backend", pool, backend, here)
        return Chosen(UPSTREAM, bool(backend.emulated), given)
    return _other(draft, f"{path}.backend", backend, kinds)


def _onnx(draft: Draft[Fleet], path: str, pool: Pool, entry: Accelerator, backend: OnnxBackend) -> Chosen:
    provider = backend.provider or entry.provider
    at = f"{path}.backend.provider"
    if provider is None:
        draft.fault(f"{path}.backend", f'accelerator class "{pool.accelerator}" has no default provider: name one')
    elif backend.provider is not None and provider not in PROVIDERS:
        draft.fault(at, unknown("provider", provider, PROVIDERS))
    elif entry.provider in KINDRED and provider not in KINDRED[entry.provider]:
        # A pool must not answer in the name of hardware that its provider never touches.
        draft.fault(
            at,
            f'"{provider}" does not run on "{pool.accelerator}", '
            f"{' or '.join(KINDRED[entry.provider])} does; for hardware that is not there: type: emulated",
        )
    given = backend.model_dump(exclude={"type"}, exclude_none=True) | {"provider": provider or ""}
    return Chosen(provider or "", False, given)


def _other(draft: Draft[Fleet], path: str, backend: OtherBackend, kinds: Kinds) -> Chosen:
    if backend.type not in kinds:
        words = unknown("backend", backend.type, {*SCHEMAS, *kinds})
        package = "" if "did you mean" in words else (
            "; a type of another package needs that package in the Python environment that runs pointsman"
        )  # fmt: skip
        draft.fault(f"{path}.type", words + package)
        return Chosen(backend.type, False, {})
    faults = [(key, f"what {backend.type} takes stands under options:") for key in backend.model_extra or {}]
    faults += _bounded(backend.options)
    judged = Judged() if faults else kinds[backend.type](backend.options)
    for below, words in (*faults, *judged.faults):
        draft.fault(f"{path}.{below}", words)
    return Chosen(backend.type, judged.emulated, backend.options)


def _bounded(options: dict[str, Any]) -> list[tuple[str, str]]:
    """The first fault of options that could not travel to a replica as they are, as (path, words)."""
    todo: list[tuple[str, Any, int]] = [("options", options, 0)]
    seen = 0
    while todo:
        path, value, depth = todo.pop()
        seen += 1
        if depth > MAX_OPTION_DEPTH:
            return [(path, f"is nested deeper than {MAX_OPTION_DEPTH} levels")]
        if seen > MAX_OPTIONS:
            return [("options", f"hold more than {MAX_OPTIONS} values")]
        if isinstance(value, dict):
            todo += [(f"{path}.{key}", below, depth + 1) for key, below in value.items()]
        elif isinstance(value, list):
            todo += [(f"{path}[{index}]", below, depth + 1) for index, below in enumerate(value)]
        elif isinstance(value, str) and len(value) > MAX_TEXT_CHARS:
            return [(path, f"must be at most {MAX_TEXT_CHARS} characters long")]
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            return [(path, "must fit in 64 bits")]
        elif isinstance(value, float) and not math.isfinite(value):
            return [(path, "must be a finite number")]
    return []
