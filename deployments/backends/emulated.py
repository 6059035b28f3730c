"""A pool of hardware that is not here: the answer is computed for real on this CPU, its time is drawn from a profile.

Owns the waiting and the count of batches that could not keep the drawn time. Never passes for the real thing.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from deployments.backends.base import Arrays, Backend, BackendError, LoadContext, Placement, parse_options
from deployments.backends.onnx import OnnxBackend
from models.latency import LatencyProfile
from models.profile_store import ProfileError, find_profile
from models.spec import ModelSpec

_Z90, _Z99 = 1.2815515655446004, 2.3263478740408408
"""90th and 99th percentile of the standard normal distribution."""


class EmulatedOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of the `emulated` backend. The class whose profile is followed is the pool's."""

    time_scale: float = 1.0
    """Every drawn time is multiplied by it (> 0): above 1 where this CPU is too slow to keep up."""
    seed: int = 0
    profile: str = ""
    """Path of a profile file; "" takes the bundled one of the class."""


class EmulatedBackend(Backend):
    """Times of a batch of n rows are lognormal, with the profile's p50 and p99 at n as median and 99th percentile.

    Where the profile has a p90 too, the logarithm bends there, so that all three are met.

    The draws are one seeded sequence per model, in the order of the batches. A batch whose computation takes longer
    than its draw is answered as soon as it is computed and counted in `overruns`.
    """

    api_version = 1
    Options = EmulatedOptions
    emulated = True

    def __init__(
        self,
        spec: ModelSpec,
        options: Mapping[str, Any],
        context: LoadContext,
        *,
        clock_s: Callable[[], float] = time.perf_counter,
        sleep_s: Callable[[float], None] = time.sleep,
    ) -> None:
        """Raises BackendError: bad options, no profile for model and class, or what OnnxBackend raises."""
        asked = parse_options(EmulatedOptions, options)
        if not (asked.time_scale > 0 and math.isfinite(asked.time_scale)):
            raise BackendError(
                f"backend options: time_scale must be above 0, not {asked.time_scale} - at `$.time_scale`"
            )
        self._profile = _profile(spec.name, context.accelerator, asked)
        self._inner = OnnxBackend(spec, {"provider": "cpu"})
        self.placement: Placement = msgspec.structs.replace(
            self._inner.placement, device=f"emulated {context.accelerator} on {self._inner.placement.device}"
        )
        self.overruns = 0
        self._scale = asked.time_scale
        self._rng = random.Random(f"{asked.seed}:{spec.name}")
        self._clock_s = clock_s
        self._sleep_s = sleep_s

    def run(self, inputs: Arrays, outputs: tuple[str, ...]) -> Arrays:
        """Compute the batch, then wait until the time drawn for its rows has passed. Raises BackendError."""
        started_s = self._clock_s()
        answer = self._inner.run(inputs, outputs)
        rows = len(next(iter(inputs.values())))
        left_s = started_s + self._draw_s(rows) - self._clock_s()
        if left_s < 0:
            self.overruns += 1
        else:
            self._sleep_s(left_s)
        return answer

    def close(self) -> None:
        """Release the inner session."""
        self._inner.close()

    def _draw_s(self, rows: int) -> float:
        """Service time of the next batch, in seconds."""
        profile = self._profile
        p50_s, p90_s, p99_s = profile.service_time_s(rows), profile.p90_time_s(rows), profile.tail_time_s(rows)
        z = self._rng.normalvariate(0.0, 1.0)
        if p90_s is None:
            return self._scale * p50_s * math.exp(z * math.log(p99_s / p50_s) / _Z99)
        body = min(z, _Z90) * math.log(p90_s / p50_s) / _Z90
        tail = max(z - _Z90, 0.0) * math.log(p99_s / p90_s) / (_Z99 - _Z90)
        return self._scale * p50_s * math.exp(body + tail)


def _profile(model: str, accelerator: str, asked: EmulatedOptions) -> LatencyProfile:
    """The profile asked for. Raises BackendError."""
    try:
        return find_profile(model, accelerator, asked.profile)
    except ProfileError as error:
        raise BackendError(f"backend options: {error}") from error
