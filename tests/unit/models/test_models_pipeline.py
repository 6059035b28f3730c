"""Text to tensors, with MiniLM's own tokenizer."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from models.pipeline import TextPipeline
from models.repository import RepositoryError, sha256_of
from models.spec import BatchRule, ModelSpec, TensorSpec, TextInput
from models.tensors import TensorError
from models.zoo.minilm.build import package_file

TOKENIZER = package_file("tokenizer.json")
SPEC = ModelSpec(
    name="minilm",
    version="1",
    inputs=(
        TensorSpec("input_ids", "INT64", ("batch", "sequence"), pad=0),
        TensorSpec("attention_mask", "INT64", ("batch", "sequence"), pad=0),
    ),
    outputs=(TensorSpec("embedding", "FP32", ("batch", 384)),),
    batch=BatchRule(),
    variants=(),
    text=TextInput(TensorSpec("text", "BYTES", ("batch",)), TOKENIZER.name, 16, sha256_of(TOKENIZER)),
    folder=str(TOKENIZER.parent),
)
PIPELINE = TextPipeline(SPEC)
CLS, SEP = 101, 102


def encode(*texts: bytes) -> dict[str, np.ndarray]:
    return PIPELINE.encode(np.array(texts, object))


def test_sentences_are_padded_to_the_longest_of_the_request_with_the_mask():
    """Ids and mask agree, and the shorter sentence ends in padding."""
    arrays = encode(b"Tea.", b"A man plays the guitar.")
    assert list(arrays) == ["input_ids", "attention_mask"]
    ids, mask = arrays["input_ids"], arrays["attention_mask"]
    assert (ids.dtype, ids.shape) == (np.int64, mask.shape)
    assert mask.tolist() == [[1, 1, 1, 1, 0, 0, 0, 0], [1] * 8]
    assert ids[0].tolist() == [CLS, 5572, 1012, SEP, 0, 0, 0, 0]


def test_long_sentences_are_cut_to_the_models_limit_with_their_special_tokens():
    """The file's own truncation and padding to 128 do not apply."""
    ids = encode(b"word " * 500)["input_ids"]
    assert ids.shape == (1, 16)
    assert (ids[0, 0], ids[0, -1]) == (CLS, SEP)


def test_an_empty_sentence_is_its_special_tokens():
    """There is always something to run."""
    assert encode(b"")["input_ids"].tolist() == [[CLS, SEP]]


def test_case_and_accents_do_not_matter_and_other_scripts_pass():
    """UTF-8 goes through the published normaliser."""
    assert encode("CAFÉ".encode())["input_ids"].tolist() == encode(b"cafe")["input_ids"].tolist()
    assert encode("東京".encode())["input_ids"].shape == (1, 4)


def test_bytes_that_are_not_utf8_name_the_sentence_and_the_byte():
    """The client learns which of its sentences to mend."""
    with pytest.raises(TensorError, match=r"text\[1\]: UTF-8 expected, got invalid start byte at byte 2") as error:
        encode(b"fine", b"ab\xff")
    assert error.value.reason == "malformed"


def test_a_graph_input_that_no_tokenizer_fills_is_refused_at_start():
    """A model whose inputs do not suit never gets as far as a request."""
    inputs = (*SPEC.inputs, TensorSpec("pixels", "FP32", ("batch", 3)))
    with pytest.raises(RepositoryError, match="cannot fill FP32 input pixels"):
        TextPipeline(msgspec.structs.replace(SPEC, inputs=inputs))


def test_a_model_without_text_has_no_pipeline():
    """Asking for one is a mistake of the caller, said in words."""
    with pytest.raises(RepositoryError, match="takes no text"):
        TextPipeline(msgspec.structs.replace(SPEC, text=None))
