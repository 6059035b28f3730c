"""An ONNX model in MLServer: whatever tensors come in, the outputs that its settings name go out."""

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import get_model_uri


class OnnxModel(MLModel):
    """One session, one thread: MLServer stacks requests and splits answers."""

    async def load(self) -> bool:
        """Called once, before the model is ready."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(await get_model_uri(self.settings), options)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One batch."""
        kinds = {entry.name: entry.type for entry in self.session.get_inputs()}
        feed = {tensor.name: NumpyCodec.decode_input(tensor) for tensor in payload.inputs if tensor.name in kinds}
        names = [entry.name for entry in self.session.get_outputs()]
        values = self.session.run(names, feed)
        outputs = [NumpyCodec.encode_output(name, value) for name, value in zip(names, values, strict=True)]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)
