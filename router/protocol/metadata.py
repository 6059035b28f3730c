"""Open Inference Protocol v2: the documents that describe server and models. Values in, plain dicts out."""

from __future__ import annotations

from collections.abc import Sequence

from models.spec import ModelSpec, TensorSpec


def server_metadata(version: str) -> dict[str, object]:
    """Body of GET /v2. `version` is the router's."""
    return {"name": "pointsman", "version": version, "extensions": ["binary_tensor_data"]}


def model_metadata(spec: ModelSpec, versions: Sequence[str]) -> dict[str, object]:
    """Body of GET /v2/models/{name}. Symbolic axes are -1.

    Where a model takes alternative sets of inputs, all are listed, the preferred first, and each input's parameters
    name its set: a request carries every input of exactly one `alternative`.
    """
    accepted = spec.accepted_inputs()
    inputs: list[dict[str, object]] = []
    for index, tensors in enumerate(accepted):
        mark = {"parameters": {"alternative": index}} if len(accepted) > 1 else {}
        inputs.extend(_tensor_metadata(tensor) | mark for tensor in tensors)
    return {
        "name": spec.name,
        "versions": list(versions),
        "platform": spec.platform,
        "inputs": inputs,
        "outputs": [_tensor_metadata(tensor) for tensor in spec.outputs],
    }


def _tensor_metadata(tensor: TensorSpec) -> dict[str, object]:
    shape = [axis if isinstance(axis, int) else -1 for axis in tensor.shape]
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": shape}


def server_live(live: bool) -> dict[str, object]:
    """Body of GET /v2/health/live."""
    return {"live": live}


def server_ready(ready: bool) -> dict[str, object]:
    """Body of GET /v2/health/ready."""
    return {"ready": ready}


def model_ready(name: str, ready: bool) -> dict[str, object]:
    """Body of GET /v2/models/{name}/ready."""
    return {"name": name, "ready": ready}
