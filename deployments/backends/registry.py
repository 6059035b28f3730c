"""The table of backend kinds: this project's own, and what other packages of the environment register.

Owns the lookup by name and what is asked of a class before it is used. A package adds a kind through an entry point of
the group "pointsman.backends": name = kind, object = a subclass of Backend. A built-in kind cannot be replaced.
Imports a package only when its kind is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import msgspec

from deployments.backends.base import API_VERSION, Backend, BackendError, LoadContext, OptionError, parse_options
from deployments.backends.emulated import EmulatedBackend
from deployments.backends.onnx import OnnxBackend
from models.repository import RepositoryError, verify
from models.spec import ModelSpec
from router.config.check_backend import Judged

GROUP = "pointsman.backends"

_BUILT_IN: dict[str, type[Backend]] = {"onnx": OnnxBackend, "emulated": EmulatedBackend}


def create(kind: str, spec: ModelSpec, options: Mapping[str, Any], context: LoadContext) -> Backend:
    """A backend of that kind with the model loaded. Raises BackendError; an unknown kind lists the known ones."""
    return load(kind, find(kind), spec, options, context)


def load(
    kind: str, factory: type[Backend], spec: ModelSpec, options: Mapping[str, Any], context: LoadContext
) -> Backend:
    """The model in a backend of that class, whose kind is `kind` in words. Raises BackendError and nothing else.

    Its files are as their checksums say, and it is refused where some of it runs elsewhere than on the device.
    """
    try:
        if factory not in _BUILT_IN.values():  # which do so themselves
            verify(spec)
    except RepositoryError as error:
        raise BackendError(f"{spec.name}: {error}") from error
    try:
        backend = factory(spec, options, context)
        placement = backend.placement
    except BackendError:
        raise
    except Exception as error:  # a vendor's runtime may raise anything
        raise BackendError(f"backend {kind}: {spec.name}: {type(error).__name__}: {error}") from error
    if placement.other_nodes or not placement.nodes:
        backend.close()
        raise BackendError(
            f"backend {kind}: {spec.name}: {placement.provider} runs {placement.nodes} nodes and "
            f"{placement.other_nodes} run elsewhere: a pool answers only with what it names"
        )
    return backend


def find(kind: str) -> type[Backend]:
    """The class of that kind. Raises BackendError with the package at fault and what to do."""
    if kind in _BUILT_IN:
        return _BUILT_IN[kind]
    found = _installed().get(kind, [])
    if not found:
        known = sorted({*_BUILT_IN, *_installed()})
        raise BackendError(
            f"unknown backend kind {kind!r}, known: {', '.join(known)}; a further one comes with a package that this "
            "Python environment lacks"
        )
    if len(found) > 1:
        raise BackendError(f"backend kind {kind!r} is registered twice, by {' and '.join(map(_package, found))}")
    try:
        factory = found[0].load()
    except Exception as error:  # whatever the other package's import raises
        raise BackendError(
            f"backend kind {kind!r} cannot be loaded from {found[0].value} of {_package(found[0])}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if fault := misfit(factory):
        raise BackendError(f"backend kind {kind!r}: {found[0].value} of {_package(found[0])} {fault}")
    kind_class: type[Backend] = factory
    return kind_class


def kinds() -> dict[str, Callable[[Mapping[str, Any]], Judged]]:
    """What router.config.load is told of other packages: every kind they register, with the check of its options."""
    return {kind: partial(judge, kind) for kind in _installed()}


def judge(kind: str, options: Mapping[str, Any]) -> Judged:
    """What a package says of a pool's `backend:`. Imports it; loads no model."""
    try:
        factory = find(kind)
    except BackendError as error:
        return Judged(faults=(("type", str(error)),))
    try:
        parse_options(factory.Options, options)
    except OptionError as error:
        return Judged(factory.emulated, ((f"options.{error.path}".rstrip("."), error.words),))
    except Exception as error:  # as in `create`
        return Judged(factory.emulated, (("options", f"{type(error).__name__}: {error}"),))
    return Judged(factory.emulated)


def packages() -> list[tuple[str, str]]:
    """(kind, package and version) of all kinds, this project's own first."""
    theirs = [(kind, _package(point)) for kind, points in sorted(_installed().items()) for point in points]
    return [(kind, "pointsman") for kind in _BUILT_IN] + theirs


def _installed() -> dict[str, list[EntryPoint]]:
    """Kinds that other packages of this environment register, each with all that do."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        if point.name not in _BUILT_IN:
            found.setdefault(point.name, []).append(point)
    return found


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "a package without metadata"


def misfit(factory: Any) -> str:
    """Why the object is no backend of this contract, "" where it is one."""
    if not (isinstance(factory, type) and issubclass(factory, Backend)):
        return "is no subclass of deployments.backends.base.Backend"
    version = getattr(factory, "api_version", None)
    if version != API_VERSION:
        wanted = "states no api_version" if version is None else f"needs version {version} of the backend contract"
        return f"{wanted}; this Pointsman has version {API_VERSION}: install releases of both that agree"
    if factory.__abstractmethods__:
        return f"lacks {', '.join(sorted(factory.__abstractmethods__))}"
    options = factory.Options
    if not (issubclass(options, msgspec.Struct) and options.__struct_config__.forbid_unknown_fields):
        return "has Options that let unknown keys pass: a msgspec.Struct with forbid_unknown_fields=True is needed"
    if not isinstance(factory.emulated, bool):
        return "states no emulated of True or False"
    return ""
