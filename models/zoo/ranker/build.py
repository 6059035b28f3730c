"""The ranker as one ONNX graph: numbers and indices in, probability of a click out. The build trains the weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from models.zoo.graph import FLOAT, INT64, Graph, value
from models.zoo.half import halved
from models.zoo.ranker.interactions import COLUMNS, DENSE, interactions
from models.zoo.ranker.training import OFFSETS, PAIRS, VECTORS, Weights, trained


def sources() -> list[Path]:
    """Files outside this folder whose bytes decide what is built: none."""
    return []


def build(folder: Path) -> None:
    """Write model.onnx and model.fp16.onnx into `folder`."""
    data = graph(weights())
    (folder / "model.onnx").write_bytes(data)
    (folder / "model.fp16.onnx").write_bytes(halved(data))


@cache
def weights() -> Weights:
    """The trained weights, float64; a few seconds the first time."""
    return trained(interactions()[0])


def graph(w: Weights) -> bytes:
    """The graph as bytes: dense FP32 [batch, 8], categories INT64 [batch, 6] -> score FP32 [batch, 1]."""
    g = Graph("ranker")
    single = {name: array.astype(np.float32) for name, array in w.items()}

    def layer(x: str, name: str) -> str:
        return g.dense(x, single[f"{name}.weight"], single[f"{name}.bias"], name)

    hidden = g.node("Relu", layer("dense", "bottom.0"), name="bottom.hidden")
    bottom = g.node("Relu", layer(hidden, "bottom.1"), name="bottom")
    rows = g.node("Add", "categories", g.constant("offsets", OFFSETS), name="rows")
    embedded = g.node("Gather", g.constant("table", single["table"]), rows, name="embedded")
    vector = g.node("Unsqueeze", bottom, g.constant("axis_1", np.array([1])), name="bottom.vector")
    vectors = g.node("Concat", vector, embedded, name="vectors", axis=1)
    turned = g.node("Transpose", vectors, name="turned", perm=[0, 2, 1])
    square = g.node("MatMul", vectors, turned, name="products.all")
    flat = g.node("Reshape", square, g.constant("flat", np.array([0, VECTORS**2])), name="products.flat")
    pairs = PAIRS[0] * VECTORS + PAIRS[1]
    products = g.node("Gather", flat, g.constant("pairs", pairs), name="products", axis=1)
    joined = g.node("Concat", bottom, products, name="joined", axis=1)
    top = g.node("Relu", layer(joined, "top.0"), name="top")
    g.node("Sigmoid", layer(top, "top.1"), name="score")
    inputs = [value("dense", FLOAT, "batch", DENSE), value("categories", INT64, "batch", len(COLUMNS))]
    return g.serialize(inputs, [value("score", FLOAT, "batch", 1)])
