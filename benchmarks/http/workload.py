"""The one workload of the bench: the model, the request, the right answer. Never starts or measures a server.

One request is one row of 256 FP32 values, as Open Inference Protocol JSON in both directions.
"""

from __future__ import annotations

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

ROUTE = "/v2/models/mlp/infer"
WIDTH = 256
TOLERANCE = 1e-5
CHECKED_ROWS = 64
"""Different rows sent at once before measuring, each compared with the session in-process."""


def open_session(model: Path) -> ort.InferenceSession:
    """A CPU session with one thread, as every system of the bench runs it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


class WrongAnswer(Exception):
    """A system's answer is not the session's. The text says how."""


@dataclass(frozen=True)
class Workload:
    """A model file with fixed rows (float32 [CHECKED_ROWS, 256]) and the session's own answers to them."""

    model: Path
    input_name: str
    rows: np.ndarray
    answers: np.ndarray

    def body(self, row: int = 0) -> bytes:
        """The request for one row, UTF-8 JSON."""
        data = [round(float(value), 6) for value in self.rows[row]]
        tensor = {"name": self.input_name, "shape": [1, WIDTH], "datatype": "FP32", "data": data}
        return json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()


def load_workload(model: Path) -> Workload:
    """Open the model in-process and record what it answers, each row run alone."""
    session = open_session(model)
    name = session.get_inputs()[0].name
    rows = np.random.default_rng(7).standard_normal((CHECKED_ROWS, WIDTH)).round(6).astype(np.float32)
    answers = np.concatenate([session.run(None, {name: row[None]})[0] for row in rows])
    return Workload(model, name, rows, answers)


def session_times_s(work: Workload, seconds: float) -> np.ndarray:
    """Times in seconds of session.run at one row in a loop: the floor under every p50. No parsing, no encoding."""
    session = open_session(work.model)
    feed = {work.input_name: work.rows[:1]}
    times: list[float] = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        session.run(None, feed)
        times.append(time.perf_counter() - start)
    return np.array(times[len(times) // 10 :])


def fetch(port: int, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """One request on a loopback connection of its own. Returns status and body; raises OSError or HTTPException."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10.0)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def ask(port: int, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """Send one inference request, as fetch does."""
    return fetch(port, "POST", ROUTE, body, {"Content-Type": "application/json", **headers})


def largest_error(work: Workload, port: int, headers: dict[str, str]) -> float:
    """Send CHECKED_ROWS different rows, 16 at a time; the largest absolute difference from the session's answers.

    Raises WrongAnswer where one is not 200 with as many values, or is off by more than TOLERANCE.
    """

    def one(row: int) -> float:
        status, raw = ask(port, work.body(row), headers)
        if status != 200:
            raise WrongAnswer(f"row {row}: HTTP {status}: {raw[:300]!r}")
        data = np.array(json.loads(raw)["outputs"][0]["data"], np.float32).ravel()
        if data.shape != work.answers[row].shape:
            raise WrongAnswer(f"row {row}: {data.shape} values, expected {work.answers[row].shape}")
        return float(np.abs(data - work.answers[row]).max())

    with ThreadPoolExecutor(16) as pool:
        error = max(pool.map(one, range(CHECKED_ROWS)))
    if not error <= TOLERANCE:
        raise WrongAnswer(f"off by {error:.2e}, allowed {TOLERANCE:.0e}")
    return error
