"""The table of backend kinds, with a real entry point of another distribution."""

import pytest

from deployments.backends import registry
from deployments.backends.base import BackendError
from deployments.backends.onnx import OnnxBackend
from deployments.devices import tiny_model


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Another distribution on the path, with the kinds `theirs`, `broken` and `onnx`."""
    info = tmp_path / "theirs-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[pointsman.backends]\ntheirs = their_backend:build\nbroken = no_such:build\nonnx = their_backend:build\n"
    )
    (tmp_path / "their_backend.py").write_text("def build(spec, options):\n    return spec, options\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_onnx_is_built_in(tmp_path):
    """The table's own kinds need no entry point."""
    spec, _, _ = tiny_model(tmp_path)
    assert isinstance(registry.create("onnx", spec, {}), OnnxBackend)


def test_an_entry_point_adds_a_kind(installed, tmp_path):
    """It is called with the model and the pool's options."""
    spec, _, _ = tiny_model(tmp_path)
    assert registry.create("theirs", spec, {"a": 1}) == (spec, {"a": 1})


def test_an_entry_point_cannot_replace_a_built_in_kind(installed, tmp_path):
    """onnx stays ours."""
    spec, _, _ = tiny_model(tmp_path)
    assert isinstance(registry.create("onnx", spec, {}), OnnxBackend)


def test_an_entry_point_that_does_not_load_says_which(installed, tmp_path):
    """The operator learns the kind and the object."""
    spec, _, _ = tiny_model(tmp_path)
    with pytest.raises(BackendError, match="'broken' cannot be loaded from no_such:build"):
        registry.create("broken", spec, {})


def test_an_unknown_kind_lists_the_known_ones(installed, tmp_path):
    """Built in and added alike."""
    spec, _, _ = tiny_model(tmp_path)
    with pytest.raises(BackendError, match="unknown backend kind 'onx', known: broken, emulated, onnx, theirs"):
        registry.create("onx", spec, {})
