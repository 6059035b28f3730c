"""The fleet as one router sees it, in plain values for its operator."""

from __future__ import annotations

import msgspec

from router.state.fleet_view import FleetView


def fleet_status(view: FleetView, now_s: float) -> list[dict[str, object]]:
    """One entry per configured pool. Counts of requests are this router's own."""
    return [
        {
            "name": pool.name,
            "accelerator": pool.accelerator,
            "emulated": pool.emulated,
            "emulation": msgspec.to_builtins(pool.emulation),
            "cost": pool.cost,
            "ready_replicas": pool.ready_replicas,
            "draining": pool.draining,
            "inflight": pool.inflight,
            "capacity": pool.capacity,
            "providers": view.providers(pool.name),
            "waiting_rows": pool.waiting_rows,
            "models": {
                name: {
                    "version": serving.version,
                    "variant": serving.variant,
                    "max_rows": serving.max_rows,
                    "ready": bool(serving.curve),
                }
                for name, serving in pool.models.items()
            },
            "replicas": [msgspec.to_builtins(replica) for replica in view.replicas(pool.name)],
        }
        for pool in view.snapshot(now_s).pools
    ]
