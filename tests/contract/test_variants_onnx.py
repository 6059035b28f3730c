"""What a model's variant asks of ONNX Runtime."""

import msgspec
import numpy as np
import onnxruntime
import pytest

from deployments.backends.base import BackendError
from deployments.backends.onnx import OnnxBackend
from deployments.devices import tiny_model


def test_a_variant_s_options_for_the_provider_reach_the_session_and_those_for_others_do_not(tmp_path, monkeypatch):
    """The CPU provider takes any and keeps none, so they are seen on their way in."""
    asked = []

    def session(path, options, *, providers, **more):
        asked.append(providers)
        return real(path, options, providers=providers, **more)

    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    spec, inputs, expected = tiny_model(tmp_path)
    options = {"cpu": {"arena": "small"}, "cann": {"precision_mode": "force_fp16"}}
    spec = spec.narrowed(msgspec.structs.replace(spec.variants[0], provider_options=options))
    np.testing.assert_allclose(OnnxBackend(spec, {}).run(inputs, ())["y"], expected["y"], atol=1e-5, rtol=0)
    assert asked == [[("CPUExecutionProvider", {"arena": "small"})]]


@pytest.mark.parametrize("option", ["device_id", "device_type", "load_config"])
def test_a_variant_may_not_choose_the_device(tmp_path, option):
    """Ray and the pool have."""
    spec, _, _ = tiny_model(tmp_path)
    spec = spec.narrowed(msgspec.structs.replace(spec.variants[0], provider_options={"cpu": {option: "3"}}))
    with pytest.raises(BackendError, match=f"may not state {option}"):
        OnnxBackend(spec, {})
