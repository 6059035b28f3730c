"""MLServer with the bundled MLP on ONNX Runtime, in an environment of its own: PORT and the model file as arguments."""

import asyncio
import sys
import tempfile

import onnxruntime
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceResponse, MetadataTensor


class Mlp(MLModel):
    """One session; MLServer stacks the requests of a batch and splits the answers."""

    async def load(self):
        self.session = onnxruntime.InferenceSession(sys.argv[2])
        return True

    async def predict(self, payload):
        (y,) = self.session.run(None, {"x": NumpyCodec.decode_input(payload.inputs[0])})
        return InferenceResponse(model_name=self.name, model_version="1", outputs=[NumpyCodec.encode_output("y", y)])


async def main():
    port = int(sys.argv[1])
    settings = Settings(
        debug=False, host="127.0.0.1", http_port=port, grpc_port=port + 1, metrics_endpoint=None, parallel_workers=0,
        environments_dir=tempfile.mkdtemp(),
    )  # fmt: skip
    model = ModelSettings(
        name="all-mlp",
        parameters=ModelParameters(version="1"),
        implementation=Mlp,
        max_batch_size=32,
        max_batch_time=0.001,
        inputs=[MetadataTensor(name="x", datatype="FP32", shape=[-1, 256])],
        outputs=[MetadataTensor(name="y", datatype="FP32", shape=[-1, 256])],
    )
    await MLServer(settings).start([model])


asyncio.run(main())
