"""What an encoding of inference requests is, and what each comes to. The encodings: oip.py and its siblings."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec
import numpy as np

from router.core.errors import RequestError
from router.protocol.link import Tensor

Body = bytes | bytearray | memoryview

BINARY_ONLY = frozenset({"FP16", "BF16"})
"""Datatypes without a text form: the Open Inference Protocol has them as binary data only."""


_CHANGE_MEANING = frozenset({"sequence_id", "sequence_start", "sequence_end", "classification"})
_CHANGE_MEANING_PREFIX = "shared_memory_"


def refuse_parameters(names: Iterable[str], where: str, also: Container[str] = ()) -> None:
    """Parameters that would change what the answer means, and those in `also`. Others may be ignored, as the protocol
    has it. Raises RequestError (malformed).
    """
    for name in names:
        if name in _CHANGE_MEANING or name in also or name.startswith(_CHANGE_MEANING_PREFIX):
            detail = f"{where}: parameter {name!r} is not supported and would change the meaning of the request"
            raise RequestError("malformed", detail)


class ParseLimits(msgspec.Struct, frozen=True):
    """What one request may make the router hold as objects. Numbers as binary data stay bytes: the body bounds them."""

    max_elements: int
    """Tensor elements that are text (JSON, protobuf's typed fields) or BYTES, over all inputs."""
    max_json_bytes: int
    """Of the JSON in a body, or before its binary data."""


class InferParameters(msgspec.Struct, frozen=True):
    """Parameters of a request that the router acts on, as the client wrote them; None where it did not say."""

    timeout_us: int | None = None
    """Microseconds, from 0 to 2**63 - 1."""
    priority: int | None = None
    """From 0 to 2**63 - 1."""


class ParsedInfer(msgspec.Struct, frozen=True):
    """A well-formed request. Arrays have the dtype of their datatype (BYTES: objects of bytes) and are read-only.

    They may be views of the body, which must not change while they live.
    """

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

    def wants_binary(self, output: str) -> bool:
        """Whether that output is to come as binary data."""
        return self.binary.get(output, self.all_binary)


class Encoded(msgspec.Struct, gc=False):
    """An answer on its way out: header lines (each ended by CRLF, content-length not among them) and the body.

    `more` are the parts of the body after the first, so that large tensors need not be copied together.
    """

    lines: bytes
    body: bytes
    more: Sequence[Body] = ()


class Codec(Protocol):
    """One encoding of requests and their answers. Holds nothing of a request but how its body is laid out."""

    def text_bytes(self, body: Body) -> int:
        """How much of the body becomes objects one by one, which holds the loop while it is read. At most too many."""
        ...

    def parse(self, body: Body, limits: ParseLimits) -> ParsedInfer:
        """Raises RequestError: malformed, shape_mismatch, too_large. Takes over `body`: it must not change any more."""
        ...

    def encode(self, model: str, version: str, asked: ParsedInfer, outputs: Sequence[Tensor]) -> Encoded:
        """The answer to `asked`. Raises UpstreamError (backend_failed) for what the encoding cannot say truly."""
        ...
