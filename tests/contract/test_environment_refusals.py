"""CUDA, TensorRT and CANN where their hardware is not, each in the environment of its fork: words, never the CPU.

The forks import without hardware, list their provider, and by themselves would run a model on the CPU.
"""

import json
import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from deployments.environments import ENVIRONMENTS

ACCELERATOR = any(Path("/dev", name).exists() for name in ("nvidiactl", "davinci_manager"))

pytestmark = pytest.mark.skipif(ACCELERATOR, reason="an accelerator is here: what is told without one does not hold")

SCRIPT = """
import json, pathlib, sys, tempfile
from deployments.backends import onnx as door
from deployments.backends.base import BackendError
from deployments.devices import tiny_model
spec, inputs, expected = tiny_model(pathlib.Path(tempfile.mkdtemp(dir=sys.argv[1])))

def refused(provider):
    try:
        return door.OnnxBackend(spec, {"provider": provider}).placement.provider
    except BackendError as error:
        return str(error)
"""

DRIVER = (
    "libcuda.so.1 of the NVIDIA driver (install it on the machine; a container needs NVIDIA's container runtime and a "
    "GPU given to it)"
)


def said(environment: str, tmp_path: Path, lines: str, **more: str) -> object:
    """What the last of `lines` is worth after SCRIPT, as the environment's Python computes it."""
    python = ENVIRONMENTS[environment].interpreter
    if not python.exists():
        pytest.skip(f"not made: make env-{environment}")
    *before, last = lines.strip().splitlines()
    code = "\n".join([SCRIPT, *before, f"print(json.dumps({last}))"])
    done = subprocess.run(
        [python, "-c", code, str(tmp_path)], env=os.environ | more, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_cuda_without_a_gpu_names_driver_and_libraries(tmp_path):
    """Each with what to do about it; nothing of them comes with the package."""
    words = said("cuda", tmp_path, 'refused("cuda")')
    assert words.startswith("provider cuda: CUDAExecutionProvider cannot load on this machine. Missing: " + DRIVER)
    assert "libcublasLt.so.13, libcublas.so.13" in words
    assert "of CUDA 13 (use an image with it, or install onnxruntime-gpu[cuda,cudnn] into this environment)" in words
    assert "libcudnn.so.9 of cuDNN 9 (as CUDA)" in words


def test_tensorrt_without_a_gpu_names_its_own_libraries_too(tmp_path):
    """It runs in CUDA's environment."""
    words = said("cuda", tmp_path, 'refused("tensorrt")')
    assert DRIVER in words
    assert words.endswith(
        "libnvinfer.so.10, libnvonnxparser.so.10 of TensorRT 10 "
        "(use an image with it, or put its folder into LD_LIBRARY_PATH)."
    )


def test_cann_without_an_npu_names_the_toolkit(tmp_path):
    """And that its script sets the paths."""
    assert said("cann", tmp_path, 'refused("cann")') == (
        "provider cann: CANNExecutionProvider cannot load on this machine. Missing: libascendcl.so, "
        "libacl_op_compiler.so, libfmk_onnx_parser.so of the CANN toolkit "
        "(use an image with it and source its set_env.sh before Ray starts)."
    )


@pytest.mark.parametrize(("environment", "provider"), [("cuda", "cuda"), ("cuda", "tensorrt"), ("cann", "cann")])
def test_a_provider_that_does_not_start_is_refused_by_the_session_too(environment, provider, tmp_path):
    """Whatever the look at the libraries says: no session runs a node elsewhere than asked."""
    words = said(environment, tmp_path, f'door._lacks = lambda provider: ""\nrefused({provider!r})')
    assert words.startswith("tiny: ")
    assert "ExecutionProvider could not load" in words


def test_what_the_runtime_says_of_a_provider_that_did_not_start_is_explained(tmp_path):
    """CUDA's own reason is a line on stderr; the session only says that it would not use the CPU."""
    words = said("cuda", tmp_path, 'door._lacks = lambda provider: ""\nrefused("cuda")')
    assert words.endswith("did not start here, or cannot hold the whole model: the log has its own words before this.")


@pytest.mark.parametrize("environment", ["cuda", "cann"])
def test_the_cpu_provider_answers_in_the_environment_of_a_fork(environment, tmp_path):
    """So models, tensors and numpy of that environment fit together, the older numpy of CANN's included."""
    lines = """
import numpy
answer = door.OnnxBackend(spec, {"provider": "cpu"}).run(inputs, ())
float(numpy.abs(answer["y"] - expected["y"]).max())
"""
    assert said(environment, tmp_path, lines) <= 1e-5


@pytest.mark.parametrize("environment", ["cuda", "cann"])
def test_a_fork_keeps_the_other_packages_of_the_main_environment(environment, tmp_path):
    """Ray speaks to its replicas only in its own version, and models must not change with the environment."""
    names = ["ray", "onnx", "msgspec", "tokenizers"]
    theirs = said(environment, tmp_path, f"from importlib.metadata import version\n[version(n) for n in {names}]")
    assert theirs == [version(name) for name in names]


def test_two_forks_in_one_environment_are_noticed(tmp_path):
    """The one installed last has overwritten the other: neither pip nor the import says so."""
    site = tmp_path / "site"
    (site / "onnxruntime").mkdir(parents=True)
    for name in ("onnxruntime", "onnxruntime_gpu"):
        info = site / f"{name}-1.31.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.31.1\n")
        (info / "RECORD").write_text("onnxruntime/__init__.py,,\n")
    lines = f"""
door.ort.__file__ = {str(site / "onnxruntime" / "__init__.py")!r}
[refused("cpu"), refused("cuda")]
"""
    for words in said("cuda", tmp_path, lines):
        assert words == (
            "several packages own the folder onnxruntime of this environment: onnxruntime 1.31.1 and onnxruntime-gpu "
            "1.31.1. Which one runs depends on the order of installation. Uninstall them all and install one; give "
            "each other its own environment."
        )
