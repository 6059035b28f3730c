"""Acme's runtime behind the contract of Pointsman's backends. The only file that knows both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from acme_runtime import device
from deployments.backends.base import (
    Arrays,
    Backend,
    BackendError,
    InputError,
    LoadContext,
    Placement,
    parse_options,
)
from models.spec import ModelSpec


class AcmeOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a pool may say under `backend: options:`."""

    tile_rows: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 16
    """Rows that the chip holds at a time: longer batches are computed in several steps."""


class AcmeBackend(Backend):
    """One model as one program of the chip."""

    api_version = 1
    Options = AcmeOptions
    emulated = True  # Acme has no chip: this example computes on the CPU, and says so wherever its pool is shown

    def __init__(self, spec: ModelSpec, options: Mapping[str, Any], context: LoadContext) -> None:
        """Raises BackendError: a file that is no ONNX graph, or a graph that the chip cannot hold whole."""
        self._tile_rows = parse_options(AcmeOptions, options).tile_rows
        self._name = spec.name
        path = str(Path(spec.folder, spec.variants[0].file))
        try:
            program = device.Program(path)
        except Exception as error:
            raise BackendError(f"{spec.name}: Acme's compiler refuses {path}: {error}") from error
        self._first = spec.inputs[0].name
        self._program: device.Program | None = program
        self.placement = Placement("acme", program.nodes, 0, f"{context.accelerator}: {device.NAME}")

    def run(self, inputs: Arrays, outputs: tuple[str, ...]) -> Arrays:
        """One stacked batch, in tiles. Raises InputError for values that are no numbers, else BackendError."""
        program = self._program
        if program is None:
            raise BackendError(f"{self._name}: the program is closed")
        wanted = outputs or tuple(program.outputs)
        if unknown := set(wanted) - set(program.outputs):
            raise BackendError(f"{self._name}: no outputs {', '.join(sorted(unknown))}")
        for name, array in inputs.items():
            if not np.isfinite(array).all():  # the chip's arithmetic has no infinity and no NaN
                raise InputError(f"{name}: holds values that are no finite numbers")
        tiles = []
        try:
            for start in range(0, len(inputs[self._first]), self._tile_rows):
                tile = slice(start, start + self._tile_rows)
                tiles.append(program.run({name: array[tile] for name, array in inputs.items()}))
        except Exception as error:  # whatever the driver raises
            raise BackendError(f"{self._name}: {error}") from error
        return {name: np.concatenate([tile[name] for tile in tiles]) for name in wanted}

    def close(self) -> None:
        """Give the device's memory back."""
        self._program = None
