"""LitServe: FastAPI in front, a worker process with dynamic batching behind ZeroMQ (its fast queue)."""

from __future__ import annotations

import litserve
import numpy as np
from starlette.responses import Response

from benchmarks.http.peers.codec import MAX_BATCH, Model, port
from benchmarks.http.workload import ROUTE


class Infer(litserve.LitAPI):
    """The front parses JSON itself and hands over a dict; everything else happens in the worker."""

    def setup(self, device: str) -> None:
        self.model = Model()

    def decode_request(self, request: dict) -> np.ndarray:
        tensor = request["inputs"][0]
        return np.array(tensor["data"], np.float32).reshape(tensor["shape"])

    def batch(self, inputs: list) -> list:
        return inputs

    def predict(self, requests: list) -> list:
        return self.model.run_many(requests)

    def unbatch(self, output: list) -> list:
        return output

    def encode_response(self, output: np.ndarray) -> Response:
        return Response(self.model.encode(output), media_type="application/json")


# LitServe reads the annotations of these two as FastAPI types, so they must be types, not text.
Infer.decode_request.__annotations__["request"] = dict
Infer.encode_response.__annotations__["return"] = Response


if __name__ == "__main__":
    api = Infer(max_batch_size=MAX_BATCH, batch_timeout=0, api_path=ROUTE)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=port(), num_api_servers=1, generate_client_file=False, log_level="warning")
