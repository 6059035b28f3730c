"""What a configuration may say of the backend of a pool: one strict schema of keys per type. Values only.

A type that is built in is one class here and one line in SCHEMAS and in BackendKeys. All other types are OtherBackend.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Discriminator, Field, Tag

from router.config.schema_types import Name, Positive, Strict, Text
from router.config.schema_upstream import UpstreamKeys
from router.config.settings import UPSTREAM


class _Typed(Strict):
    type: Name = "onnx"


class OnnxBackend(_Typed):
    """ONNX Runtime in the replica."""

    provider: Name | None = None
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None


class EmulatedBackend(_Typed):
    """Another class's timing on this CPU."""

    time_scale: Positive | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    profile: Text | None = None


class UpstreamBackend(UpstreamKeys, _Typed):
    """Another server that speaks the Open Inference Protocol."""


class OtherBackend(_Typed):
    """A type of another package, or one that nobody knows: check_backend.py tells. Extra keys are its to refuse."""

    model_config = ConfigDict(extra="allow")

    options: dict[Text, Any] = {}
    """The package's own."""


SCHEMAS: dict[str, type[Strict]] = {"onnx": OnnxBackend, "emulated": EmulatedBackend, UPSTREAM: UpstreamBackend}
"""Built-in types with the keys that they take."""


def _tag(value: object) -> str:
    kind = value.get("type", "onnx") if isinstance(value, dict) else getattr(value, "type", None)
    return f"[{kind}]" if isinstance(kind, str) and kind in SCHEMAS else "[other]"


BackendKeys = Annotated[
    Annotated[OnnxBackend, Tag("[onnx]")]
    | Annotated[EmulatedBackend, Tag("[emulated]")]
    | Annotated[UpstreamBackend, Tag("[oip_upstream]")]
    | Annotated[OtherBackend, Tag("[other]")],
    Discriminator(_tag),
]
"""`backend:` of a pool. The tags stand in the place of an error and are left out of its path."""
