"""A store of models on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml

from models.repository import RepositoryError, latest, load_model, load_store, read_tokenizer, verify

WEIGHTS = b"weights"
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


def facts(**changes: object) -> dict[str, object]:
    return {
        "name": "ranker",
        "version": "2",
        "description": "A ranker.",
        "licence": "Apache-2.0",
        "source": "made up here",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": ["batch", 8]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": ["batch"]}],
        "batch": {"max_rows": 16},
        "variants": [{"name": "fp32", "file": "model.onnx", "sha256": DIGEST}],
    } | changes


def put(store: Path, content: dict[str, object] | str, name: str = "ranker", version: str = "2") -> Path:
    folder = store / name / version
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(WEIGHTS)
    (folder / "model.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return folder


def test_a_store_is_read_by_name_and_version(tmp_path):
    """Every version folder becomes a spec that knows where its files are."""
    put(tmp_path, facts())
    put(tmp_path, facts(version="10"), version="10")
    (tmp_path / ".building-ranker").mkdir()
    store = load_store(tmp_path)
    assert {name: sorted(versions) for name, versions in store.items()} == {"ranker": ["10", "2"]}
    spec = store["ranker"]["10"]
    assert spec.inputs[0].shape == ("batch", 8)
    assert (spec.batch.max_rows, spec.text) == (16, None)
    assert Path(spec.folder, spec.variants[0].file).read_bytes() == WEIGHTS


def variant(**keys: object) -> dict[str, object]:
    return {"variants": [{"name": "v", "file": "model.onnx", "sha256": DIGEST} | keys]}


TEXT = {
    "tensor": {"name": "text", "datatype": "BYTES", "shape": ["batch"]},
    "tokenizer": "tokenizer.json",
    "sha256": DIGEST,
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": "red"}, "unknown field `colour`"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": ["batch"], "dim": 1}]}, "field `dim` - at `$.inputs["),
        ({"batch": {"rows": 3}}, "unknown field `rows` - at `$.batch`"),
        ({"version": 2}, "Expected `str`, got `int` - at `$.version`"),
        ({"variants": [{"name": "fp32", "file": "model.onnx"}]}, "missing required field `sha256` - at `$.variants["),
        ({"name": "other"}, "$.name: other/2 lies in folder ranker/2"),
        ({"batch": {"max_rows": 0}}, "$.batch.max_rows: at least 1 expected, got 0"),
        ({"inputs": []}, "$.inputs: at least one tensor expected"),
        ({"variants": []}, "$.variants: at least one expected"),
        ({"outputs": [{"name": "y", "datatype": "FLOAT", "shape": ["batch"]}]}, "$.outputs[0].datatype: FLOAT is unk"),
        ({"outputs": [{"name": "y", "datatype": "FP32", "shape": [3]}]}, "$.outputs[0].shape: the first axis"),
        ({"outputs": [{"name": "y", "datatype": "FP32", "shape": ["batch", 0]}]}, "whole numbers of at least 1, got 0"),
        ({"outputs": [{"name": "y", "datatype": "FP32", "shape": ["batch"]}] * 2}, "$.outputs[1].name: 'y' is empty"),
        ({"variants": [{"name": "a", "file": "../m", "sha256": DIGEST}]}, "$.variants[0].file: the name of a file"),
        ({"variants": [{"name": "a", "file": "m", "sha256": "abc"}]}, "$.variants[0].file: its sha256 is 64 hex"),
        ({"variants": [{"name": "a", "file": "m", "sha256": DIGEST}] * 2}, "$.variants[1].name: a twice"),
        (variant(dtype="fp8"), "$.variants[0].dtype: fp8 is unknown; known: fp32, fp16, bf16, int8"),
        (variant(meant_for=["cuda"]), "unknown field `meant_for` - at `$.variants["),
        (variant(accuracy={"max_abs_error": 0.1}), "missing required field `cosine` - at `$.variants["),
        (variant(sizes={"batch": [4, 1]}), "$.variants[0].sizes.batch: extents that rise from at least 1 expected"),
        (variant(sizes={"batch": []}), "$.variants[0].sizes.batch: extents that rise"),
        (variant(sizes={"tokens": [8]}), "$.variants[0].sizes.tokens: no input has such an axis"),
        (
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": ["batch", "n"], "max_length": 9}]}
            | variant(sizes={"n": [4, 8]}),
            "$.variants[0].sizes.n: the last must reach the axis's max_length, 9",
        ),
        ({"text": TEXT | {"sha256": ""}}, "$.text.tokenizer: its sha256 is 64 hex digits, got ''"),
        ({"text": TEXT | {"tensor": {"name": "t", "datatype": "FP32", "shape": ["batch"]}}}, "BYTES and shape [batch]"),
        ({"text": TEXT | {"tensor": TEXT["tensor"] | {"name": "x"}}}, "x is an input of the graph too"),
    ],
)
def test_a_model_file_that_is_not_well_formed_is_refused_with_file_and_key(tmp_path, change, words):
    """The file and the path of the key are in the text."""
    folder = put(tmp_path, facts(**change))
    with pytest.raises(RepositoryError) as error:
        load_model(folder)
    assert str(folder / "model.yaml") in str(error.value)
    assert words in str(error.value)


def test_a_variant_says_what_it_is_for_and_how_it_runs(tmp_path):
    """Every key, read back."""
    keys = {
        "dtype": "int8", "for": ["chip", "cann"], "sizes": {"batch": [1, 4]},
        "provider_options": {"cann": {"precision_mode": "force_fp16"}},
        "accuracy": {"max_abs_error": 0.5, "cosine": 0.25},
    }  # fmt: skip
    (read,) = load_model(put(tmp_path, facts(**variant(**keys)))).variants
    assert (read.dtype, read.meant_for, read.sizes, read.max_rows) == ("int8", ("chip", "cann"), {"batch": (1, 4)}, 4)
    assert read.provider_options == {"cann": {"precision_mode": "force_fp16"}}
    assert (read.accuracy.max_abs_error, read.accuracy.cosine) == (0.5, 0.25)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("name: a\nname: b\n", 'key name twice in "<byte string>", line 2'),
        ("a: {b: 1, b: 2}", "key b twice"),
        ("a: [", "line 1, column 5"),
        ("? [1, 2]\n: x\n", "key is no plain word"),
    ],
)
def test_yaml_with_a_repeated_key_or_broken_syntax_is_refused(tmp_path, content, words):
    """What a lenient reader would let through is an error with its line."""
    with pytest.raises(RepositoryError, match=r"model\.yaml: ") as error:
        load_model(put(tmp_path, content))
    assert words in str(error.value)


def test_a_missing_store_and_an_empty_one_say_how_to_build(tmp_path):
    """The message is the next step."""
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(RepositoryError, match=r"python -m models\.zoo\.build"):
            load_store(folder)


def test_a_name_without_versions_and_a_version_without_model_file_are_refused(tmp_path):
    """Nothing in a store is passed over in silence."""
    (tmp_path / "ranker").mkdir()
    with pytest.raises(RepositoryError, match="ranker: holds no version"):
        load_store(tmp_path)
    (tmp_path / "ranker" / "1").mkdir()
    with pytest.raises(RepositoryError, match=r"1/model\.yaml: No such file"):
        load_store(tmp_path)


def test_verify_passes_only_the_bytes_that_were_built(tmp_path):
    """A changed or missing file is refused, with both digests."""
    folder = put(tmp_path, facts())
    spec = load_model(folder)
    verify(spec)
    (folder / "model.onnx").write_bytes(b"other")
    with pytest.raises(RepositoryError, match=rf"model\.onnx: sha256 {DIGEST} expected, got "):
        verify(spec)
    (folder / "model.onnx").unlink()
    with pytest.raises(RepositoryError, match="No such file"):
        verify(spec)


def test_the_tokenizer_is_verified_like_the_weights(tmp_path):
    """It decides the answer as they do."""
    folder = put(tmp_path, facts(text=TEXT))
    (folder / "tokenizer.json").write_bytes(WEIGHTS)
    spec = load_model(folder)
    verify(spec)
    assert read_tokenizer(spec) == WEIGHTS
    (folder / "tokenizer.json").write_bytes(b"other")
    for reader in (verify, read_tokenizer):
        with pytest.raises(RepositoryError, match=r"tokenizer\.json: sha256"):
            reader(spec)


@pytest.mark.parametrize(
    ("versions", "highest"),
    [(["9", "10", "2"], "10"), (["1.9", "1.10"], "1.10"), (["v2", "v10"], "v10"), (["1", "1.1"], "1.1"), (["x"], "x")],
)
def test_the_latest_version_is_the_highest_by_number(versions, highest):
    """Versions are not compared letter by letter."""
    assert latest(versions) == highest
    assert latest(reversed(versions)) == highest
