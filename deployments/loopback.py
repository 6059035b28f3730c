"""Keeps what is not encrypted to the loopback interface. Owns one setting of Ray Serve's that has no public switch.

Serve gives every replica a gRPC server for handle calls, on all interfaces, which unpickles what it receives and asks
for no token. Pointsman's requests never use it, so nobody else needs to reach it.
"""

from __future__ import annotations

import ray.serve._private.replica as serve_replica
from ray.util import get_node_ip_address

LOOPBACK = "127.0.0.1"
ALL = "[::]"


class LoopbackOnly(Exception):
    """Streams would leave the node, and nobody said that they may. The text says what to do."""


def stream_host(beyond_loopback: bool) -> str:
    """Address on which a replica of this node listens for routers. Raises LoopbackOnly."""
    node = get_node_ip_address()
    if node != LOOPBACK and not beyond_loopback:
        raise LoopbackOnly(
            f"this node of the Ray cluster is {node}, and streams between nodes are not encrypted: where the network "
            "between them is trusted, set stream.beyond_loopback: true"
        )
    return node


def confine_replica() -> None:
    """Call in a replica's constructor, which runs before Serve opens that server."""
    opened = serve_replica.add_port_to_grpc_server
    if getattr(opened, "confined", False):
        return

    def confined(server: object, address: str) -> int:
        return int(opened(server, address.replace(ALL, LOOPBACK)))

    confined.confined = True  # type: ignore[attr-defined]
    serve_replica.add_port_to_grpc_server = confined
