"""What this machine can run: each provider loads and runs a tiny graph, and the runtime says where its nodes went.

Reports what happened and nothing else: a provider that is listed but does not run is not there. Each environment is
asked in a process of its own interpreter, since a fork of ONNX Runtime cannot stand beside another.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from deployments.backends.base import Arrays, BackendError, Placement
from deployments.backends.onnx import OnnxBackend, build
from deployments.environments import ENVIRONMENTS, installed
from deployments.providers import PROVIDERS
from models.spec import BatchRule, ModelSpec, TensorSpec, Variant

MAIN = "main"
TIMEOUT_S = 60.0
"""How long one environment may take to answer; the first use of an accelerator is slow."""
_WIDTH = 16
_TOLERANCE = 1e-5


class DeviceReport(msgspec.Struct, frozen=True):
    """One provider in one environment of this machine. `missing` is "" where it runs, else why it does not."""

    provider: str
    """Name as a pool's configuration gives it."""
    placement: Placement | None
    """Where the tiny graph ran; None where it did not."""
    missing: str
    runtime: str = ""
    """Package and version of the ONNX Runtime that was asked, "" where none could be."""
    environment: str = MAIN
    """Name in the table of environments, or MAIN."""


def survey() -> list[DeviceReport]:
    """Every provider in every environment that could hold it, at once. Takes a few seconds, at most TIMEOUT_S.

    An environment that was not made is told only of providers that the main one cannot have by its packages.
    """
    main = [name for name, p in PROVIDERS.items() if not p.environment or p.plugin or installed(p.fork)]
    asked = {MAIN: main}
    for name, environment in ENVIRONMENTS.items():
        held = [key for key, provider in PROVIDERS.items() if provider.environment == name]
        asked[name] = [key for key in held if environment.interpreter.exists() or key not in main]
    with ThreadPoolExecutor(len(asked)) as threads:
        answers = list(threads.map(_ask, asked, asked.values()))
    order = list(PROVIDERS)
    return sorted((report for answer in answers for report in answer), key=lambda report: order.index(report.provider))


def probe(providers: Iterable[str] = PROVIDERS) -> list[DeviceReport]:
    """A report for each of the providers in this process's own environment. Takes up to about a second."""
    with tempfile.TemporaryDirectory() as folder:
        spec, inputs, expected = tiny_model(Path(folder))
        return [_report(name, spec, inputs, expected) for name in providers]


def _ask(environment: str, providers: list[str]) -> list[DeviceReport]:
    """`probe` of an environment, by its own interpreter; what goes wrong is every provider's `missing`."""
    python = Path(sys.executable) if environment == MAIN else ENVIRONMENTS[environment].interpreter
    if not python.exists():
        return [DeviceReport(name, None, f"not made: make env-{environment}", "", environment) for name in providers]
    root = Path(__file__).parents[1]
    asked = [str(python), "-m", "deployments.devices", *providers]
    try:
        done = subprocess.run(asked, cwd=root, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)  # noqa: S603  (our own interpreters and code)
        reports = msgspec.json.decode(done.stdout.rpartition("\n")[2], type=list[DeviceReport])
    except subprocess.TimeoutExpired:
        words = f"no answer within {TIMEOUT_S:g} s: a driver may hang; try `{' '.join(asked)}`"
        return [DeviceReport(name, None, words, "", environment) for name in providers]
    except msgspec.DecodeError:
        # A library that ends the process takes the other providers' answers with it.
        words = f"the probe ended with {done.returncode}: {done.stderr.strip()[-300:] or 'it said nothing'}"
        return [DeviceReport(name, None, words, "", environment) for name in providers]
    return [msgspec.structs.replace(report, environment=environment) for report in reports]


def tiny_model(folder: Path) -> tuple[ModelSpec, Arrays, Arrays]:
    """Write relu(x·w) into the folder; its spec, an input x f32[4, 16] and the answer y as numpy computes it."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((_WIDTH, _WIDTH)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["product"]), helper.make_node("Relu", ["product"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", _WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", _WIDTH])],
        [numpy_helper.from_array(weight, "w")],
    )
    # An older IR and opset: onnx writes newer ones than the oldest runtime in use reads.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data = model.SerializeToString()
    (folder / "tiny.onnx").write_bytes(data)
    spec = ModelSpec(
        name="tiny",
        version="1",
        inputs=(TensorSpec("x", "FP32", ("batch", _WIDTH)),),
        outputs=(TensorSpec("y", "FP32", ("batch", _WIDTH)),),
        batch=BatchRule(),
        variants=(Variant("f32", "tiny.onnx", hashlib.sha256(data).hexdigest()),),
        folder=str(folder),
    )
    x = rng.standard_normal((4, _WIDTH)).astype(np.float32)
    return spec, {"x": x}, {"y": np.maximum(x @ weight, 0)}


def _report(provider: str, spec: ModelSpec, inputs: Arrays, expected: Arrays) -> DeviceReport:
    try:
        backend = OnnxBackend(spec, {"provider": provider})
        answer = backend.run(inputs, ())
    except BackendError as error:
        return DeviceReport(provider, None, str(error), build())
    backend.close()
    off = float(np.abs(answer["y"] - expected["y"]).max())
    if not off <= _TOLERANCE:
        return DeviceReport(provider, None, f"{backend.placement.provider} computes wrongly: off by {off:.2g}", build())
    return DeviceReport(provider, backend.placement, "", build())


if __name__ == "__main__":
    # Last and on a line of its own: a runtime prints what it likes.
    sys.stdout.write("\n" + msgspec.json.encode(probe(sys.argv[1:])).decode())
