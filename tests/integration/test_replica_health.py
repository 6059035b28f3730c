"""What Serve is told when it asks a pool replica how it is."""

from __future__ import annotations

import pytest
from stream_rig import Replica

from deployments.backends.base import BackendError


async def test_a_backend_that_says_it_is_broken_fails_the_replica_s_health(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then the replica is well; afterwards Serve replaces it."""
    replica = await Replica().listen()
    try:
        replica.server.check()

        def broken() -> None:
            raise BackendError("the device is lost")

        monkeypatch.setattr(replica.backend, "check_health", broken)
        with pytest.raises(BackendError, match="the device is lost"):
            replica.server.check()
    finally:
        await replica.server.close()
