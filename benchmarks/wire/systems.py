"""The servers side by side: how each is started, in which environment, and what it speaks. Starts nothing itself."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from benchmarks.http.fleets import pointsman_fleet
from benchmarks.http.systems import System, pointsman
from benchmarks.http.venvs import environment

FORMS = ("json", "binary", "grpc")
CORES_A_ROUTER = 2
"""One router for two cores, as docs/operations.md advises: the other is for the pools."""
NAMES = ("pointsman", "triton", "kserve", "mlserver")


@dataclass(frozen=True)
class Speaker:
    """A server, its gRPC port and the forms it takes."""

    system: System
    grpc_port: int
    forms: tuple[str, ...] = FORMS
    key: str = ""


def speakers(names: list[str], root: Path, scratch: Path, store: Path) -> list[Speaker]:
    """The servers of these names, their environments made where they are not there yet."""
    make = {"triton": _triton, "kserve": _kserve, "mlserver": _mlserver}
    return [_pointsman(root, scratch, store) if name == "pointsman" else make[name](root) for name in names]


def _pointsman(root: Path, scratch: Path, store: Path) -> Speaker:
    routers = max(1, len(os.sched_getaffinity(0)) // CORES_A_ROUTER)
    config, key = pointsman_fleet("preferred", root, scratch, store, routers)
    return Speaker(pointsman("preferred", config, key), grpc_port=8001, key=key)


def _peer(name: str, module: str, note: str, port: int, root: Path, forms: tuple[str, ...] = FORMS) -> Speaker:
    command = [str(environment(name, root)), "-m", module]
    return Speaker(System(name, name, command, note, port=port, grace_s=20.0), port + 1, forms)


def _triton(root: Path) -> Speaker:
    note = "tritonserver 2.51 of nvidia-pytriton, Python backend, dynamic batching to 32 rows, one instance"
    return _peer("triton", "benchmarks.wire.peers.triton_server", note, 18060, root)


def _kserve(root: Path) -> Speaker:
    note = "Python ModelServer, one worker, the model inline, no batching"
    return _peer("kserve", "benchmarks.wire.peers.kserve_server", note, 18070, root)


def _mlserver(root: Path) -> Speaker:
    note = "in its main process, adaptive batching to 32 rows, 1 ms; takes no binary tensors over HTTP"
    return _peer("mlserver", "benchmarks.http.peers.mlserver_server", note, 18050, root, ("json", "grpc"))
