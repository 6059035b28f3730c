"""What became of one request: the frozen record that metrics, logs and audit read. Written once, at its end."""

from __future__ import annotations

import msgspec


class RequestRecord(msgspec.Struct, frozen=True, gc=False):
    """All times are seconds of duration; 0 where the step was not reached.

    `outcome` is "answered" or the reason of the error (a key of router/protocol/problem.py), or "client_gone".
    """

    request_id: str
    tenant: str
    """Tenant id, or "" where none was proven."""
    model: str
    """Model name if the router knows it, else "" (keeps label values bounded)."""
    outcome: str
    status: int
    pool: str = ""
    accelerator: str = ""
    emulated: bool = False
    attempts: int = 0
    """Dispatches to a replica, the first one included."""
    parse_s: float = 0.0
    decide_s: float = 0.0
    queue_s: float = 0.0
    """Waiting in router and replica, as the replica reported it plus the wait for credit here."""
    batch_s: float = 0.0
    """Forming the batch: stack, pad, tokenise."""
    run_s: float = 0.0
    total_s: float = 0.0
    batch_rows: int = 0
    predicted_s: float = 0.0
    """Completion predicted at the last dispatch."""
    actual_s: float = 0.0
    """From the last dispatch to its answer."""
    deadline_met: bool = False
    target_met: bool = False
    rejected: tuple[tuple[str, str], ...] = ()
    """(pool, reason) of the final decision, only for a request that ended without any pool."""
    rows: int = 0
    """Of the request itself, where it was answered."""
    failed: tuple[tuple[str, str], ...] = ()
    """(pool, reason) of every attempt that ended without an answer."""
