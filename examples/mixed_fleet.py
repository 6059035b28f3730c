"""`make fleet`: a real MLServer and, in front of it and of seven other pools, Pointsman. Ctrl-C stops both.

What is given beyond goes to `pointsman serve`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]
MLSERVER = ROOT / ".venv-upstream" / "bin" / "mlserver"
READY = "http://127.0.0.1:18080/v2/models/ranker/ready"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0


def start_mlserver(log: Path) -> subprocess.Popen[bytes]:
    """The server in a session of its own: Ctrl-C reaches Pointsman first, which answers what it holds there."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"MLSERVER_ENVIRONMENTS_DIR": str(log.parent / "mlserver")}
    command = [MLSERVER, "start", ROOT / "examples" / "mlserver"]
    with log.open("wb") as out:
        return subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)


def wait_until_ready(server: subprocess.Popen[bytes], log: Path) -> None:
    """Ends the program where it does not come up."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while server.poll() is None and time.monotonic() < deadline_s:
        try:
            with urllib.request.urlopen(READY, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"MLServer did not come up, see {log}")


def main() -> int:
    """Start both, wait for Pointsman's end, end the other. Returns Pointsman's exit status."""
    log = ROOT / "build" / "run" / "mlserver.log"
    server = start_mlserver(log)
    try:
        wait_until_ready(server, log)
        command = [Path(sys.executable).with_name("pointsman"), "serve"]
        config = ROOT / "examples" / "fleet-h20-910b.yaml"
        router = subprocess.Popen([*command, "--config", config, *sys.argv[1:]])
        for number in (signal.SIGINT, signal.SIGTERM):
            # A terminal's Ctrl-C has reached it already; a second one does no harm.
            signal.signal(number, lambda *_: router.send_signal(signal.SIGINT))
        return router.wait()
    finally:
        server.terminate()
        try:
            server.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
