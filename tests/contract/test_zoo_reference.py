"""The bundled models, built and run for real, against their stored answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from models import zoo
from models.pipeline import TextPipeline
from models.repository import load_store, read_model_file, sha256_of, verify
from models.spec import ModelSpec
from models.tensors import DTYPES, Arrays, check, split, stack
from models.zoo.build import BUNDLED, build_all
from models.zoo.reference import document

NAMES = ["minilm", "mlp"]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("zoo") / "models"
    build_all(folder)
    return folder


def session(spec: ModelSpec) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(Path(spec.folder, spec.variants[0].file), options, providers=["CPUExecutionProvider"])


def stored(name: str) -> dict:
    return json.loads((Path(zoo.__file__).parent / name / "reference.json").read_text())


def arrays(tensors: list[dict]) -> Arrays:
    result = {}
    for tensor in tensors:
        data = [x.encode() for x in tensor["data"]] if tensor["datatype"] == "BYTES" else tensor["data"]
        result[tensor["name"]] = np.array(data, DTYPES[tensor["datatype"]]).reshape(tensor["shape"])
    return result


def graph_inputs(spec: ModelSpec, request: Arrays) -> Arrays:
    return TextPipeline(spec).encode(request["text"]) if "text" in request else request


@pytest.mark.parametrize("name", NAMES)
def test_the_built_model_gives_the_stored_answer(store, name):
    """The graph, run by ONNX Runtime, agrees with what numpy worked out from the definition."""
    spec = load_store(store)[name]["1"]
    verify(spec)
    reference = stored(name)
    request, expected = arrays(reference["inputs"]), arrays(reference["outputs"])
    assert check(spec.accepted_inputs(), request) == len(next(iter(expected.values())))
    names = [tensor.name for tensor in spec.outputs]
    answer = dict(zip(names, session(spec).run(names, graph_inputs(spec, request)), strict=True))
    assert check((spec.outputs,), answer) > 0
    for key, array in expected.items():
        np.testing.assert_allclose(answer[key], array, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_answer_is_what_its_code_works_out(name):
    """reference.json was not edited by hand: its code gives the same inputs and, to 1e-6, outputs."""
    made, kept = json.loads(document(name)), stored(name)
    assert made["inputs"] == kept["inputs"]
    for new, old in zip(made["outputs"], kept["outputs"], strict=True):
        np.testing.assert_allclose(new["data"], old["data"], atol=1e-6, rtol=1e-6)


def test_an_embedding_does_not_depend_on_its_batch_neighbours(store):
    """Sentences of different lengths, stacked with padding, get the answers they get alone, to 1e-5."""
    spec = load_store(store)["minilm"]["1"]
    pipeline, run = TextPipeline(spec), session(spec).run
    texts = arrays(stored("minilm")["inputs"])["text"]
    requests = [pipeline.encode(texts[at : at + 1]) for at in range(len(texts))]
    assert len({request["input_ids"].shape for request in requests}) > 3
    batch = run(["embedding"], stack(spec.inputs, requests))[0]
    answers = split(spec.outputs, {"embedding": batch}, [1] * len(requests), [{}] * len(requests))
    for request, answer in zip(requests, answers, strict=True):
        np.testing.assert_allclose(answer["embedding"], run(["embedding"], request)[0], atol=1e-5, rtol=0)


def test_embeddings_have_length_one_and_zero_where_no_token_counts(store):
    """A mask of zeros gives zeros, not NaN; everything else has length 1."""
    spec = load_store(store)["minilm"]["1"]
    tokens = {"input_ids": np.array([[101, 5572, 102]] * 2), "attention_mask": np.array([[1, 1, 1], [0, 0, 0]])}
    lengths = np.linalg.norm(session(spec).run(["embedding"], tokens)[0], axis=1)
    np.testing.assert_allclose(lengths, [1.0, 0.0], atol=1e-5)


def test_the_longest_request_the_spec_allows_runs(store):
    """max_length is no more than the graph can take."""
    spec = load_store(store)["minilm"]["1"]
    longest = spec.inputs[0].max_length
    tokens = {"input_ids": np.full((1, longest), 5572), "attention_mask": np.ones((1, longest), np.int64)}
    check(spec.accepted_inputs(), tokens)
    assert np.isfinite(session(spec).run(["embedding"], tokens)[0]).all()


def test_paraphrases_are_closer_than_unrelated_sentences(store):
    """Three named pairs of each kind: the least close paraphrase is closer than the closest unrelated pair."""
    spec = load_store(store)["minilm"]["1"]
    reference = stored("minilm")
    tokens = TextPipeline(spec).encode(arrays(reference["inputs"])["text"])
    embeddings = session(spec).run(["embedding"], tokens)[0]
    cosines = {kind: {} for kind in ("paraphrase", "unrelated")}
    for pair in reference["pairs"]:
        a, b = pair["rows"]
        cosine = float(embeddings[a] @ embeddings[b])
        assert cosine == pytest.approx(pair["cosine"], abs=1e-4)
        cosines[pair["kind"]][pair["name"]] = cosine
    assert [len(named) for named in cosines.values()] == [3, 3]
    assert min(cosines["paraphrase"].values()) > max(cosines["unrelated"].values())


def test_two_builds_are_equal_byte_for_byte(store, tmp_path):
    """Building again elsewhere gives the same files, model.yaml with its digests included."""
    build_all(tmp_path)
    files = sorted(path.relative_to(store) for path in store.rglob("*") if path.is_file())
    assert len(files) == 6  # .lock, two of mlp, three of minilm
    for file in files:
        assert sha256_of(tmp_path / file) == sha256_of(store / file), file


def test_a_build_that_is_up_to_date_is_left_alone_and_a_broken_one_is_built_again(tmp_path):
    """Only what is missing, changed or forced is built; nothing temporary stays behind."""
    said: list[str] = []
    build_all(tmp_path, say=said.append)
    graph = tmp_path / "mlp" / "1" / "model.onnx"
    before = graph.stat()
    build_all(tmp_path, say=said.append)
    assert graph.stat() == before
    graph.unlink()
    build_all(tmp_path, say=said.append)
    assert graph.stat().st_size == before.st_size
    assert [line.split(": ")[1].split(",")[0] for line in said] == [
        *("building", "built") * 2,
        *("up to date",) * 2,
        *("building", "built", "up to date"),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "minilm", "mlp"]


@pytest.mark.parametrize("model", BUNDLED, ids=lambda model: model.folder.name)
def test_licence_and_origin_of_the_weights_are_written_down(store, model):
    """The store says where the weights come from and under which licence."""
    file = read_model_file(store / model.folder.name / "1" / "model.yaml")
    assert file.licence == "Apache-2.0"
    assert file.source
    assert len(file.built_from) == 64
