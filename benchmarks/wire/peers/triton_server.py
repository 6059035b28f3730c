"""Starts the tritonserver that lies in the wheel nvidia-pytriton, with a repository of the one model. No GPU is needed.

Runs in the environment of that wheel and becomes the server.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytriton

CONFIG = """
backend: "python"
max_batch_size: 32
input [{name: "x" data_type: TYPE_FP32 dims: [256]}]
output [{name: "y" data_type: TYPE_FP32 dims: [256]}]
instance_group [{count: 1 kind: KIND_CPU}]
dynamic_batching {}
"""


def main() -> None:
    """Lay out repository and backend folder, then exec the server."""
    package = Path(pytriton.__file__).parent
    server, site = package / "tritonserver", package.parent
    scratch, port = Path(os.environ["BENCH_TMP"]), int(os.environ["BENCH_PORT"])
    backend, model = scratch / "backends" / "python", scratch / "repository" / "mlp"
    shutil.rmtree(backend, ignore_errors=True)
    shutil.copytree(server / "backends" / "python", backend)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy2(server / "python_backend_stubs" / version / "triton_python_backend_stub", backend)
    (model / "1").mkdir(parents=True, exist_ok=True)
    (model / "config.pbtxt").write_text(CONFIG)
    shutil.copy2(Path(__file__).with_name("triton_model.py"), model / "1" / "model.py")
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(site / "nvidia_pytriton.libs"),
        # The backend embeds the system's libpython, which looks for its packages beside the first python on the path.
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(site),
    }
    command = [
        str(server / "bin" / "tritonserver"), "--model-repository", str(model.parent), "--backend-directory",
        str(backend.parent), "--http-address", "127.0.0.1", "--http-port", str(port), "--grpc-address", "127.0.0.1",
        "--grpc-port", str(port + 1), "--allow-metrics", "false", "--log-info", "false",
    ]  # fmt: skip
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    main()
