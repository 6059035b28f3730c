"""Requests and their true answers: the bundled models' stored references, and sentences of every length."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from fleet import MODELS, ROOT
from tokenizers import Tokenizer

REFERENCE: dict[str, Any] = {
    model: json.loads((ROOT / "models" / "zoo" / model / "reference.json").read_text()) for model in ("minilm", "mlp")
}
SENTENCES: list[str] = REFERENCE["minilm"]["inputs"][0]["data"]
MLP_INFER, MINILM_INFER = "/v2/models/mlp/infer", "/v2/models/minilm/infer"


def reference_body(model: str) -> dict[str, Any]:
    """The request whose answer the reference holds."""
    return {"inputs": REFERENCE[model]["inputs"]}


def expected(model: str) -> np.ndarray:
    """The reference's only output."""
    return output({"outputs": REFERENCE[model]["outputs"]})


def output(answer: dict[str, Any]) -> np.ndarray:
    """The only output of an answer, in its shape."""
    (tensor,) = answer["outputs"]
    return np.array(tensor["data"], np.float32).reshape(tensor["shape"])


def text(sentences: Sequence[str]) -> dict[str, Any]:
    """MiniLM's request for sentences."""
    data = list(sentences)
    return {"inputs": [{"name": "text", "shape": [len(data)], "datatype": "BYTES", "data": data}]}


def tokens(sentences: Sequence[str]) -> dict[str, Any]:
    """MiniLM's request for the same sentences, tokenised and padded by the client."""
    tokenizer: Tokenizer = Tokenizer.from_file(str(MODELS / "minilm" / "1" / "tokenizer.json"))
    tokenizer.no_padding()
    rows = [encoding.ids for encoding in tokenizer.encode_batch(list(sentences))]
    width = max(map(len, rows))
    ids = [row + [0] * (width - len(row)) for row in rows]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    shape = [len(rows), width]
    return {
        "inputs": [
            {"name": "input_ids", "shape": shape, "datatype": "INT64", "data": ids},
            {"name": "attention_mask", "shape": shape, "datatype": "INT64", "data": mask},
        ]
    }


def mlp(rows: int = 1, seed: int = 0) -> dict[str, Any]:
    """A request for the MLP."""
    data = np.random.RandomState(seed).standard_normal(rows * 256).round(3).tolist()
    return {"inputs": [{"name": "x", "shape": [rows, 256], "datatype": "FP32", "data": data}]}


def ragged_sentences(count: int) -> list[str]:
    """Sentences of 1 to 60 words, the same ones every time."""
    words = " ".join(SENTENCES).split()
    rng = random.Random(7)
    return [" ".join(rng.choices(words, k=rng.randint(1, 60))) for _ in range(count)]
