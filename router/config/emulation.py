"""What emulated pools follow: the basis of their latency profiles, read from the files that these name."""

from __future__ import annotations

import msgspec

from models.profile_store import ProfileError, basis_of
from router.config.settings import PoolSettings, Settings
from router.core.facts import Emulation


def with_emulation(settings: Settings) -> Settings:
    """The same, its emulated pools with their basis and time scale.

    A profile that is missing is no fault here: its pool does not start, and says why.
    """
    return msgspec.structs.replace(settings, pools=tuple(_pool(pool) for pool in settings.pools)).stamped()


def _pool(pool: PoolSettings) -> PoolSettings:
    if not pool.facts.emulated:
        return pool
    if pool.backend != "emulated":  # another server, or another package: whose times it keeps is not known here
        return _with(pool, Emulation("unknown", 1.0))
    try:
        basis = basis_of(pool.facts.accelerator.name, str(pool.options.get("profile", "")))
    except ProfileError:
        basis = "unknown"
    return _with(pool, Emulation(basis, float(pool.options.get("time_scale", 1.0))))


def _with(pool: PoolSettings, emulation: Emulation) -> PoolSettings:
    return msgspec.structs.replace(pool, facts=msgspec.structs.replace(pool.facts, emulation=emulation))
