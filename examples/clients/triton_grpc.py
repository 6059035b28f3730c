"""Sentences to embeddings with Triton's gRPC client: `pip install tritonclient[grpc]`.

KEY=pm_... python examples/clients/triton_grpc.py "the points are set" "the train may pass"
"""

import os
import sys

import numpy as np
import tritonclient.grpc as triton

sentences = sys.argv[1:] or ["the points are set"]
array = np.array([sentence.encode() for sentence in sentences], np.object_)
text = triton.InferInput("text", array.shape, "BYTES").set_data_from_numpy(array)

with triton.InferenceServerClient(os.environ.get("ADDRESS", "127.0.0.1:8001")) as client:
    answer = client.infer("minilm", [text], headers={"authorization": f"Bearer {os.environ['KEY']}"})

for sentence, embedding in zip(sentences, answer.as_numpy("embedding"), strict=True):
    print(f"{sentence}: {embedding.size} numbers, the first {embedding[:3].round(4).tolist()}")
