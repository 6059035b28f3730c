"""KServe's Python ModelServer with the model run inline: one process, REST and gRPC."""

from __future__ import annotations

import os

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer

from benchmarks.http.peers.codec import Model as Session


class Mlp(Model):
    """One request, one run: batching is not the Python server's but a sidecar's."""

    def __init__(self) -> None:
        super().__init__("mlp")
        self.session = Session()
        self.ready = True

    async def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:
        rows = payload.inputs[0].as_numpy().astype(np.float32, copy=False)
        output = InferOutput("y", list(rows.shape), "FP32")
        output.set_data_from_numpy(self.session.run(rows), binary_data=payload.use_binary_outputs)
        return InferResponse(payload.id or "", "mlp", [output])


if __name__ == "__main__":
    port = int(os.environ["BENCH_PORT"])
    ModelServer(http_port=port, grpc_port=port + 1, workers=1, enable_docs_url=False, access_log_format=None).start(
        [Mlp()]
    )
