"""Stored answers of the bundled models: `python -m models.zoo.reference` writes each reference.json again.

They are worked out without ONNX (see <model>/reference.py) and written as Open Inference Protocol tensors, so that
`inputs` is the body of a request and `outputs` the answer to expect, to 7 digits.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from models.tensors import Arrays, datatype_of
from models.zoo.minilm import reference as minilm
from models.zoo.mlp import reference as mlp
from models.zoo.ranker import reference as ranker
from models.zoo.textline import reference as textline

REFERENCES = {
    "minilm": minilm.reference,
    "mlp": mlp.reference,
    "ranker": ranker.reference,
    "textline": textline.reference,
}


def document(name: str) -> str:
    """Content of a model's reference.json."""
    inputs, outputs, more = REFERENCES[name]()
    answers = {key: array.astype(np.float32) for key, array in outputs.items()}
    content: dict[str, object] = {"inputs": _tensors(inputs), "outputs": _tensors(answers), **more}
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(part)}" for key, part in content.items())
    return f"{{\n{lines}\n}}\n"


def _tensors(arrays: Arrays) -> list[dict[str, object]]:
    return [
        {"name": name, "datatype": datatype_of(array), "shape": list(array.shape), "data": _data(array)}
        for name, array in arrays.items()
    ]


def _data(array: np.ndarray) -> list[object]:
    if array.dtype == object:
        return [element.decode() for element in array.ravel()]
    rounded = [round(element, 7) for element in array.ravel().tolist()]
    return [int(element) if element == int(element) else element for element in rounded]


def main() -> None:
    """Write the reference.json of every bundled model beside its build.py."""
    for name in REFERENCES:
        path = Path(__file__).parent / name / "reference.json"
        path.write_text(document(name))
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
