"""What another server says of its models: does its metadata fit ours, and how many requests wait there. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from models.spec import ModelSpec, TensorSpec

_PENDING = re.compile(r"^nv_inference_pending_request_count\{([^}]*)\}\s+([0-9.eE+]{1,24})(?=\s|$)", re.MULTILINE)
"""Triton's gauge: requests of a model that wait to be run."""
MOST_PENDING = 1e9
"""More is no count of requests."""
WORDS = 200
"""Characters of a misfit's words at most: they quote the server's document."""
_MODEL = re.compile(r'(?:^|,)\s*model="((?:[^"\\]|\\.)*)"')


class Misfit(ValueError):
    """Another server's model is not the model here. The text says in what."""

    def __init__(self, words: str) -> None:
        super().__init__(words if len(words) <= WORDS else words[: WORDS - 1] + "…")


class _Tensor(msgspec.Struct):
    name: str
    datatype: str
    shape: list[Any] = []


class _Metadata(msgspec.Struct):
    inputs: list[_Tensor] | None = None
    outputs: list[_Tensor] | None = None
    versions: list[Any] | None = None


def accepted_there(spec: ModelSpec, document: bytes, version: str) -> tuple[tuple[TensorSpec, ...], ...]:
    """Those of the model's complete sets of inputs that the server takes, by the body of its GET /v2/models/NAME.

    `version` is the one to be asked for, "" for whichever it gives. A server that lists no tensors is believed to have
    the model's own: probes and answers are checked all the same. Raises Misfit.
    """
    try:
        said = msgspec.json.decode(document, type=_Metadata)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Misfit(f"its metadata cannot be read: {error}") from None
    if version and said.versions and version not in [str(each) for each in said.versions]:
        raise Misfit(f"it has the versions {', '.join(map(str, said.versions))}, not {version}")
    outputs = {tensor.name: tensor for tensor in said.outputs or ()}
    if outputs:
        for output in spec.outputs:
            _check("output", output, outputs)
    inputs = {tensor.name: tensor for tensor in said.inputs or ()}
    if not inputs:
        return spec.accepted_inputs()
    sets = tuple(tensors for tensors in spec.accepted_inputs() if any(tensor.name in inputs for tensor in tensors))
    if not sets:
        known = " or ".join(", ".join(tensor.name for tensor in tensors) for tensors in spec.accepted_inputs())
        raise Misfit(f"it takes {', '.join(inputs)}; the model here takes {known}")
    for tensor in (tensor for tensors in sets for tensor in tensors):
        _check("input", tensor, inputs)
    for name in inputs:
        if all(tensor.name != name for tensors in sets for tensor in tensors):
            raise Misfit(f"it wants an input {name} that the model here does not have")
    return sets


def _check(kind: str, spec: TensorSpec, said: dict[str, _Tensor]) -> None:
    there = said.get(spec.name)
    if there is None:
        raise Misfit(f"it has no {kind} {spec.name}, only {', '.join(said)}")
    if there.datatype != spec.datatype:
        raise Misfit(f"{kind} {spec.name} is {there.datatype} there and {spec.datatype} here")
    if there.shape and not _same_shape(spec.shape, there.shape):
        here = [-1 if isinstance(axis, str) else axis for axis in spec.shape]
        raise Misfit(f"{kind} {spec.name} is of shape {there.shape} there and {here} here")


def _same_shape(here: Sequence[int | str], there: Sequence[Any]) -> bool:
    """An extent that the server leaves open, or that varies here, fits; one that both fix must be the same."""
    return len(here) == len(there) and all(
        isinstance(own, str) or not isinstance(other, int) or other < 0 or own == other
        for own, other in zip(here, there, strict=True)
    )


def pending_requests(metrics: str) -> dict[str, int]:
    """Requests that wait at a Triton server, by its own name of the model, from its metrics page.

    A model with a count that is none is left out: the page says nothing of it.
    """
    pending: dict[str, int] = {}
    for labels, value in _PENDING.findall(metrics):
        if (model := _MODEL.search(labels)) and (count := _count(value)) is not None:
            pending[model[1]] = pending.get(model[1], 0) + count
    return pending


def _count(text: str) -> int | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if 0.0 <= value <= MOST_PENDING else None
