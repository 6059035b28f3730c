"""What this machine's loopback carries: bytes there and back between two processes, blocking sockets, nothing else."""

from __future__ import annotations

import os
import socket
import threading
import time


def megabytes_per_s(nbytes: int, rounds: int) -> float:
    """Echoes of `nbytes`: MB/s in each direction. The peer sends back what it has read, as it comes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        if not (child := os.fork()):
            _echo(server)
        with socket.create_connection(server.getsockname()) as near:
            sent, room = bytearray(nbytes), memoryview(bytearray(nbytes))
            started_s = time.perf_counter()
            for _ in range(rounds):
                writer = threading.Thread(target=near.sendall, args=(sent,))
                writer.start()
                at = 0
                while at < nbytes:
                    at += near.recv_into(room[at:])
                writer.join()
            took_s = time.perf_counter() - started_s
        os.waitpid(child, 0)
    return rounds * nbytes / took_s / 1e6


def _echo(server: socket.socket) -> None:
    try:
        far, _ = server.accept()
        room = memoryview(bytearray(1 << 20))
        while n := far.recv_into(room):
            far.sendall(room[:n])
    finally:
        os._exit(0)
