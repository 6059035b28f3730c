"""MLServer: a custom runtime with its adaptive batching, in the server's own process."""

from __future__ import annotations

import asyncio
import os

import numpy as np
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.http.peers.codec import MAX_BATCH, Model, port


class Infer(MLModel):
    """MLServer stacks and splits the requests; a request comes in as one tensor of all rows."""

    async def load(self) -> bool:
        self.session = Model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32, copy=False)
        output = NumpyCodec.encode_output("y", self.session.run(rows))
        return InferenceResponse(model_name=self.name, outputs=[output])


async def main() -> None:
    settings = Settings(
        debug=False,
        host="127.0.0.1",
        http_port=port(),
        grpc_port=port() + 1,
        metrics_endpoint=None,
        parallel_workers=0,
        gzip_enabled=False,
        environments_dir=os.environ["BENCH_TMP"],
    )
    model = ModelSettings(
        name="mlp",
        implementation=Infer,
        max_batch_size=int(os.environ.get("BENCH_BATCH", MAX_BATCH)),
        max_batch_time=0.001,
    )
    await MLServer(settings).start([model])


if __name__ == "__main__":
    asyncio.run(main())
