"""Who wants to know the replicas of which pool, in this process.

Apart from membership.py because Serve pickles the module of a request router class by value: a registry in there would
be a copy that nobody reads.
"""

from __future__ import annotations

from collections.abc import Callable

Members = dict[str, tuple[str, int]]
"""Replica id to the address of its stream listener."""

listeners: dict[str, Callable[[Members], None]] = {}
"""Serve application name to the one that listens."""


def tell(application: str, members: Members) -> None:
    """Pass on a change; called on a thread of Serve's own."""
    listener = listeners.get(application)
    if listener is not None:
        listener(members)
