"""A real fleet for a test: `pointsman serve` as a process of its own, its ports, keys, metrics and processes.

Starts and stops, and finds what belongs to it; asserts only that nothing of it is left.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "build" / "models"
POINTSMAN = Path(sys.executable).with_name("pointsman")
START_TIMEOUT_S = 150.0
STOP_TIMEOUT_S = 60.0


@dataclass
class Fleet:
    """One running `pointsman serve` and everything that it started."""

    process: subprocess.Popen[bytes]
    http_url: str
    grpc_address: str
    metrics_url: str
    keys: dict[str, str]
    """Tenant id to API key."""
    admin_url: str
    state: Path
    config: Path
    environment: dict[str, str]
    """Of the process; other `pointsman` commands need it to find this fleet's Ray."""
    start_s: float = 0.0
    _seen: dict[int, psutil.Process] = field(default_factory=dict)

    @classmethod
    def start(cls, config_text: str, tmp_path: Path) -> Fleet:
        """Launch a fleet and wait until it says that it is ready. Raises RuntimeError with its stderr if it does not.

        `config_text` is a fleet file whose tenants have no keys; ports, tenants file and drain time are filled in where
        it has none.
        """
        started_s = time.monotonic()
        fleet = cls.launch(config_text, tmp_path)
        try:
            fleet.wait_until_it_says("ready after")
            fleet.keys = json.loads((fleet.state / "run" / "keys.json").read_text())
            eventually(fleet.is_scraped)  # the metrics process may be half a second behind the first answer
        except BaseException:
            fleet.stop()
            raise
        fleet.start_s = time.monotonic() - started_s
        return fleet

    @classmethod
    def launch(cls, config_text: str, tmp_path: Path) -> Fleet:
        """Start the process and come back at once. State that an earlier fleet left under `tmp_path` is taken up."""
        state = tmp_path / "state"
        (state / "run").mkdir(parents=True, exist_ok=True)
        if not (state / "models").exists():
            (state / "models").symlink_to(MODELS)
        config = tmp_path / "fleet.yaml"
        ports = free_ports(4)
        config.write_text(_completed(config_text, ports))
        # A folder of its own, short because it holds Unix sockets: Ray's logs are found there, and go with it.
        environment = os.environ | {"RAY_TMPDIR": tempfile.mkdtemp(prefix="pm")}
        with (state / "serve.out").open("wb") as out, (state / "serve.err").open("wb") as err:
            process = subprocess.Popen(
                [POINTSMAN, "serve", "--config", config, "--state", state],
                cwd=ROOT, env=environment, stdout=out, stderr=err, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        http, grpc, metrics, admin = (f"127.0.0.1:{port}" for port in ports)
        metrics_url = f"http://{metrics}/metrics"
        return cls(process, f"http://{http}", grpc, metrics_url, {}, f"http://{admin}", state, config, environment)

    def wait_until_it_says(self, words: str) -> None:
        """Until these words are on stderr. Raises RuntimeError if it ends before."""
        eventually(lambda: self.process.poll() is not None or words in self.stderr(), START_TIMEOUT_S)
        if words not in self.stderr():
            raise RuntimeError(f"pointsman serve exited with {self.process.returncode}:\n{self.stderr()}")

    def stop(self) -> None:
        """What Ctrl-C in a terminal does: SIGINT to the whole process group. Asserts that no process is left."""
        self.processes()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        deadline_s = time.monotonic() + STOP_TIMEOUT_S
        while self.process.poll() is None and time.monotonic() < deadline_s:
            self.processes()
            time.sleep(0.05)
        _, left = psutil.wait_procs(list(self._seen.values()), timeout=5)
        left = [process for process in left if _runs(process)]
        told = [_title(process) for process in left]
        for process in left:
            process.kill()
        shutil.rmtree(self.environment["RAY_TMPDIR"], ignore_errors=True)
        assert not told, f"left behind by pointsman serve: {told}"

    def processes(self) -> list[psutil.Process]:
        """The fleet's processes that run now, Ray's included."""
        if self.process.poll() is None:
            root = psutil.Process(self.process.pid)
            for process in (root, *root.children(recursive=True)):
                self._seen.setdefault(process.pid, process)
        return [process for process in self._seen.values() if _runs(process)]

    def pool_pids(self, pool: str) -> list[int]:
        """Process ids of the replicas of one pool."""
        return self.pids(f"ray::ServeReplica:pool-{pool}:PoolReplica")

    def router_pids(self) -> list[int]:
        """Process ids of the router replicas."""
        return self.pids("ray::ServeReplica:router:RouterReplica")

    def pids(self, title: str) -> list[int]:
        """Process ids of the fleet's processes whose command line begins with `title`."""
        return [process.pid for process in self.processes() if _title(process).startswith(title)]

    def headers(self, tenant: str, **more: str) -> dict[str, str]:
        """Request headers with the tenant's key; `more` names headers with _ for -."""
        return {"authorization": f"Bearer {self.keys[tenant]}"} | {
            name.replace("_", "-"): value for name, value in more.items()
        }

    def admin_headers(self) -> dict[str, str]:
        """Request headers with the operator's key, which `serve` made."""
        return {"authorization": f"Bearer {(self.state / 'run' / 'admin.key').read_text()}"}

    def stderr(self) -> str:
        """What `pointsman serve` said so far."""
        return (self.state / "serve.err").read_text()

    def stdout(self) -> str:
        """What `pointsman serve` printed so far."""
        return (self.state / "serve.out").read_text()

    def log(self) -> str:
        """Everything that the fleet's replicas logged so far."""
        files = Path(self.environment["RAY_TMPDIR"]).glob("ray/session_2*/logs/serve/*.log")
        return "\n".join(file.read_text(errors="replace") for file in files)

    def is_scraped(self) -> bool:
        """Whether the metrics process answers."""
        try:
            with urllib.request.urlopen(self.metrics_url, timeout=10):
                return True
        except OSError:
            return False

    def samples(self, name: str, **labels: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Samples of one metric now, by their sorted labels; only those that have the labels asked for."""
        with urllib.request.urlopen(self.metrics_url, timeout=10) as reply:
            text = reply.read().decode()
        return {
            tuple(sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        }

    def flushed(self) -> None:
        """Wait until what has ended by now is in the metrics of every router that is alive."""
        asked_s = time.monotonic() + 0.05  # a flush may be under way
        eventually(lambda: time.monotonic() - self.metric("pointsman_telemetry_age_seconds") > asked_s)

    def metric(self, name: str, **labels: str) -> float:
        """Sum of one metric's samples now that have the labels asked for; see `flushed`."""
        return sum(self.samples(name, **labels).values())


@contextmanager
def start_fleet(config_text: str, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet for the block, see Fleet.start; stopped afterwards, and nothing of it is left."""
    fleet = Fleet.start(config_text, tmp_path)
    try:
        yield fleet
    finally:
        fleet.stop()


def eventually(holds: Callable[[], object], timeout_s: float = 10.0, period_s: float = 0.05) -> None:
    """Wait until `holds()` is true. Raises TimeoutError."""
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not within {timeout_s:g} s")
        time.sleep(period_s)


def free_ports(count: int) -> list[int]:
    """TCP ports that nothing listens on at this moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _completed(config_text: str, ports: list[int]) -> str:
    config = yaml.safe_load(config_text)
    server = config.setdefault("server", {})
    for listener, port in zip(("http", "grpc", "metrics", "admin"), ports, strict=True):
        server.setdefault(listener, {}).setdefault("port", port)
    server.setdefault("drain", "3s")
    config.setdefault("tenants_file", "tenants.yaml")
    return yaml.safe_dump(config, sort_keys=False)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
