"""What another server says of its model and its load, held against the model here."""

import json

import pytest

from models.spec import BatchRule, ModelSpec, TensorSpec, TextInput
from router.protocol.metadata import model_metadata
from router.protocol.upstream_facts import Misfit, accepted_there, pending_requests

TEXT = TensorSpec("text", "BYTES", ("batch",))
SPEC = ModelSpec(
    "m",
    "1",
    (TensorSpec("ids", "INT64", ("batch", "sequence")), TensorSpec("mask", "INT64", ("batch", "sequence"))),
    (TensorSpec("y", "FP32", ("batch", 384)),),
    BatchRule(4),
    (),
    text=TextInput(TEXT, "tokenizer.json"),
)
TOKENS = SPEC.inputs


def said(inputs=None, outputs=None, versions=("1",)):
    entry = {"ids": "INT64", "mask": "INT64", "text": "BYTES", "y": "FP32", "other": "FP32"}
    tensors = lambda given: [{"name": n, "datatype": entry[n], "shape": shape} for n, shape in (given or {}).items()]  # noqa: E731
    return json.dumps({"name": "m", "versions": list(versions), "inputs": tensors(inputs), "outputs": tensors(outputs)})


@pytest.mark.parametrize(
    ("inputs", "sets"),
    [
        ({"ids": [-1, -1], "mask": [-1, -1]}, (TOKENS,)),
        ({"ids": [-1, 128], "mask": [8, 128]}, (TOKENS,)),
        ({"text": [-1]}, ((TEXT,),)),
        ({"text": []}, ((TEXT,),)),
        ({}, ((TEXT,), TOKENS)),
    ],
)
def test_the_sets_of_inputs_that_it_takes_are_found(inputs, sets):
    """One that lists none is believed to have the model's own."""
    assert accepted_there(SPEC, said(inputs, {"y": [-1, 384]}).encode(), "") == sets


def test_another_pointsman_takes_what_this_one_does():
    """By its own metadata document."""
    document = json.dumps(model_metadata(SPEC, ["1"])).encode()
    assert accepted_there(SPEC, document, "1") == SPEC.accepted_inputs()


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (said({"other": [-1]}), "it takes other"),
        (said({"ids": [-1, -1]}), "no input mask"),
        (said({"text": [-1], "other": [-1]}), "wants an input other"),
        (said({"text": [-1]}, {"y": [-1, 512]}), r"shape \[-1, 512\] there and \[-1, 384\] here"),
        (said({"text": [-1]}, {"y": [-1]}), "shape"),
        (said({"text": [-1]}, {"other": [-1]}), "no output y"),
        (said({"text": [-1]}).replace("BYTES", "INT8"), "INT8 there and BYTES here"),
        (said({"text": [-1]}, versions=("2", "3")), "versions 2, 3, not 1"),
        ("<html>", "cannot be read"),
    ],
)
def test_a_model_that_is_another_one_is_refused_in_words(document, words):
    """Before it is asked anything."""
    with pytest.raises(Misfit, match=words):
        accepted_there(SPEC, document.encode(), "1")


def test_the_words_of_a_misfit_are_short_however_long_the_document_is():
    """They go into reports and logs."""
    document = json.dumps({"inputs": [{"name": f"n{number}" * 10, "datatype": "FP32"} for number in range(20_000)]})
    with pytest.raises(Misfit) as raised:
        accepted_there(SPEC, document.encode(), "")
    assert len(str(raised.value)) <= 200


@pytest.mark.parametrize("value", ["1e999", "1.2.3", "e", "+", "1e10", "-1", "nan", "9" * 500, "7x"])
def test_a_count_that_is_none_says_nothing(value):
    """Whatever the page holds; the others count."""
    page = (
        f'nv_inference_pending_request_count{{model="m"}} {value}\nnv_inference_pending_request_count{{model="n"}} 2\n'
    )
    assert pending_requests(page) == {"n": 2}


def test_what_waits_at_triton_is_summed_over_versions():
    """From the page as Triton writes it; the rest is passed over."""
    page = """\
# HELP nv_inference_pending_request_count Instantaneous number of pending requests awaiting execution per-model.
# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{model="all-minilm",version="1"} 3
nv_inference_pending_request_count{model="all-minilm",version="2"} 4.0
nv_inference_pending_request_count{version="1",model="mlp"} 0
nv_inference_request_success{model="mlp",version="1"} 900
"""
    assert pending_requests(page) == {"all-minilm": 7, "mlp": 0}
    assert pending_requests("") == {}
