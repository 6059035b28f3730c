"""What a configuration may say of an accelerator class: facts, and for every fact where it comes from. Values only."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from router.config.schema_types import Country, Day, Moment, Name, Positive, Strict, Text, When

Confidence = Literal["high", "medium", "low"]
NotNegative = Annotated[float, Field(ge=0)]


class Source(Strict):
    """Where facts of the catalogue come from."""

    title: Text
    url: Text | None = None
    licence: Text | None = None
    """Terms under which the source may be used, where it states them."""
    as_of: When
    """The state of the source that was read."""
    confidence: Confidence


class Cited(Strict):
    """Where one fact comes from: an id of the catalogue's sources, or words."""

    source: Text
    as_of: Day | None = None
    """That of the entry, if left out."""
    confidence: Confidence | None = None
    """That of the source, if left out."""
    note: Text | None = None


def in_full(value: object) -> object:
    """A source alone, in its long form."""
    return {"source": value} if isinstance(value, str) else value


class Export(Strict):
    """Export attributes by numbers that are stated; those that are not are computed. Null: unknown."""

    class_: Text | None = Field(default=None, alias="class")
    tpp: NotNegative | None = None
    performance_density: NotNegative | None = None


class PeakTops(Strict):
    """Dense peaks in 10^12 operations per second. Null: unknown; 0: the part has no such unit."""

    fp16: NotNegative | None = None
    """Of bf16 too."""
    fp8: NotNegative | None = None
    int8: NotNegative | None = None
    fp4: NotNegative | None = None


class Licence(Strict):
    """State of the export licence requirement from a moment on."""

    from_: Moment = Field(alias="from")
    state: Literal["not-required", "required", "case-by-case", "use-restricted", "granted"]
    text: Text
    """Whom it binds and why, in words."""
    source: Text


class Aliases(Strict):
    """Names for people and scripts to know the class by. Placement reads `ray` and `kubernetes` of the entry."""

    ray: list[Text] = []
    """Names besides `ray.type`, such as labels that an operator sets."""
    kubernetes: list[Text] = []
    """Extended resources besides `kubernetes`."""
    driver: list[Text] = []
    """What nvidia-smi or npu-smi calls the device."""


class Ray(Strict):
    """How a Ray cluster knows the class."""

    resource: Text | None = None
    """What a replica asks for: GPU, NPU, TPU or a custom resource. Absent: a CPU only."""
    amount: Positive = 1.0
    type: Text | None = None
    """Accelerator type as Ray detects it on the node."""
    exact: bool = True
    """The type names this class and no other. Where not, the node's label decides."""


class Accelerator(Strict):
    """A class of the catalogue, or what a fleet file changes in one. Every fact has a source and a date."""

    source: Text
    """Of every fact that `sources` does not name: an id of the catalogue's sources, or words."""
    as_of: Day
    sources: dict[Name, Annotated[Cited, BeforeValidator(in_full, json_schema_input_type=str | Cited)]] = {}
    """By fact, such as peak_tops or peak_tops.fp8."""
    vendor: Text | None = None
    headquarters: Country | None = None
    form_factor: Text | None = None
    launch: When | None = None
    peak_tops: PeakTops = PeakTops()
    memory_gib: Positive | None = None
    memory_bandwidth_gb_per_s: Positive | None = None
    tdp_w: Positive | None = None
    process: Text | None = None
    die_area_mm2: Positive | None = None
    export: Export = Export()
    licence: list[Licence] = []
    provider: Name | None = None
    """Execution provider of pools of this class that name none."""
    execution_providers: list[Text] = []
    """Those of ONNX Runtime that run on it, by their own names, whether or not Pointsman has a backend for them."""
    ray: Ray = Ray()
    kubernetes: Text | None = None
    """Extended resource that a pod asks for, such as nvidia.com/gpu."""
    aliases: Aliases = Aliases()
    notes: str = ""

    @model_validator(mode="after")
    def _sound(self) -> Accelerator:
        for fact in sorted(self.sources.keys() - _FACTS):
            raise ValueError(f'sources names "{fact}", which is no fact')
        if any(later.from_ <= earlier.from_ for earlier, later in pairwise(self.licence)):
            raise ValueError("licence must be in the order of its dates, each once")
        return self


_ABOUT = frozenset({"source", "as_of", "sources", "notes", "licence"})
"""What is no fact with a source beside it: about the entry, or with sources of its own."""


def _keys(schema: type[Strict]) -> dict[str, str]:
    """Names in the YAML file by attribute."""
    return {name: field.alias or name for name, field in schema.model_fields.items()}


_SECTIONS: dict[str, type[Strict]] = {"peak_tops": PeakTops, "export": Export, "ray": Ray, "aliases": Aliases}
_FACTS = (_keys(Accelerator).keys() - _ABOUT) | {
    f"{name}.{key}" for name, section in _SECTIONS.items() for key in _keys(section).values()
}
"""What `sources` may name."""


def stated(entry: Accelerator) -> dict[str, object]:
    """Every fact that the entry states, None included, by path: memory_gib, peak_tops.fp8, ray.type, ..."""
    found: dict[str, object] = {}
    for name in _keys(Accelerator):
        if name not in entry.model_fields_set - _ABOUT:
            continue
        value = getattr(entry, name)
        if name in _SECTIONS:
            keys = _keys(_SECTIONS[name])
            found |= {f"{name}.{keys[at]}": getattr(value, at) for at in keys if at in value.model_fields_set}
        else:
            found[name] = value
    return found
