"""Predicted completion, in seconds from now, of a request on a pool. Arithmetic on a snapshot; learns nothing."""

from __future__ import annotations

from bisect import bisect_left
from math import inf

from router.core.fleet import PoolView, ServingView

Curve = tuple[tuple[int, float], ...]
"""(rows, seconds) of one batch, sorted by rows."""

_DENSE_ROWS = 128


def service_s(curve: Curve, rows: int) -> float:
    """Service time of one batch of `rows`: linear between points, constant below, in proportion above.

    The same numbers as models.latency.interpolate, without its copies. Infinite for an empty curve. A dense curve
    (a point for every number of rows, see `dense`) is a plain look-up.
    """
    if 0 < rows <= len(curve):
        point = curve[rows - 1]
        if point[0] == rows:
            return point[1]
    at = bisect_left(curve, (rows, 0.0))
    if at == len(curve):
        if not curve:
            return inf
        last_rows, last_s = curve[-1]
        return last_s * rows / last_rows
    x1, y1 = curve[at]
    if x1 == rows or at == 0:
        return y1
    x0, y0 = curve[at - 1]
    return y0 + (y1 - y0) * (rows - x0) / (x1 - x0)


def dense(curve: Curve, max_rows: int) -> Curve:
    """The same curve with a point for each of 1..max_rows; as it is where empty or where that would be long."""
    if not curve or max_rows > _DENSE_ROWS:
        return curve
    return tuple((rows, service_s(curve, rows)) for rows in range(1, max_rows + 1))


def idle_s(serving: ServingView, rows: int) -> float:
    """Completion of `rows` on a replica with nothing to do: a batch of its own, at once."""
    return service_s(serving.curve, rows)


def completion_s(pool: PoolView, model: str, serving: ServingView, rows: int) -> float:
    """Completion of `rows` of `model` on the pool as it is now. Infinite without a ready replica or a curve.

    What waits is spread evenly over the ready replicas, and the request goes to the least loaded one. Ahead of it run
    the other models' batches and its own model's full ones. It then joins the batch being filled, at the price of the
    curve at the joined size; only where it does not fit does it wait for that batch and run in the next.
    """
    curve = serving.curve
    replicas = pool.ready_replicas
    if not curve or not replicas:
        return inf
    ahead = 0
    wait_s = 0.0
    for name, waiting in pool.waiting_rows.items():
        if name == model:
            ahead = waiting // replicas
        elif name in pool.models:
            wait_s += _drain_s(pool.models[name], waiting // replicas)
    max_rows = serving.max_rows
    if ahead >= max_rows > 0:
        full, ahead = divmod(ahead, max_rows)
        wait_s += full * service_s(curve, max_rows)
    if ahead and ahead + rows > max_rows:
        return wait_s + service_s(curve, ahead) + service_s(curve, rows)
    return wait_s + service_s(curve, ahead + rows)


def _drain_s(serving: ServingView, rows: int) -> float:
    """Time one replica needs for `rows` of a model; 0 where the model has no curve yet."""
    if not rows or not serving.curve or serving.max_rows < 1:
        return 0.0
    full, rest = divmod(rows, serving.max_rows)
    rest_s = service_s(serving.curve, rest) if rest else 0.0
    return full * service_s(serving.curve, serving.max_rows) + rest_s
