"""The facts of one served model, as values. No I/O, no arrays."""

from __future__ import annotations

import msgspec

BATCH_AXIS = "batch"
"""Name of the symbolic first axis along which requests are stacked."""

VARIANT_DTYPES = ("fp32", "fp16", "bf16", "int8")
"""Precisions that a variant may have."""


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


class Accuracy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A variant's answers beside the stored reference answers, on the CPU provider. A test measures both again."""

    max_abs_error: float
    """The largest difference of any element, rounded up."""
    cosine: float
    """Of the two answers as one vector each, rounded down: 1 is the same direction."""


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"meant_for": "for"}):
    """One form of the model: a file, and what a session of it needs. Which one a pool serves: models/variants.py."""

    name: str
    file: str
    """Several variants may share one."""
    sha256: str
    """Hex digest of the file, checked before it is loaded."""
    dtype: str = "fp32"
    """Of its weights and arithmetic, one of VARIANT_DTYPES. Its inputs and outputs are the model's all the same."""
    meant_for: tuple[str, ...] = ()
    """`for` in model.yaml: accelerator classes and execution providers. Empty: any."""
    sizes: dict[str, tuple[int, ...]] = {}
    """By symbolic axis, the only extents that a session runs, rising; what comes is padded to the next of them. For
    runtimes that compile a graph for each shape. An axis that is not here takes any extent."""
    provider_options: dict[str, dict[str, str]] = {}
    """By execution provider, options of its session."""
    accuracy: Accuracy | None = None

    @property
    def max_rows(self) -> int | None:
        """The most rows that one run takes; None: no bound of the variant's own."""
        return self.sizes[BATCH_AXIS][-1] if BATCH_AXIS in self.sizes else None


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

    def narrowed(self, variant: Variant) -> ModelSpec:
        """The model as a pool serves it that has chosen the variant: no other left, batches no larger than it takes."""
        return msgspec.structs.replace(self, variants=(variant,)).bounded(variant.max_rows)

    def accepted_inputs(self) -> tuple[tuple[TensorSpec, ...], ...]:
        """Every complete set of inputs a request may carry, the preferred one first."""
        if self.text is None:
            return (self.inputs,)
        return ((self.text.tensor,), self.inputs)
