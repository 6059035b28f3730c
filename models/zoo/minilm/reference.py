"""MiniLM's stored answers, worked out with numpy alone in float64, one sentence at a time and so without any padding.

Written from the published definition (BERT, mean pooling, normalisation) and not from build.py's graph: what the two
agree on was written twice.
"""

from __future__ import annotations

import math

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from models.tensors import Arrays
from models.zoo.minilm.build import package_file

PARAPHRASES = {
    "guitar": ("A man is playing a guitar on stage.", "On stage, a man plays the guitar."),
    "refund": ("How can I get my money back for this order?", "I would like a refund for my purchase."),
    "storm": (
        "The flight was delayed by three hours because of a heavy storm.",
        "Bad weather held the plane back for three hours.",
    ),
}
UNRELATED = {
    "cake-court": ("She baked a chocolate cake for the party.", "The court rejected the appeal on Tuesday."),
    "router-penguin": (
        "The router drops packets when its queue is full.",
        "Emperor penguins breed during the Antarctic winter.",
    ),
    "tea-bridge": ("Tea.", "The old suspension bridge was closed to lorries after cracks were found in two cables."),
}

Weights = dict[str, np.ndarray]


def reference() -> tuple[Arrays, Arrays, dict[str, object]]:
    """(inputs, outputs, {"pairs": ...}): all sentences, their embeddings, and the cosine of each named pair."""
    groups = {"paraphrase": PARAPHRASES, "unrelated": UNRELATED}
    sentences = [sentence for pairs in groups.values() for pair in pairs.values() for sentence in pair]
    tokenizer: Tokenizer = Tokenizer.from_file(str(package_file("tokenizer.json")))
    tokenizer.no_padding()
    stored = load_file(package_file("model.safetensors"))
    weights = {name: array.astype(np.float64) for name, array in stored.items()}
    embeddings = np.stack([embed(weights, tokenizer.encode(sentence).ids) for sentence in sentences])
    pairs = [
        {
            "kind": kind,
            "name": name,
            "rows": [sentences.index(a), sentences.index(b)],
            "cosine": round(float(embeddings[sentences.index(a)] @ embeddings[sentences.index(b)]), 7),
        }
        for kind, named in groups.items()
        for name, (a, b) in named.items()
    ]
    texts = np.array([sentence.encode() for sentence in sentences], object)
    return {"text": texts}, {"embedding": embeddings}, {"pairs": pairs}


def embed(weights: Weights, ids: list[int]) -> np.ndarray:
    """Embedding [384] of length 1 of one tokenised sentence."""
    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][: len(ids)]
    x = x + weights["embeddings.token_type_embeddings.weight"][0]
    x = _normed(weights, "embeddings.LayerNorm", x)
    for layer in range(6):
        x = _layer(weights, f"encoder.layer.{layer}", x)
    mean = x.mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean))


def _layer(w: Weights, at: str, x: np.ndarray) -> np.ndarray:
    q, k, v = (_dense(w, f"{at}.attention.self.{part}", x) for part in ("query", "key", "value"))
    mixed = np.concatenate(
        [
            _softmax(q[:, h] @ k[:, h].T / math.sqrt(32)) @ v[:, h]
            for h in (slice(i, i + 32) for i in range(0, 384, 32))
        ],
        axis=1,
    )
    x = _normed(w, f"{at}.attention.output.LayerNorm", x + _dense(w, f"{at}.attention.output.dense", mixed))
    wide = _dense(w, f"{at}.intermediate.dense", x)
    wide = 0.5 * wide * (1.0 + np.vectorize(math.erf)(wide / math.sqrt(2.0)))
    return _normed(w, f"{at}.output.LayerNorm", x + _dense(w, f"{at}.output.dense", wide))


def _dense(w: Weights, at: str, x: np.ndarray) -> np.ndarray:
    return np.asarray(x @ w[f"{at}.weight"].T + w[f"{at}.bias"])


def _normed(w: Weights, at: str, x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
    return np.asarray(centred / scale * w[f"{at}.weight"] + w[f"{at}.bias"])


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
