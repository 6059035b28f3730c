"""The model of a Triton repository, for its Python backend: one session, all requests of a call in one run.

Stands alone in the repository: Triton imports it in a process of its own.
"""

import os

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as triton


class TritonPythonModel:
    """See the backend's documentation; the names are its."""

    def initialize(self, args: dict) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])

    def execute(self, requests: list) -> list:
        rows = [triton.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        batch = self.session.run(["y"], {"x": rows[0] if len(rows) == 1 else np.concatenate(rows)})[0]
        answers, at = [], 0
        for own in rows:
            answers.append(triton.InferenceResponse([triton.Tensor("y", batch[at : at + len(own)])]))
            at += len(own)
        return answers
