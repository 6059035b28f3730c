"""One system under test as a set of processes: start, wait until it answers, count its CPU, stop all of it.

A set is known by a mark in the environment, which every child inherits, so that processes that left the group
(Ray's HAProxy does) are still found. Only processes that carry this bench's mark are ever stopped, by pid.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import psutil

from benchmarks.http.systems import System
from benchmarks.http.workload import Workload, ask, fetch

MARK = "POINTSMAN_BENCH_MARK"
POLL_S = 0.1


class NotReady(Exception):
    """A system did not start or did not answer. The text ends with its log."""


def marked(mark: str | None = None) -> list[psutil.Process]:
    """Running processes that carry `mark`, or any mark of this bench where it is None."""
    found = []
    for process in psutil.process_iter():
        try:
            value = process.environ().get(MARK)
            if value is not None and mark in (None, value) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


class Running:
    """A started system. `cpu_s` is user plus system seconds of all its processes so far."""

    def __init__(self, system: System, mark: str, main: subprocess.Popen[bytes], log: Path) -> None:
        self.system = system
        self.mark = mark
        self.main = main
        self.log = log
        self.ready_s = 0.0
        """From the start of the process to its first answer."""

    def cpu_s(self) -> float:
        """CPU seconds used by the processes that live now."""
        total = 0.0
        for process in marked(self.mark):
            try:
                times = process.cpu_times()
                total += times.user + times.system
            except psutil.Error:
                continue
        return total

    def rss_bytes(self) -> int:
        """Resident memory of all its processes, shared pages counted once in each."""
        total = 0
        for process in marked(self.mark):
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
        return total

    def stop(self) -> list[str]:
        """Ask the main process, wait its grace, then kill what is left. Returns names of what had to be killed."""
        if self.main.poll() is None:
            self.main.send_signal(signal.SIGINT)
        end = time.monotonic() + self.system.grace_s
        while time.monotonic() < end and (self.main.poll() is None or marked(self.mark)):
            time.sleep(POLL_S)
        left = []
        while alive := marked(self.mark):
            for process in alive:
                try:
                    left.append(process.name())
                    process.kill()
                except psutil.Error:
                    continue
            time.sleep(POLL_S)
        self.main.wait()
        return left


def log_tail(log: Path, lines: int = 15) -> str:
    """Last lines of a log file."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def probe(system: System, work: Workload) -> str:
    """ "" where the system is ready and answers the real request with 200, else what it said."""
    try:
        if system.health:
            status, raw = fetch(system.port, "GET", system.health, b"", {})
            if b"success" not in raw:
                return f"{system.health}: HTTP {status} {raw[:200]!r}"
        status, raw = ask(system.port, work.body(), system.headers)
    except (OSError, HTTPException) as error:
        return repr(error)
    return "" if status == 200 else f"HTTP {status} {raw[:200]!r}"


def wait_ready(running: Running, work: Workload, timeout_s: float = 120.0) -> float:
    """Seconds until the system was ready. Raises NotReady."""
    start = time.monotonic()
    while (waited := time.monotonic() - start) < timeout_s:
        if running.main.poll() is not None:
            said = f"exit status {running.main.returncode}"
            break
        if not (said := probe(running.system, work)):
            return waited
        time.sleep(POLL_S)
    raise NotReady(f"{running.system.name}: {said} after {waited:.0f} s\n{log_tail(running.log)}")


def refuse_leftovers(port: int) -> None:
    """Raises NotReady where an earlier bench left processes behind or the port is taken."""
    if left := marked():
        names = ", ".join(f"{process.pid} {process.name()}" for process in left)
        raise NotReady(f"processes of an earlier bench still run, end them first: {names}")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise NotReady(f"port {port} is taken by another program")


@contextmanager
def running(system: System, work: Workload, root: Path, scratch: Path) -> Iterator[Running]:
    """Start `system` from the folder `root`, yield it once it answers, and stop every process of it afterwards."""
    refuse_leftovers(system.port)
    mark = uuid.uuid4().hex
    log = scratch / f"{system.name}.log"
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(root),
        "BENCH_MODEL": str(work.model),
        "BENCH_PORT": str(system.port),
        "BENCH_TMP": str(scratch),
        **system.env,
        MARK: mark,
    }
    with log.open("wb") as sink:
        main = subprocess.Popen(
            system.command, cwd=root, env=environment, stdout=sink, stderr=sink, start_new_session=True
        )
    started = Running(system, mark, main, log)
    try:
        started.ready_s = wait_ready(started, work)
        yield started
    finally:
        if left := started.stop():
            print(f"  {system.name}: killed after {system.grace_s:.0f} s: {' '.join(sorted(set(left)))}", flush=True)
