"""docs/backends.md: its example keeps the contract, its excerpts are the example package's, its tables are complete."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from docs_pages import ROOT, blocks, table
from onnx import TensorProto, helper

from deployments.backends.base import API_VERSION, Backend
from deployments.backends.conformance import check
from deployments.backends.conformance_subject import Subject
from deployments.devices import tiny_model
from models.repository import sha256_of
from models.spec import BatchRule, ModelSpec, TensorSpec, Variant
from router.config import check_backend

PAGE = ROOT / "docs" / "backends.md"
ACME = ROOT / "examples" / "backends" / "acme"


@pytest.fixture(scope="module")
def made():
    """Everything that the page's examples define, by name."""
    found = {}
    for code in blocks(PAGE, "python"):
        exec(compile(code, "docs/backends.md", "exec"), found)
    return found


def identity(folder: Path) -> ModelSpec:
    """A model that answers with its input."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    tensors = [(TensorSpec(name, "FP32", ("batch", 2)),) for name in "xy"]
    variant = Variant("f32", "m.onnx", sha256_of(folder / "m.onnx"))
    return ModelSpec("identity", "1", *tensors, BatchRule(8), (variant,), folder=str(folder))


def test_the_smallest_backend_does_what_its_words_say(made, tmp_path):
    """Every check holds, and so does the page's own test."""
    subject = Subject("echo", made["EchoBackend"], identity(tmp_path), {}, "echo-npu")
    assert [finding for finding in check(subject) if finding.problem] == []
    made["test_the_contract_is_kept"](identity(tmp_path))


def test_the_page_s_test_fails_for_another_model(made, tmp_path):
    """An echo is no layer."""
    with pytest.raises(AssertionError):
        made["test_the_contract_is_kept"](tiny_model(tmp_path)[0])


def test_excerpts_are_those_of_the_example_package():
    """So that what the page shows is what tests install and serve."""
    (entry,) = blocks(PAGE, "toml")
    assert entry in (ACME / "pyproject.toml").read_text()
    assert tomllib.loads(entry)["project"]["entry-points"]["pointsman.backends"].keys() == {"acme"}
    excerpts = blocks(PAGE, "yaml")
    assert len(excerpts) == 2
    for excerpt in excerpts:
        assert excerpt in (ACME / "fleet.yaml").read_text()
        assert yaml.safe_load(excerpt)


def test_the_table_of_members_is_the_contract():
    """Each public member of Backend once, and the version."""
    told = [re.match(r"`(\w+)", row[0])[1] for row in table(PAGE, "member")]
    public = {name for name in {*vars(Backend), *Backend.__annotations__} if not name.startswith("_")}
    assert sorted(told) == sorted({*public, "__init__"})
    assert f"was written for: {API_VERSION} |" in PAGE.read_text()


def test_the_bounds_of_options_are_the_true_ones():
    """As router/config/check_backend.py has them."""
    most, depth, chars = check_backend.MAX_OPTIONS, check_backend.MAX_OPTION_DEPTH, check_backend.MAX_TEXT_CHARS
    assert f"at most {most} values, {depth} levels, {chars} characters each" in PAGE.read_text()
