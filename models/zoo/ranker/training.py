"""Trains the ranker: a DLRM in small (dense tower, embeddings, pairwise products, top), with numpy alone.

In float64 and rounded to a grid at the end: machines differ in the last bits of a sum, and agree on the weights.
"""

from __future__ import annotations

import numpy as np

from models.zoo.ranker.interactions import COLUMNS, DENSE, ROWS, Interactions

WIDTH = 16
"""Of an embedding, and of the dense tower's output."""
HIDDEN, TOP = 32, 64
VECTORS = len(COLUMNS) + 1
PAIRS = np.triu_indices(VECTORS, k=1)
OFFSETS = ROWS * np.arange(len(COLUMNS))
"""All embeddings stand in one table: a column's index plus its offset is the row."""
SEED, BATCH, EPOCHS, RATE = 16, 1000, 3, 0.1
START = 1e-7
"""Of each sum of squares: about the square of one gradient."""
GRID = 2.0**12
"""Weights are multiples of 1 / GRID, which FP32 holds exactly."""

Weights = dict[str, np.ndarray]


def initial() -> Weights:
    """Weights before training, by name; weight matrices are [in, out]."""
    rng = np.random.RandomState(SEED)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return np.asarray(rng.standard_normal((rows, columns)) * np.sqrt(1.0 / rows))

    inputs = WIDTH + len(PAIRS[0])
    return {
        "table": 0.1 * rng.standard_normal((ROWS * len(COLUMNS), WIDTH)),
        "bottom.0.weight": matrix(DENSE, HIDDEN), "bottom.0.bias": np.zeros(HIDDEN),
        "bottom.1.weight": matrix(HIDDEN, WIDTH), "bottom.1.bias": np.zeros(WIDTH),
        "top.0.weight": matrix(inputs, TOP), "top.0.bias": np.zeros(TOP),
        "top.1.weight": matrix(TOP, 1), "top.1.bias": np.zeros(1),
    }  # fmt: skip


def trained(data: Interactions) -> Weights:
    """Weights float64 on the grid, after EPOCHS passes of Adagrad over the data. About 3 s."""
    weights = initial()
    squares = {name: np.full_like(array, START) for name, array in weights.items()}
    rng = np.random.RandomState(SEED + 1)
    for _ in range(EPOCHS):
        for rows in rng.permutation(len(data.clicked)).reshape(-1, BATCH):
            gradients, touched = _gradients(weights, Interactions(*(array[rows] for array in data)))
            for name, gradient in gradients.items():
                at = touched if name == "table" else slice(None)
                squares[name][at] += gradient**2
                weights[name][at] -= RATE * gradient / np.sqrt(squares[name][at])
    return {name: np.round(array * GRID) / GRID for name, array in weights.items()}


def scores(w: Weights, dense: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """Probability of a click [n]."""
    return _forward(w, dense, categories)[-1]


def _forward(w: Weights, dense: np.ndarray, categories: np.ndarray) -> tuple[np.ndarray, ...]:
    hidden = np.maximum(dense @ w["bottom.0.weight"] + w["bottom.0.bias"], 0.0)
    bottom = np.maximum(hidden @ w["bottom.1.weight"] + w["bottom.1.bias"], 0.0)
    vectors = np.concatenate([bottom[:, None], w["table"][categories + OFFSETS]], axis=1)
    products = (vectors @ vectors.transpose(0, 2, 1))[:, *PAIRS]
    joined = np.concatenate([bottom, products], axis=1)
    top = np.maximum(joined @ w["top.0.weight"] + w["top.0.bias"], 0.0)
    logit = (top @ w["top.1.weight"] + w["top.1.bias"])[:, 0]
    return hidden, bottom, vectors, joined, top, 1.0 / (1.0 + np.exp(-logit))


def _gradients(w: Weights, batch: Interactions) -> tuple[Weights, np.ndarray]:
    """Of the mean cross entropy, by name; of the table only the rows that are touched, which come second."""
    hidden, bottom, vectors, joined, top, score = _forward(w, batch.dense, batch.categories)
    found: Weights = {}

    def back(name: str, x: np.ndarray, out: np.ndarray) -> np.ndarray:
        found[f"{name}.weight"], found[f"{name}.bias"] = x.T @ out, out.sum(axis=0)
        return out @ w[f"{name}.weight"].T

    out = (score - batch.clicked)[:, None] / len(score)
    joined_out = back("top.0", joined, back("top.1", top, out) * (top > 0))
    square = np.zeros((len(score), VECTORS, VECTORS))
    square[:, *PAIRS] = joined_out[:, WIDTH:]
    vectors_out = (square + square.transpose(0, 2, 1)) @ vectors
    bottom_out = (joined_out[:, :WIDTH] + vectors_out[:, 0]) * (bottom > 0)
    back("bottom.0", batch.dense, back("bottom.1", hidden, bottom_out) * (hidden > 0))
    rows, at = np.unique((batch.categories + OFFSETS).ravel(), return_inverse=True)
    flat = vectors_out[:, 1:].reshape(-1, WIDTH)
    columns = [np.bincount(at, weights=flat[:, column], minlength=len(rows)) for column in range(WIDTH)]
    found["table"] = np.stack(columns, axis=1)
    return found, rows
