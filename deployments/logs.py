"""Sends this project's log lines where Ray Serve keeps those of the replica: one file per replica, rotated by Serve."""

from __future__ import annotations

import logging


def to_serve_log(level: int = logging.INFO) -> None:
    """Call once in a replica's constructor."""
    own = logging.getLogger("pointsman")
    own.setLevel(level)
    for handler in logging.getLogger("ray.serve").handlers:
        if handler not in own.handlers:
            own.addHandler(handler)
    own.propagate = False
