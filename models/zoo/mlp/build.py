"""An MLP with seeded random weights, for measuring what surrounds a model. Needs no package and no data."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from models.zoo.graph import FLOAT, Graph, value

WIDTHS = (256, 1024, 1024, 256)
SEED = 256


def sources() -> list[Path]:
    """Files outside this folder whose bytes decide what is built: none."""
    return []


def build(folder: Path) -> None:
    """Write model.onnx into `folder`."""
    (folder / "model.onnx").write_bytes(graph())


def layers() -> list[tuple[np.ndarray, np.ndarray]]:
    """(weight FP32 [in, out], bias FP32 [out]) of each dense layer. RandomState: its stream is frozen by numpy."""
    rng = np.random.RandomState(SEED)
    return [
        (
            (rng.standard_normal((width, next_width)) * np.sqrt(2.0 / width)).astype(np.float32),
            (rng.standard_normal(next_width) * 0.1).astype(np.float32),
        )
        for width, next_width in pairwise(WIDTHS)
    ]


def graph() -> bytes:
    """The graph as bytes: x FP32 [batch, 256] -> y FP32 [batch, 256]."""
    g = Graph("mlp")
    *hidden, last = layers()
    x = "x"
    for index, (weight, bias) in enumerate(hidden):
        x = g.node("Relu", g.dense(x, weight, bias, f"dense.{index}"), name=f"relu.{index}")
    g.dense(x, *last, "y")
    return g.serialize([value("x", FLOAT, "batch", WIDTHS[0])], [value("y", FLOAT, "batch", WIDTHS[-1])])
