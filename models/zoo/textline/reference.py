"""The text line model's stored answers: a drawn line, upright and upside down, by the published graph.

Worked out by the ONNX project's own evaluator (numpy alone, no inference runtime) from the published file, so that
build.py's graph and the runtime that serves it are both checked.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from models.tensors import Arrays
from models.zoo.graph import OPSET
from models.zoo.textline.build import SHAPE, package_file

LINES = ("ROUTER",)
SCALE = 5
"""Pixels of the picture to one of a glyph."""
GLYPHS = {
    "E": (31, 16, 16, 30, 16, 16, 31),
    "I": (14, 4, 4, 4, 4, 4, 14),
    "N": (17, 25, 21, 19, 17, 17, 17),
    "O": (14, 17, 17, 17, 17, 17, 14),
    "P": (30, 17, 17, 30, 16, 16, 16),
    "R": (30, 17, 17, 30, 20, 18, 17),
    "T": (31, 4, 4, 4, 4, 4, 4),
    "U": (17, 17, 17, 17, 17, 17, 14),
}
"""Letters of 5 x 7 pixels: a number for each row from the top, a bit for each pixel."""


def reference() -> tuple[Arrays, Arrays, dict[str, object]]:
    """(inputs, outputs, {"upright": ...}): the pictures, their answers, and which of them stand upright."""
    pictures = [picture[::turn, ::turn] for picture in map(drawn, LINES) for turn in (1, -1)]
    images = np.stack([np.stack([picture] * SHAPE[0]) for picture in pictures]).astype(np.float32)
    model = onnx.load(package_file())
    # At the file's own opset, 11, the evaluator takes every BatchNormalization with a momentum to be training.
    model.opset_import[0].version = OPSET
    (answer,) = ReferenceEvaluator(model).run(None, {model.graph.input[0].name: images})
    return {"image": images}, {"orientation": np.asarray(answer)}, {"upright": [True, False] * len(LINES)}


def drawn(line: str) -> np.ndarray:
    """A picture [48, 192] of the line, dark (-1) on light (1)."""
    letters = [[[row >> (4 - at) & 1 for at in range(5)] + [0] for row in GLYPHS[letter]] for letter in line]
    ink = np.kron(np.concatenate([np.array(letter) for letter in letters], axis=1), np.ones((SCALE, SCALE)))
    height, width = ink.shape
    top, left = (SHAPE[1] - height) // 2, (SHAPE[2] - width) // 2
    picture = np.ones(SHAPE[1:])
    picture[top : top + height, left : left + width] -= 2 * ink
    return picture
