"""The ranker's stored answers: held-out interactions, worked out in float64 one by one from the definition."""

from __future__ import annotations

import numpy as np

from models.tensors import Arrays
from models.zoo.ranker.build import weights
from models.zoo.ranker.interactions import ROWS, interactions
from models.zoo.ranker.training import Weights

EXAMPLES = 16


def reference() -> tuple[Arrays, Arrays, dict[str, object]]:
    """(inputs, outputs, nothing more) of the first held-out interactions."""
    _, held_out = interactions()
    dense, categories = held_out.dense[:EXAMPLES], held_out.categories[:EXAMPLES]
    w = weights()
    scores = [[score(w, row, list(indices))] for row, indices in zip(dense, categories.tolist(), strict=True)]
    return {"dense": dense.astype(np.float32), "categories": categories}, {"score": np.array(scores)}, {}


def score(w: Weights, dense: np.ndarray, indices: list[int]) -> float:
    """Probability of a click for one interaction: DLRM's dot products spelt out."""
    hidden = np.maximum(dense @ w["bottom.0.weight"] + w["bottom.0.bias"], 0.0)
    bottom = np.maximum(hidden @ w["bottom.1.weight"] + w["bottom.1.bias"], 0.0)
    vectors = [bottom, *(w["table"][ROWS * column + index] for column, index in enumerate(indices))]
    products = [float(np.dot(a, b)) for at, a in enumerate(vectors) for b in vectors[at + 1 :]]
    top = np.maximum(np.array([*bottom, *products]) @ w["top.0.weight"] + w["top.0.bias"], 0.0)
    return float(1.0 / (1.0 + np.exp(-(top @ w["top.1.weight"] + w["top.1.bias"])[0])))
