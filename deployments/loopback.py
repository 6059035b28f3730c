"""Keeps Ray on this machine to the loopback interface. Owns one setting of Ray Serve's that has no public switch.

Serve gives every replica a gRPC server for handle calls, on all interfaces, which unpickles what it receives and asks
for no token. Pointsman's requests never use it, so on a one-machine cluster nobody else needs to reach it either.
"""

from __future__ import annotations

import ray.serve._private.replica as serve_replica
from ray.util import get_node_ip_address

LOOPBACK = "127.0.0.1"
ALL = "[::]"


def confine_replica() -> None:
    """Call in a replica's constructor, which runs before Serve opens that server. Leaves a real cluster as it is."""
    if get_node_ip_address() != LOOPBACK:
        return
    opened = serve_replica.add_port_to_grpc_server
    if getattr(opened, "confined", False):
        return

    def confined(server: object, address: str) -> int:
        return int(opened(server, address.replace(ALL, LOOPBACK)))

    confined.confined = True  # type: ignore[attr-defined]
    serve_replica.add_port_to_grpc_server = confined
