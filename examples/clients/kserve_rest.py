"""Sentences to embeddings with KServe's REST client: `pip install kserve`.

KEY=pm_... python examples/clients/kserve_rest.py "the points are set" "the train may pass"
"""

import asyncio
import os
import sys

from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

sentences = sys.argv[1:] or ["the points are set"]
URL = f"http://{os.environ.get('ADDRESS', '127.0.0.1:8000')}"


async def main() -> None:
    """Ask once, print what came."""
    text = InferInput("text", [len(sentences)], "BYTES", sentences)
    headers = {"Authorization": f"Bearer {os.environ['KEY']}"}
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        answer = await client.infer(URL, InferRequest("minilm", [text]), model_name="minilm", headers=headers)
    for sentence, embedding in zip(sentences, answer.get_output_by_name("embedding").as_numpy(), strict=True):
        print(f"{sentence}: {embedding.size} numbers, the first {embedding[:3].round(4).tolist()}")


asyncio.run(main())
