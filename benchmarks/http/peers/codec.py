"""Open Inference Protocol JSON as every Python peer reads and writes it: orjson and numpy, the fastest plain way.

Shared so that peers differ in their serving, never in their parsing. Takes its settings from the environment:
BENCH_MODEL (path of the ONNX file), BENCH_PORT.
"""

from __future__ import annotations

import os

import numpy as np
import onnxruntime as ort
import orjson

MAX_BATCH = 32


def port() -> int:
    """The loopback port that the harness gave this peer."""
    return int(os.environ["BENCH_PORT"])


def decode(body: bytes) -> np.ndarray:
    """Request body to one float32 array [rows, width]."""
    tensor = orjson.loads(body)["inputs"][0]
    return np.array(tensor["data"], np.float32).reshape(tensor["shape"])


class Model:
    """The ONNX session of a peer, one thread, as in workload.open_session."""

    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name

    def run(self, rows: np.ndarray) -> np.ndarray:
        """float32 [rows, width] to float32 [rows, out]."""
        return self._session.run([self._output], {self._input: rows})[0]

    def run_many(self, requests: list[np.ndarray]) -> list[np.ndarray]:
        """Requests of one row each, stacked into one run and taken apart again."""
        if len(requests) == 1:
            return [self.run(requests[0])]
        answers = self.run(np.concatenate(requests))
        return [answers[at : at + 1] for at in range(len(requests))]

    def encode(self, rows: np.ndarray) -> bytes:
        """One request's answer [rows, out] to a response body."""
        tensor = {"name": self._output, "shape": rows.shape, "datatype": "FP32", "data": rows.ravel()}
        answer = {"model_name": "mlp", "model_version": "1", "outputs": [tensor]}
        return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
