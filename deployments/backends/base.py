"""The contract of a backend, for this project's own and for other packages: docs/backends.md tells it in full.

A package of another vendor imports from this file, from models.spec and from nothing else here. What changes the
contract for such a package raises API_VERSION.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import msgspec
import numpy as np

from models.spec import ModelSpec

API_VERSION = 1
"""Version of this contract. A backend class states the one that it was written for."""

Arrays = dict[str, np.ndarray]
"""Tensor name to array. BYTES tensors are object arrays of bytes."""


class Placement(msgspec.Struct, frozen=True):
    """Where a session really runs, as the runtime itself reports it after loading."""

    provider: str
    """What holds the nodes: OpenVINOExecutionProvider, or the name of a vendor's runtime."""
    nodes: int
    """Graph nodes (or fused subgraphs) assigned to `provider`."""
    other_nodes: int
    """Nodes the runtime put elsewhere. A model with any is refused."""
    device: str
    """Device name as the runtime gives it."""


class LoadContext(msgspec.Struct, frozen=True):
    """For whom a model is loaded."""

    pool: str = ""
    accelerator: str = ""
    """The pool's accelerator class, by its name in the catalogue or the fleet file."""


class BackendError(Exception):
    """A model could not be loaded or run. The text says what is missing and what to do."""


class InputError(BackendError):
    """The values of a request are what the model cannot take: its sender must change them."""


class NoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of a backend that takes none."""


class Backend(ABC):
    """One model loaded on one device.

    A replica makes one object per model, on a thread of its own. Each object's batches then run one after the other on
    another thread; several objects run at a time. `check_health`, `overruns` and `placement` are read from a third
    thread, and must not wait. `close` comes once the last batch has ended, whatever came of it.
    """

    api_version: ClassVar[int]
    """API_VERSION of the contract that the class was written for, as a number: `api_version = 1`."""
    Options: ClassVar[type[msgspec.Struct]] = NoOptions
    """What a pool may say under `backend: options:`. Forbids unknown fields; `__post_init__` may raise ValueError."""
    emulated: ClassVar[bool] = False
    """The answers are not computed by the accelerator class that the pool names. Shown wherever the pool is."""

    placement: Placement
    """Set once loaded: where the runtime, asked afterwards, says that the model is."""
    overruns: int = 0
    """Emulated backends: batches whose real computation took longer than the time drawn for them. Else 0."""

    @abstractmethod
    def __init__(self, spec: ModelSpec, options: Mapping[str, Any], context: LoadContext) -> None:
        """Load the model; its files' checksums hold and the options fit `Options`. Raises BackendError."""

    @abstractmethod
    def run(self, inputs: Arrays, outputs: tuple[str, ...]) -> Arrays:
        """Run one stacked batch: the outputs named, or all for (). First axis of every array is rows.

        Inputs are not written to. What is returned is not touched again: it is sent later, without a copy.
        Raises InputError where a request's values are at fault, else BackendError. A batch that fails is run again
        item by item, so that only the culprit fails.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the device and its memory. A second call does nothing; `run` then raises BackendError."""

    def check_health(self) -> None:
        """Raise BackendError where no batch can succeed any more: the replica is then replaced. At once: no waiting."""
        return


Options = TypeVar("Options", bound=msgspec.Struct)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>[^`]*)`")
_AT = re.compile(r"(?P<words>.*?)(?: - at (?:`key` in )?`\$(?P<path>.*)`)?", re.DOTALL)


class OptionError(BackendError):
    """An option that the backend does not take: `path` such as tiles[2].rows, "" for the options as a whole."""

    def __init__(self, path: str, words: str) -> None:
        self.path, self.words = path, words
        super().__init__(f"backend options: {path}: {words}" if path else f"backend options: {words}")


def parse_options(kind: type[Options], options: Mapping[str, Any]) -> Options:
    """`options` as `kind`, strictly. Raises OptionError."""
    try:
        return msgspec.convert(options, kind)
    except msgspec.ValidationError as error:
        found = _AT.fullmatch(str(error))
        assert found is not None  # it matches any text
        path, words = (found["path"] or "").lstrip("."), found["words"]
        if unknown := _UNKNOWN.fullmatch(words):
            path = f"{path}.{unknown['field']}" if path else unknown["field"]
            words = "unknown key" + ("" if "." in path else f"; known: {', '.join(kind.__struct_fields__) or 'none'}")
        raise OptionError(path, words) from error
