"""The live replicas of every pool, as Ray Serve sees them. The only file on Serve's (alpha) request router API.

A pool's deployment names `MembershipWatcher` as its request router class. Where a router replica holds a handle to the
pool, Serve runs the watcher there and tells it each change; no request ever goes through the handle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray import serve
from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from deployments import members
from deployments.members import Members

POOL_DEPLOYMENT = "PoolReplica"


def app_name(pool: str) -> str:
    """Name of the Serve application of a pool."""
    return f"pool-{pool}"


class MembershipWatcher(RequestRouter):
    """Hands the list of running replicas to whoever watches the pool in this process."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Never used by Pointsman; kept truthful for whoever calls the handle by hand."""
        return [candidate_replicas]

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Serve's list changed. Called on a thread of Serve's own."""
        super().update_replicas(replicas)
        found = {r.replica_id.unique_id: (m["host"], m["port"]) for r in replicas if (m := r.replica_metadata)}
        members.tell(self.app_name, found)


def watch(pool: str, listener: Callable[[Members], None]) -> Any:
    """Call `listener` with every change of the pool's replicas, on another thread. Keep what is returned alive."""
    members.listeners[app_name(pool)] = listener
    handle = serve.get_deployment_handle(POOL_DEPLOYMENT, app_name(pool), _check_exists=False)
    handle._init()  # starts the watcher; a handle is otherwise started by its first request
    return handle
