"""The rule by which a latency profile is assumed, with its inputs: what was published of other hardware, scaled.

Pure arithmetic on values that travel with the profile, so that anyone can work out every point again.
"""

from __future__ import annotations

import msgspec

RULE = "steps-and-work"
"""p50 of n rows = steps x step_s + n x work_per_row / (samples_per_s x work_per_sample x precision x ratio)."""

ROUND_S = 7
"""Decimals of a point, in seconds."""


class Published(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A published result of an accelerator class: the reference that is scaled from."""

    accelerator: str
    benchmark: str
    """Benchmark, round, scenario, precision."""
    samples_per_s: float
    """Of one device."""
    work_per_sample: float
    """In the unit of Scaling."""
    precision: float
    """What is left of that speed in the precision served here: 0.5 for FP16 after INT8, 1 for the same."""
    source: str
    as_of: str


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a batch costs however small it is, for each step of a model (layer or block)."""

    seconds: float
    source: str


class Tail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Quantiles over the median."""

    p90: float
    p99: float
    source: str


class Scaling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rule and its inputs for one model on one class. `ratio` is this class's peak over the reference's."""

    rule: str
    unit: str
    """Of work: GFLOP, or rows of embedding tables that are read."""
    steps: int
    work_per_row: float
    step: Step
    reference: Published
    by: str
    """The peak that is scaled by: tflops or bandwidth."""
    peak: float
    reference_peak: float
    ratio: float
    tail: Tail

    def service_time_s(self, rows: int) -> float:
        """The median that the rule gives a batch of `rows`, in seconds."""
        reference = self.reference
        rate = reference.samples_per_s * reference.work_per_sample * reference.precision * self.ratio
        return self.steps * self.step.seconds + rows * self.work_per_row / rate

    def quantiles_s(self, rows: int) -> tuple[float, float, float]:
        """(p50, p90, p99) of a batch of `rows` as a profile writes them, in seconds."""
        p50_s = self.service_time_s(rows)
        return round(p50_s, ROUND_S), round(p50_s * self.tail.p90, ROUND_S), round(p50_s * self.tail.p99, ROUND_S)
