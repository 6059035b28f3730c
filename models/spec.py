"""The facts of one served model, as values. No I/O, no arrays."""

from __future__ import annotations

import msgspec

BATCH_AXIS = "batch"
"""Name of the symbolic first axis along which requests are stacked."""


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One input or output tensor.

    `shape` holds ints (fixed) and names (symbolic). The first axis is always "batch". Any other symbolic axis is
    ragged: requests may differ in it, and are padded with `pad` to the longest of their batch.
    `datatype` is an Open Inference Protocol name: BOOL, UINT8..64, INT8..64, FP16..64, BF16, BYTES.
    """

    name: str
    datatype: str
    shape: tuple[int | str, ...]
    pad: float = 0.0
    max_length: int = 0
    """Longest allowed extent of each ragged axis; 0: no limit. One long request pads all of its batch."""
    valid: tuple[float, float] | None = None
    """Lowest and highest allowed value, for indices a device might read out of bounds. None: not checked."""


class BatchRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How requests of one model may be run together. `max_rows` bounds the sum of rows in a batch (>= 1)."""

    max_rows: int = 32


class TextInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The alternative input of a text model: a BYTES tensor of UTF-8 sentences, tokenised in the replica."""

    tensor: TensorSpec
    tokenizer: str
    """File name of the tokenizer (tokenizer.json) beside the model file."""
    max_tokens: int = 256
    """Longer sentences are cut to this many tokens, special ones included."""
    sha256: str = ""
    """Hex digest of the tokenizer file, checked before it is loaded."""


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file form of the model. `sha256` is the hex digest of the file, checked before it is loaded."""

    name: str
    file: str
    sha256: str


class ModelSpec(msgspec.Struct, frozen=True):
    """A model version as served. Source: model.yaml of a repository folder (models/repository.py)."""

    name: str
    version: str
    inputs: tuple[TensorSpec, ...]
    """What the graph takes."""
    outputs: tuple[TensorSpec, ...]
    batch: BatchRule
    variants: tuple[Variant, ...]
    platform: str = "onnxruntime_onnx"
    text: TextInput | None = None
    folder: str = ""
    """Absolute folder of the built files."""

    def bounded(self, max_rows: int | None) -> ModelSpec:
        """The model with its batches cut to what a configuration allows; None allows all."""
        if max_rows is None or max_rows >= self.batch.max_rows:
            return self
        return msgspec.structs.replace(self, batch=BatchRule(max_rows))

    def accepted_inputs(self) -> tuple[tuple[TensorSpec, ...], ...]:
        """Every complete set of inputs a request may carry, the preferred one first."""
        if self.text is None:
            return (self.inputs,)
        return ((self.text.tensor,), self.inputs)
