"""A backend whose session runs a few shapes only: every batch goes in padded, and its answer comes out cut.

Owns nothing but that; where, how long and whether emulated is the inner backend's to say.
"""

from __future__ import annotations

from deployments.backends.base import Arrays, Backend, BackendError, Placement
from models.fixed_shapes import cut, padded
from models.spec import ModelSpec


class PaddedBackend(Backend):
    """Around the backend of a model whose chosen variant lists sizes."""

    api_version = 1

    def __init__(self, inner: Backend, spec: ModelSpec) -> None:
        self._inner = inner
        self._spec = spec
        self._sizes = spec.variants[0].sizes
        self.placement: Placement = inner.placement
        self.emulated = inner.emulated

    @property
    def overruns(self) -> int:
        """See Backend."""
        return self._inner.overruns

    def run(self, inputs: Arrays, outputs: tuple[str, ...]) -> Arrays:
        """See Backend."""
        try:
            whole, extents = padded(self._spec.inputs, inputs, self._sizes)
        except ValueError as error:
            raise BackendError(f"{self._spec.name}: {error}") from error
        return cut(self._spec.outputs, self._inner.run(whole, outputs), extents)

    def check_health(self) -> None:
        """See Backend."""
        self._inner.check_health()

    def close(self) -> None:
        """See Backend."""
        self._inner.close()
