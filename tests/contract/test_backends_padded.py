"""A backend that runs a few shapes only, around the real runtime: padding never shows."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from deployments.backends.base import BackendError
from deployments.backends.onnx import OnnxBackend
from deployments.backends.padded import PaddedBackend
from deployments.devices import tiny_model
from models import zoo
from models.repository import load_store
from models.variants import chosen
from models.zoo.build import DEFAULT_STORE


class Watched:
    """The inner backend, and the rows of every batch that reached it."""

    def __init__(self, inner: OnnxBackend) -> None:
        self.inner = inner
        self.placement, self.emulated, self.overruns = inner.placement, inner.emulated, 3
        self.rows: list[int] = []

    def run(self, inputs, outputs):
        self.rows.append(len(next(iter(inputs.values()))))
        return self.inner.run(inputs, outputs)

    def close(self):
        self.inner.close()


def test_every_batch_runs_at_a_listed_size_and_answers_as_without(tmp_path):
    """Of 1 to 8 rows; more is refused, not cut."""
    plain, _, _ = tiny_model(tmp_path)
    variant = msgspec.structs.replace(plain.variants[0], sizes={"batch": (1, 4, 8)})
    spec = plain.narrowed(variant)
    inner = Watched(OnnxBackend(spec, {}))
    backend = PaddedBackend(inner, spec)
    rng = np.random.default_rng(1)
    for rows in range(1, 9):
        x = rng.standard_normal((rows, 16)).astype(np.float32)
        answer = backend.run({"x": x}, ("y",))
        np.testing.assert_allclose(answer["y"], inner.inner.run({"x": x}, ("y",))["y"], atol=1e-5, rtol=0)
    assert inner.rows == [1, 4, 4, 4, 8, 8, 8, 8]
    with pytest.raises(BackendError, match="axis batch: at most 8 expected, got 9"):
        backend.run({"x": np.ones((9, 16), np.float32)}, ())
    assert (backend.placement, backend.emulated, backend.overruns) == (inner.placement, False, 3)
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.run({"x": x}, ())


@pytest.mark.skipif(not DEFAULT_STORE.is_dir(), reason=f"{DEFAULT_STORE} is not built: python -m models.zoo.build")
@pytest.mark.parametrize("name", ["ranker", "textline"])
def test_the_bundled_variants_for_ascend_answer_as_the_reference_at_sizes_that_are_not_theirs(name):
    """Three rows, which go in as four."""
    spec = chosen(load_store(DEFAULT_STORE)[name]["1"], "huawei-ascend-910b3", "cann", {})
    assert spec.variants[0].sizes["batch"][:2] == (1, 4)
    stored = json.loads((Path(zoo.__file__).parent / name / "reference.json").read_text())
    kinds = {"FP32": np.float32, "INT64": np.int64}
    inputs, outputs = (
        {t["name"]: np.resize(np.array(t["data"], kinds[t["datatype"]]).reshape(t["shape"]), (3, *t["shape"][1:]))
         for t in stored[side]}
        for side in ("inputs", "outputs")
    )  # fmt: skip
    answer = PaddedBackend(OnnxBackend(spec, {}), spec).run(inputs, ())
    for key, expected in outputs.items():
        np.testing.assert_allclose(answer[key], expected, atol=spec.variants[0].accuracy.max_abs_error, rtol=0)
