"""The checks of `pointsman backend check`: the project's own backends hold them, and each check finds its fault."""

import os
import threading
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest

from deployments.backends.base import BackendError, InputError
from deployments.backends.conformance import check
from deployments.backends.conformance_subject import Subject
from deployments.backends.emulated import EmulatedBackend
from deployments.backends.onnx import OnnxBackend
from deployments.devices import tiny_model
from models.repository import load_store
from models.zoo.build import DEFAULT_STORE

INTEL = any(device.device.vendor_id == 0x8086 for device in onnxruntime.get_ep_devices())
needs_intel = pytest.mark.skipif(not INTEL, reason="the OpenVINO plugin offers no device on a CPU that is not Intel's")
PROFILE = "accelerator: a\nbasis: assumed\nnote: n\nmodels: {MODEL: [{rows: 1, p50_s: 0.0001, p99_s: 0.0002}]}\n"


@pytest.fixture
def spec(tmp_path):
    """A model of one layer."""
    return tiny_model(tmp_path)[0]


def problems(subject):
    """Words of each check that failed, and why."""
    return {finding.check: finding.problem for finding in check(subject) if finding.problem}


@pytest.mark.parametrize("provider", ["cpu", pytest.param("openvino", marks=needs_intel)])
def test_the_onnx_backend_holds_the_contract(spec, provider):
    """On each provider that runs here."""
    assert problems(Subject("onnx", OnnxBackend, spec, {"provider": provider})) == {}


@pytest.mark.skipif(not DEFAULT_STORE.is_dir(), reason=f"{DEFAULT_STORE} is not built: python -m models.zoo.build")
@pytest.mark.parametrize("model", ["mlp", "minilm"])
def test_bundled_models_hold_the_contract(model):
    """With their real weights, ragged axes included; what a row of a bad text would be, the tokens exclude."""
    spec = load_store(DEFAULT_STORE)[model]["1"]
    spec = msgspec.structs.replace(spec, batch=msgspec.structs.replace(spec.batch, max_rows=4))
    assert problems(Subject("onnx", OnnxBackend, spec, {})) == {}


def test_the_emulated_backend_holds_the_contract(spec, tmp_path):
    """With a profile so quick that nothing waits."""
    (tmp_path / "profile.yaml").write_text(PROFILE.replace("MODEL", "tiny"))
    subject = Subject("emulated", EmulatedBackend, spec, {"profile": str(tmp_path / "profile.yaml")}, "a")
    assert problems(subject) == {}


class LooseOptions(msgspec.Struct):
    """Lets anything pass."""


class Newer(OnnxBackend):
    """For a contract that is not here yet."""

    api_version = 2


class Loose(OnnxBackend):
    """Takes options that it does not know."""

    Options = LooseOptions


class Nowhere(OnnxBackend):
    """Knows no device."""

    def __init__(self, *args):
        super().__init__(*args)
        self.placement = msgspec.structs.replace(self.placement, device="")


class Partly(OnnxBackend):
    """Leaves a node to something else."""

    def __init__(self, *args):
        super().__init__(*args)
        self.placement = msgspec.structs.replace(self.placement, other_nodes=1)


class Wide(OnnxBackend):
    """Answers in another datatype."""

    def run(self, inputs, outputs):
        """See Backend."""
        return {name: array.astype(np.float64) for name, array in super().run(inputs, outputs).items()}


class Wrong(OnnxBackend):
    """Computes something else."""

    def run(self, inputs, outputs):
        """See Backend."""
        return {name: array + np.float32(0.1) for name, array in super().run(inputs, outputs).items()}


class Mixing(OnnxBackend):
    """Lets a row's neighbours have a part in its answer."""

    def run(self, inputs, outputs):
        """See Backend."""
        answer = super().run(inputs, outputs)
        return {name: array + np.float32(0.0001) * len(array) for name, array in answer.items()}


class Spoiling(OnnxBackend):
    """One bad row spoils the batch."""

    def run(self, inputs, outputs):
        """See Backend."""
        spoil = (
            np.float32(0) * inputs["x"].sum() if "x" in inputs and inputs["x"].dtype == np.float32 else np.float32(0)
        )
        return {name: array + spoil for name, array in super().run(inputs, outputs).items()}


class Talkative(OnnxBackend):
    """Gives more than was asked for."""

    def run(self, inputs, outputs):
        """See Backend."""
        answer = super().run(inputs, outputs)
        return answer | {"z": answer["y"]}


class Reusing(OnnxBackend):
    """Answers in one buffer."""

    def run(self, inputs, outputs):
        """See Backend."""
        answer = super().run(inputs, outputs)["y"]
        if getattr(self, "kept", None) is None or self.kept.shape != answer.shape:
            self.kept = answer
        self.kept[:] = answer
        return {"y": self.kept}


class Writing(OnnxBackend):
    """Computes in place."""

    def run(self, inputs, outputs):
        """See Backend."""
        if "x" in inputs:
            np.maximum(inputs["x"], -1e9, out=inputs["x"])
        return super().run(inputs, outputs)


class Raw(OnnxBackend):
    """Lets its runtime's own errors through."""

    def run(self, inputs, outputs):
        """See Backend."""
        try:
            return super().run(inputs, outputs)
        except BackendError as error:
            raise ValueError("runtime error 7") from error


class Breaking(OnnxBackend):
    """Is of no use once a batch has failed."""

    broken = False

    def run(self, inputs, outputs):
        """See Backend."""
        try:
            assert not self.broken
            return super().run(inputs, outputs)
        except BackendError:
            self.broken = True
            raise


class OneThread(OnnxBackend):
    """Belongs to the thread that made it."""

    def __init__(self, *args):
        super().__init__(*args)
        self.thread = threading.get_ident()

    def run(self, inputs, outputs):
        """See Backend."""
        if threading.get_ident() != self.thread:
            raise BackendError("no context on this thread")
        return super().run(inputs, outputs)


class Alone(OnnxBackend):
    """One at a time in the whole process."""

    lock = threading.Lock()

    def run(self, inputs, outputs):
        """See Backend."""
        if not self.lock.acquire(blocking=False):
            raise BackendError("the device is busy")
        try:
            threading.Event().wait(0.001)
            return super().run(inputs, outputs)
        finally:
            self.lock.release()


class Ill(OnnxBackend):
    """Never well."""

    def check_health(self):
        """See Backend."""
        raise BackendError("it is hot")


class Immortal(OnnxBackend):
    """Runs on after its end."""

    def close(self):
        """See Backend."""


class Leaking(OnnxBackend):
    """Keeps a file of its device open."""

    def __init__(self, *args):
        super().__init__(*args)
        self.kept_open.append(os.open("/dev/null", os.O_RDONLY))

    kept_open = []


LARGEST = "the largest batch has every output"
BAD = "a batch that cannot be run is a BackendError"
FAULTY = [
    (Newer, {"the class fits": "needs version 2 of the backend contract; this Pointsman has version 1"}),
    (Loose, {"the class fits": "Options that let unknown keys pass"}),
    (Nowhere, {"the model loads": "names no provider or no device"}),
    (Partly, {"the model loads": "1 run elsewhere"}),
    (Wide, {LARGEST: "output y is float64 of 32 rows, not FP32 of 32"}),
    (Wrong, {"answers are those of ONNX Runtime": "1 rows: output y is off by 0."}),
    (
        Mixing,
        {"answers are those of ONNX Runtime": "32 rows: ", "a row answers the same alone": "row 0: output y is off"},
    ),
    (Spoiling, {"a row of NaN": "output y is off by nan"}),
    (Talkative, {"only the outputs asked for": "asked for y, gave y, z"}),
    (Reusing, {"an answer is not touched again": "the next batch changed y: give arrays of their own"}),
    (Writing, {LARGEST: "output array is read-only"}),
    (Raw, {BAD: "a missing input raised ValueError: runtime error 7", "closing twice": "raised ValueError"}),
    (Breaking, {BAD: "raised AssertionError", "it runs on another": "", "two of a process": ""}),
    (OneThread, {"it runs on another thread": "no context on this thread", "two of a process": "no context"}),
    (Alone, {"two of a process run at a time": "the device is busy"}),
    (Ill, {"it says that it is well": "it is hot"}),
    (Immortal, {"closing twice": "ran after it was closed"}),
    (Leaking, {"closing leaves no thread": "5 times loaded and closed left 5 open files"}),
]


@pytest.mark.parametrize(("factory", "found"), FAULTY, ids=[factory.__name__ for factory, _ in FAULTY])
def test_each_fault_is_found_by_its_check(spec, factory, found):
    """And by no other, so that the words lead to what is wrong."""
    told = problems(Subject("theirs", factory, spec, {}))
    for fd in Leaking.kept_open:
        os.close(fd)
    Leaking.kept_open.clear()
    assert len(told) == len(found), told
    for start, words in found.items():
        (problem,) = (problem for check, problem in told.items() if check.startswith(start))
        assert words in problem


def test_values_that_a_backend_refuses_are_its_to_refuse(spec):
    """An InputError is as good as an answer that leaves the neighbours alone."""

    class Strict(Spoiling):
        def run(self, inputs, outputs):
            if "x" in inputs and inputs["x"].dtype == np.float32 and np.isnan(inputs["x"]).any():
                raise InputError("x: no numbers")
            return super().run(inputs, outputs)

    assert problems(Subject("theirs", Strict, spec, {})) == {}


def test_a_model_that_does_not_load_ends_the_checks(spec):
    """What cannot be asked is not told as failed."""
    Path(spec.folder, "tiny.onnx").write_bytes(b"")
    findings = list(check(Subject("onnx", OnnxBackend, spec, {})))
    assert [bool(finding.problem) for finding in findings] == [False, False, False, True]
    assert "sha256" in findings[-1].problem
