"""OpenVINO in the environment of its fork: the contract of backends/base.py, held on any x86 CPU, Intel's or not."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from deployments import environments
from deployments.devices import probe
from deployments.environments import ENVIRONMENTS, needed, runtime_env
from models.zoo.build import DEFAULT_STORE

PYTHON = str(ENVIRONMENTS["openvino"].interpreter)

needs_environment = pytest.mark.skipif(not Path(PYTHON).exists(), reason="not made: make env-openvino")

SCRIPT = """
import json, pathlib, sys, tempfile
import msgspec, numpy as np, onnxruntime
from deployments.backends.base import BackendError
from deployments.backends.onnx import OnnxBackend
from deployments.devices import tiny_model
from models.repository import load_store

rng = np.random.default_rng(5)
folder = pathlib.Path(tempfile.mkdtemp(dir=sys.argv[1]))

def answers(spec, batches, threads=1):
    openvino = OnnxBackend(spec, {"provider": "openvino", "threads": threads})
    cpu = OnnxBackend(spec, {"provider": "cpu"})
    off = 0.0
    for batch in batches:
        ours, theirs = openvino.run(batch, ()), cpu.run(batch, ())
        assert ours.keys() == theirs.keys()
        off = max(off, *(float(np.abs(ours[name] - theirs[name]).max()) for name in ours))
    return {"off": off, "version": onnxruntime.__version__, **msgspec.to_builtins(openvino.placement)}

def text(rows):
    real = np.arange(7 * rows) < rng.integers(1, 7 * rows + 1, (rows, 1))
    ids = rng.integers(1000, 20000, real.shape) * real
    return {"input_ids": ids.astype(np.int64), "attention_mask": real.astype(np.int64)}

def refused(spec):
    try:
        OnnxBackend(spec, {"provider": "openvino"})
    except BackendError as error:
        return str(error)
"""


def said(tmp_path, lines: str):
    """What the expression on the last of `lines` is worth after SCRIPT, computed by the environment's Python."""
    *before, last = lines.strip().splitlines()
    code = "\n".join([SCRIPT, *before, f"print(json.dumps({last}))"])
    done = subprocess.run([PYTHON, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(answer) -> None:
    """Every node on OpenVINO, as the runtime says, and the CPU provider's answer to 1e-5."""
    assert answer["provider"] == "OpenVINOExecutionProvider"
    assert answer["nodes"] > 0
    assert answer["other_nodes"] == 0
    assert answer["device"]
    assert answer["off"] <= 1e-5


@needs_environment
@pytest.mark.parametrize("threads", [1, 2])
def test_the_fork_runs_every_node_on_openvino_and_agrees_with_the_cpu(threads, tmp_path):
    """The same onnxruntime holds both providers there."""
    check(said(tmp_path, f"spec, x, _ = tiny_model(folder)\nanswers(spec, [x], {threads})"))


@needs_environment
@pytest.mark.skipif(not DEFAULT_STORE.is_dir(), reason=f"{DEFAULT_STORE} is not built: python -m models.zoo.build")
@pytest.mark.parametrize(
    ("model", "batches"),
    [
        ("mlp", "[{'x': rng.standard_normal((n, 256)).astype('f4')} for n in (1, 5, 32)]"),
        ("minilm", "[text(n) for n in (1, 3, 8)]"),
    ],
)
def test_a_bundled_model_answers_as_on_the_cpu_at_every_shape(model, batches, tmp_path):
    """Real weights in f32: computed in bf16, OpenVINO's other choice, they are off by a hundredth."""
    store = str(DEFAULT_STORE.resolve())
    check(said(tmp_path, f"spec = load_store(pathlib.Path({store!r}))[{model!r}]['1']\nanswers(spec, {batches})"))


@needs_environment
def test_a_model_that_the_fork_cannot_hold_whole_does_not_start(tmp_path):
    """By itself the fork puts Det on the CPU provider in silence: loading refuses it, and so does the proof alone."""
    loading, proof = said(
        tmp_path,
        """
import hashlib
from onnx import TensorProto, helper
from deployments.backends import onnx as door
nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Det", ["r"], ["y"])]
x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 3])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch"])
model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 17)])
model.ir_version = 9
data = model.SerializeToString()
spec, _, _ = tiny_model(folder)
(folder / "tiny.onnx").write_bytes(data)
variant = msgspec.structs.replace(spec.variants[0], sha256=hashlib.sha256(data).hexdigest())
providers = [("OpenVINOExecutionProvider", {"device_type": "CPU"})]
session = onnxruntime.InferenceSession(data, door._session_options(1), providers=providers)
def proof():
    try:
        door._proven_placement(session, "g", "OpenVINOExecutionProvider", "CPU")
    except BackendError as error:
        return str(error)
[refused(msgspec.structs.replace(spec, variants=(variant,))), proof()]
""",
    )
    assert "OpenVINOExecutionProvider could not load" in loading
    assert "fallback" in loading
    assert "runs 1 nodes; the others: 1 on CPUExecutionProvider" in proof


@needs_environment
def test_the_fork_keeps_the_other_packages_of_the_main_environment():
    """Ray speaks to its replicas only in its own version, and models must not change with the environment."""
    names = ("ray", "numpy", "onnx", "msgspec", "tokenizers")
    code = f"import importlib.metadata as m, sys; print([sys.version] + [m.version(n) for n in {names}])"
    ours, theirs = (
        subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
        for python in (sys.executable, PYTHON)
    )
    assert ours == theirs


def test_openvino_needs_its_environment_exactly_where_the_plugin_does_not_run():
    """Held against a probe that runs a graph on every provider."""
    ran = {report.provider: not report.missing for report in probe()}
    assert needed("cpu") == ""
    assert needed("openvino") == ("" if ran["openvino"] else "openvino")


def test_a_fork_that_is_not_installed_here_needs_its_environment():
    """CUDA and TensorRT share one."""
    assert [needed(name) for name in ("cuda", "tensorrt", "cann")] == ["cuda", "cuda", "cann"]


def test_without_its_environment_a_replica_starts_in_the_main_one(tmp_path, monkeypatch):
    """Its refusal then says what to make. Ray would try an interpreter that is not there for ever."""
    monkeypatch.setattr(environments, "_ROOT", tmp_path)
    assert runtime_env("cann") == {}


def test_the_path_of_an_interpreter_reaches_ray_quoted(tmp_path, monkeypatch):
    """Ray puts it into a shell command; the main environment needs nothing."""
    folder = tmp_path / "a b" / ".venv-cann" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").touch()
    monkeypatch.setattr(environments, "_ROOT", tmp_path / "a b")
    assert shlex.split(runtime_env("cann")["py_executable"]) == [str(folder / "python")]
    assert runtime_env("cpu") == {}
