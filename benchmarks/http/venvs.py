"""Peers on demand, each in an environment of its own under build/bench-venvs, because their pins contradict ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.http.systems import PEERS, System

COMMON = ["numpy==2.4.6", "onnxruntime==1.32.0", "orjson==3.13.0"]
REQUIREMENTS = {
    "litserve": [*COMMON, "litserve==0.2.19"],
    "mlserver": [*COMMON, "mlserver==1.7.1"],
    "kserve": [*COMMON, "kserve==0.21.0"],
    # Its Python backend was compiled against numpy 1: with numpy 2 every tensor arrives empty.
    "triton": ["numpy==1.26.4", "onnxruntime==1.32.0", "nvidia-pytriton==0.7.0"],
}


def environment(name: str, root: Path) -> Path:
    """The interpreter of peer `name`, its environment made where it is not there yet."""
    folder = root / "build" / "bench-venvs" / name
    python = folder / "bin" / "python"
    done = folder / "installed.txt"
    wanted = "\n".join(REQUIREMENTS[name])
    if done.is_file() and done.read_text() == wanted:
        return python
    print(f"installing {name} into {folder}", flush=True)
    if uv := shutil.which("uv"):
        subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, str(folder)], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", str(python), *REQUIREMENTS[name]], check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *REQUIREMENTS[name]], check=True)
    done.write_text(wanted)
    return python


def on_demand(names: list[str], root: Path) -> dict[str, System]:
    """The on-demand peers of benchmarks/http among `names`, installed and ready to be started."""
    ports = {"litserve": 18040, "mlserver": 18050}
    notes = {"litserve": "1 API server, 1 worker, batches to 32", "mlserver": "in its main process, batches to 32"}
    return {
        name: System(
            name,
            name,
            [str(environment(name, root)), "-m", f"{PEERS}.{name}_server"],
            notes[name],
            port=ports[name],
        )
        for name in ports
        if name in names
    }
