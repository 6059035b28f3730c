"""Requests as tritonclient writes them, and its reading of the answers. Runs in .venv-clients, needs nothing of ours.

`bodies.py write FOLDER` puts json.body, binary.body (with binary.headers) and grpc.body into FOLDER from its rows.npy.
`bodies.py check FOLDER FORM ADDRESS KEY` sends every row and prints the largest difference from answers.npy.
"""

from __future__ import annotations

import json
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

MODEL = "mlp"
AT_ONCE = 16


def inputs(api: Any, row: np.ndarray, **options: Any) -> list[Any]:
    """The one input of the model."""
    given = api.InferInput("x", list(row.shape), "FP32")
    given.set_data_from_numpy(row, **options)
    return [given]


def write(folder: Path) -> None:
    """The first row in every form."""
    import tritonclient.grpc as grpc
    import tritonclient.grpc._utils as grpc_utils
    import tritonclient.http as http

    row = np.load(folder / "rows.npy")[:1]
    build = http.InferenceServerClient.generate_request_body
    body, length = build(inputs(http, row))
    (folder / "binary.body").write_bytes(body)
    (folder / "binary.headers").write_text(
        json.dumps({"Content-Type": "application/octet-stream", "inference-header-content-length": str(length)})
    )
    text = [http.InferRequestedOutput("y", binary_data=False)]
    (folder / "json.body").write_bytes(build(inputs(http, row, binary_data=False), outputs=text)[0])
    message = grpc_utils._get_inference_request(
        MODEL, inputs(grpc, row), "", "", None, 0, False, False, 0, None, None
    ).SerializeToString()
    (folder / "grpc.body").write_bytes(struct.pack(">BI", 0, len(message)) + message)


def check(folder: Path, form: str, address: str, key: str) -> float:
    """Largest absolute difference over all rows, AT_ONCE of them at a time. Raises the client's own errors."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    if form == "grpc":
        import tritonclient.grpc as api

        given = {}
    else:
        import tritonclient.http as api

        given = {"binary_data": form == "binary"}
        # KServe takes a body of no declared type for binary
        headers |= {"Content-Type": "application/json"} if form == "json" else {}
    rows, answers = np.load(folder / "rows.npy"), np.load(folder / "answers.npy")

    def one(index: int) -> float:
        asked = [api.InferRequestedOutput("y", **given)]
        with api.InferenceServerClient(address) as client:
            result = client.infer(
                MODEL, inputs(api, rows[index : index + 1], **given), outputs=asked, headers=dict(headers)
            )
            return float(np.abs(result.as_numpy("y") - answers[index]).max())

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return max(pool.map(one, range(len(rows))))


if __name__ == "__main__":
    what, folder, *rest = sys.argv[1:]
    if what == "write":
        write(Path(folder))
    else:
        print(check(Path(folder), *rest))
