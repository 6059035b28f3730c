"""The bundled models, built and run for real, against their stored answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from models import zoo
from models.fixed_shapes import cut, padded
from models.pipeline import TextPipeline
from models.profile_store import load_profile
from models.repository import load_store, read_model_file, sha256_of, verify
from models.spec import ModelSpec, Variant
from models.tensors import DTYPES, Arrays, TensorError, check, split, stack
from models.zoo.build import BUNDLED, build_all
from models.zoo.ranker.interactions import COLUMNS, ROWS, interactions
from models.zoo.reference import document
from models.zoo.textline.reference import drawn

NAMES = ["minilm", "mlp", "ranker", "textline"]
VARIANTS = [("minilm", "fp32"), ("minilm", "fp16"), ("mlp", "fp32"), ("ranker", "fp32"), ("ranker", "fp16"),
            ("ranker", "fp16-fixed"), ("textline", "fp32"), ("textline", "fp32-fixed")]  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("zoo") / "models"
    build_all(folder)
    return folder


def session(spec: ModelSpec, variant: Variant | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    file = Path(spec.folder, (variant or spec.variants[0]).file)
    return ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])


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


def test_every_variant_is_listed_above(store):
    """So that none goes unmeasured."""
    built = {name: versions["1"].variants for name, versions in load_store(store).items()}
    assert sorted(VARIANTS) == sorted((name, variant.name) for name, variants in built.items() for variant in variants)


@pytest.mark.parametrize(("name", "variant_name"), VARIANTS)
def test_a_variant_is_as_accurate_as_model_yaml_says(store, name, variant_name):
    """Measured again, at a size that it runs: no worse, and what is written is no more than ten times too modest."""
    spec = load_store(store)[name]["1"]
    (variant,) = [each for each in spec.variants if each.name == variant_name]
    reference = stored(name)
    (expected,) = arrays(reference["outputs"]).values()
    whole, extents = padded(spec.inputs, graph_inputs(spec, arrays(reference["inputs"])), variant.sizes)
    names = [tensor.name for tensor in spec.outputs]
    outputs = dict(zip(names, session(spec, variant).run(names, whole), strict=True))
    (answer,) = cut(spec.outputs, outputs, extents).values()
    assert (answer.dtype, answer.shape) == (expected.dtype, expected.shape)
    error = float(np.abs(answer - expected).max())
    ours, theirs = answer.ravel().astype(float), expected.ravel().astype(float)
    cosine = float(ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs))
    said = variant.accuracy
    assert error <= said.max_abs_error <= max(1e-6, 10 * error)
    assert 1 - cosine <= 1 - said.cosine <= max(1e-6, 10 * (1 - cosine))


def test_half_precision_is_half_the_file_and_computes_in_it(store):
    """Every weight is FP16, and the graph still takes and gives FP32."""
    spec = load_store(store)["minilm"]["1"]
    single, half = (Path(spec.folder, variant.file) for variant in spec.variants)
    assert half.stat().st_size < 0.51 * single.stat().st_size
    graph = onnx.load(half).graph
    assert not any(tensor.data_type == onnx.TensorProto.FLOAT for tensor in graph.initializer)
    assert [value.type.tensor_type.elem_type for value in graph.output] == [onnx.TensorProto.FLOAT]


def test_zeros_stay_zeros_in_half_precision(store):
    """What guards a division by zero is not rounded away: a mask of zeros gives zeros there too."""
    spec = load_store(store)["minilm"]["1"]
    tokens = {"input_ids": np.array([[101, 5572, 102]] * 2), "attention_mask": np.array([[1, 1, 1], [0, 0, 0]])}
    lengths = np.linalg.norm(session(spec, spec.variants[1]).run(["embedding"], tokens)[0], axis=1)
    np.testing.assert_allclose(lengths, [1.0, 0.0], atol=1e-3)


def test_the_ranker_learned_what_popularity_alone_does_not_tell(store):
    """Area under the curve on interactions that it never saw: far above chance, and above ranking by click rate."""
    trained_on, held_out = interactions()
    spec = load_store(store)["ranker"]["1"]
    request = {"dense": held_out.dense.astype(np.float32), "categories": held_out.categories}
    check((spec.inputs,), request)
    scores = session(spec).run(["score"], request)[0][:, 0]
    item = COLUMNS.index("item")
    shown, clicked = (
        np.bincount(trained_on.categories[:, item], weights, ROWS) for weights in (None, trained_on.clicked)
    )
    popularity = ((clicked + 1) / (shown + 2))[held_out.categories[:, item]]
    learned, baseline = (area_under_curve(each, held_out.clicked) for each in (scores, popularity))
    assert 0.55 < baseline < 0.65
    assert learned > baseline + 0.15
    assert learned > 0.8


def area_under_curve(scores: np.ndarray, clicked: np.ndarray) -> float:
    """The share of pairs of a click and a non-click that the scores put in order."""
    order = np.argsort(scores, kind="stable")
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1)
    clicks = clicked.sum()
    return float((ranks[clicked == 1].sum() - clicks * (clicks + 1) / 2) / (clicks * (len(clicked) - clicks)))


def test_an_index_beyond_the_ranker_s_tables_is_refused(store):
    """A device might read past the end of an embedding."""
    spec = load_store(store)["ranker"]["1"]
    for index in (-1, ROWS):
        request = {"dense": np.zeros((1, 8), np.float32), "categories": np.full((1, 6), index)}
        with pytest.raises(TensorError, match="categories: values from 0 to 999 expected"):
            check((spec.inputs,), request)


def test_a_line_of_text_and_the_same_upside_down_are_told_apart(store):
    """By far, in pictures that are not among the model's stored answers."""
    spec = load_store(store)["textline"]["1"]
    pictures = [drawn(line)[::turn, ::turn] for line in ("POINT", "ROUTE", "TUTOR") for turn in (1, -1)]
    images = np.stack([np.stack([picture] * 3) for picture in pictures]).astype(np.float32)
    answers = session(spec).run(["orientation"], {"image": images})[0]
    np.testing.assert_allclose(answers.sum(axis=1), 1.0, atol=1e-5)
    assert (answers[0::2, 0] > 0.9).all()
    assert (answers[1::2, 1] > 0.9).all()


def test_the_work_of_a_picture_is_what_the_profiles_count(store):
    """Two operations for each multiplication of its convolutions, within 1 %."""
    graph = onnx.shape_inference.infer_shapes(
        onnx.load(load_store(store)["textline"]["1"].folder + "/model.onnx")
    ).graph
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim][1:] for v in graph.value_info}
    kernels = {tensor.name: list(tensor.dims)[1:] for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    work = sum(2 * np.prod(shapes[node.output[0]]) * np.prod(kernels[node.input[1]]) for node in convolutions)
    assert load_profile("textline", "nvidia-h20").scaling.work_per_row == pytest.approx(work / 1e9, rel=0.01)


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
    assert len(files) == 12  # .lock, two of mlp, four of minilm, three of ranker, two of textline
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
        *("building", "built") * 4,
        *("up to date",) * 4,
        *("building", "built", *["up to date"] * 3),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "minilm", "mlp", "ranker", "textline"]


@pytest.mark.parametrize("model", BUNDLED, ids=lambda model: model.folder.name)
def test_licence_and_origin_of_the_weights_are_written_down(store, model):
    """The store says where the weights come from and under which licence."""
    file = read_model_file(store / model.folder.name / "1" / "model.yaml")
    assert file.licence == "Apache-2.0"
    assert file.source
    assert len(file.built_from) == 64
