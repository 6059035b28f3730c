"""The fleet as one request sees it: a snapshot taken once, never changed."""

from __future__ import annotations

import msgspec

from router.core.facts import Emulation


class ServingView(msgspec.Struct, gc=False):
    """One model on one pool.

    `curve` holds (rows, seconds) points of the service time of one batch, sorted by rows, corrected by what replicas
    report; it is never empty for a ready pool.
    """

    version: str
    max_rows: int
    curve: tuple[tuple[int, float], ...]
    variant: str = ""
    """Which form of the model, as the replica last heard of says."""
    why: str = ""
    """Why no replica takes it now, where they said."""
    full: bool = False
    """What they said is that waiting helps."""


class PoolView(msgspec.Struct, gc=False):
    """One pool. Counts cover every replica; `waiting_rows` is by model and includes what runs now."""

    name: str
    accelerator: str
    emulated: bool
    cost: float
    """Relative cost of one second of one replica (> 0)."""
    ready_replicas: int
    draining: bool
    inflight: int
    """Requests leased on this pool by this router."""
    capacity: int
    """Requests this router may have leased here at once (credits of its replicas plus its bounded queue)."""
    models: dict[str, ServingView]
    waiting_rows: dict[str, int]
    """Rows queued or running by model, the larger of this router's own count and the replicas' last report."""
    emulation: Emulation | None = None
    """None where the hardware is real."""
    region: str = ""


class FleetSnapshot(msgspec.Struct, gc=False):
    """All configured pools, whether ready or not, in config order."""

    taken_at_s: float
    pools: tuple[PoolView, ...]
