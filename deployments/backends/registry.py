"""The table of backend kinds. Owns the lookup by name, nothing else.

Other packages add a kind through an entry point of the group "pointsman.backends": name = kind, object = a
BackendFactory. A built-in kind cannot be replaced.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from deployments.backends.base import Backend, BackendError, BackendFactory
from deployments.backends.emulated import EmulatedBackend
from deployments.backends.onnx import OnnxBackend
from models.spec import ModelSpec

GROUP = "pointsman.backends"

_BUILT_IN: dict[str, BackendFactory] = {"onnx": OnnxBackend, "emulated": EmulatedBackend}


def create(kind: str, spec: ModelSpec, options: dict[str, object]) -> Backend:
    """A backend of that kind with the model loaded. Raises BackendError; an unknown kind lists the known ones."""
    return _factory(kind)(spec, options)


def _factory(kind: str) -> BackendFactory:
    if kind in _BUILT_IN:
        return _BUILT_IN[kind]
    others = entry_points(group=GROUP)
    if kind not in others.names:
        known = sorted(_BUILT_IN | dict.fromkeys(others.names))
        raise BackendError(f"unknown backend kind {kind!r}, known: {', '.join(known)}")
    try:
        factory: BackendFactory = others[kind].load()
    except Exception as error:  # whatever the other package's import raises
        raise BackendError(f"backend kind {kind!r} cannot be loaded from {others[kind].value}: {error}") from error
    return factory
