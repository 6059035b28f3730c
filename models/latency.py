"""Service time of a model on one accelerator class, as a function of batch rows. Values only."""

from __future__ import annotations

from bisect import bisect_left

import msgspec

from models.scaling import Scaling


class LatencyPoint(msgspec.Struct, frozen=True):
    """Measured or assumed service time of one batch of `rows` rows, in seconds."""

    rows: int
    p50_s: float
    p99_s: float
    p90_s: float | None = None
    """None where only median and tail are known."""


class LatencyProfile(msgspec.Struct, frozen=True):
    """Points sorted by rows. `basis` is "measured" or "assumed"; an assumed one says how in `note`."""

    model: str
    accelerator: str
    points: tuple[LatencyPoint, ...]
    """All with a p90_s, or none."""
    basis: str = "measured"
    note: str = ""
    scaling: Scaling | None = None
    """The rule of an assumed profile that follows one, and its inputs."""

    def service_time_s(self, rows: int) -> float:
        """Median service time of a batch of `rows`, interpolated; beyond the last point it grows in proportion."""
        return interpolate([(p.rows, p.p50_s) for p in self.points], rows)

    def p90_time_s(self, rows: int) -> float | None:
        """90th percentile of the service time of a batch of `rows`, in seconds; None where it is not known."""
        known = [(p.rows, p.p90_s) for p in self.points if p.p90_s is not None]
        return interpolate(known, rows) if known else None

    def tail_time_s(self, rows: int) -> float:
        """99th percentile of the service time of a batch of `rows`, in seconds."""
        return interpolate([(p.rows, p.p99_s) for p in self.points], rows)


def interpolate(points: list[tuple[int, float]], rows: int) -> float:
    """Piecewise linear through sorted (rows, seconds); constant below the first, in proportion above the last."""
    xs = [x for x, _ in points]
    at = bisect_left(xs, rows)
    if at == 0:
        return points[0][1]
    if at == len(points):
        last_rows, last_s = points[-1]
        return last_s * rows / last_rows
    (x0, y0), (x1, y1) = points[at - 1], points[at]
    return y0 + (y1 - y0) * (rows - x0) / (x1 - x0)
