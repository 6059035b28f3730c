"""The contract of a backend: load a model, prove where it runs, run stacked batches. Called from a worker thread."""

from __future__ import annotations

from typing import Protocol

import msgspec
import numpy as np

from models.spec import ModelSpec

Arrays = dict[str, np.ndarray]
"""Tensor name to array. BYTES tensors are object arrays of bytes."""


class Placement(msgspec.Struct, frozen=True):
    """Where a session really runs, as the runtime itself reports it after loading."""

    provider: str
    """Execution provider that holds the nodes, for example OpenVINOExecutionProvider."""
    nodes: int
    """Graph nodes (or fused subgraphs) assigned to `provider`."""
    other_nodes: int
    """Nodes the runtime put elsewhere. More than 0 only where the class allows it."""
    device: str
    """Device name as the runtime gives it."""


class BackendError(Exception):
    """A model could not be loaded or run. The text says what is missing and what to do."""


class InputError(BackendError):
    """The values of a request are what the model cannot take: its sender must change them."""


class Backend(Protocol):
    """One model loaded on one device."""

    placement: Placement
    emulated: bool
    overruns: int
    """Emulated backends: batches whose real computation took longer than the time drawn for them. Else 0."""

    def run(self, inputs: Arrays, outputs: tuple[str, ...]) -> Arrays:
        """Run one stacked batch. First axis of every array is rows. Raises BackendError, InputError."""
        ...

    def close(self) -> None:
        """Release the session."""
        ...


class BackendFactory(Protocol):
    """What a registered backend is: builds a Backend for a model with the pool's options."""

    def __call__(self, spec: ModelSpec, options: dict[str, object]) -> Backend:
        """Raises BackendError with words an operator can act on."""
        ...
