"""What an encoding of inference requests is, and what each comes to. The encodings: oip.py and its siblings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
import numpy as np

from router.protocol.link import Tensor

Body = bytes | bytearray | memoryview


class InferParameters(msgspec.Struct, frozen=True):
    """Parameters of a request that the router acts on, as the client wrote them; None where it did not say."""

    timeout_us: int | None = None
    """Microseconds, >= 0."""
    priority: int | None = None
    """>= 0."""


class ParsedInfer(msgspec.Struct, frozen=True):
    """A well-formed request. Arrays have the dtype of their datatype (BYTES: objects of bytes) and are read-only."""

    id: str
    """Empty where the client gave none."""
    inputs: dict[str, np.ndarray]
    outputs: tuple[str, ...]
    """Names of the outputs wanted; empty: all."""
    parameters: InferParameters
    binary: Mapping[str, bool] = {}
    """Outputs for which the client said whether they are to come as binary data."""
    all_binary: bool = False
    """Whether the others are."""


class Encoded(msgspec.Struct, gc=False):
    """An answer on its way out: header lines (each ended by CRLF, content-length not among them) and the body.

    `more` are the parts of the body after the first, so that large tensors need not be copied together.
    """

    lines: bytes
    body: bytes
    more: Sequence[Body] = ()


class Codec(Protocol):
    """One encoding of requests and their answers. Holds nothing of a request but how its body is laid out."""

    def parse(self, body: Body, max_elements: int) -> ParsedInfer:
        """Raises RequestError: malformed, shape_mismatch, too_large (more than `max_elements` elements as text)."""
        ...

    def encode(self, model: str, version: str, asked: ParsedInfer, outputs: Sequence[Tensor]) -> Encoded:
        """The answer to `asked`. Raises UpstreamError (backend_failed) for what the encoding cannot say truly."""
        ...
