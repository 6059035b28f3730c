"""Open Inference Protocol v2: the documents that describe server and models. Values in, plain dicts out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from models.spec import ModelSpec, TensorSpec

EXTENSIONS = ("binary_tensor_data", "model_configuration", "statistics", "model_repository")
"""Of the protocol; of the last one, the index."""
STAGES = {"queue": "queue", "batch": "compute_input", "run": "compute_infer"}
"""Stage of a request to its name in the statistics extension. What comes after the run is not measured apart."""
_UNTIMED = ("compute_output", "cache_hit", "cache_miss")


class ModelTotals(msgspec.Struct):
    """What a model has done since its counts began. Times are seconds, summed over requests."""

    answered: int = 0
    answered_s: float = 0.0
    failed: int = 0
    failed_s: float = 0.0
    rows: float = 0.0
    """Of the requests answered."""
    executions: float = 0.0
    """Batches run: each answered request adds its share of the batch it ran in."""
    stages_s: dict[str, float] = msgspec.field(default_factory=dict)
    """Of the requests answered, by stage; see STAGES."""
    last_s: float = 0.0
    """Unix time of the last answer, 0 for never."""


def server_metadata(version: str) -> dict[str, object]:
    """Body of GET /v2. `version` is the router's."""
    return {
        "name": "pointsman",
        "version": version,
        "extensions": list(EXTENSIONS),
    }


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


def model_config(spec: ModelSpec) -> dict[str, object]:
    """Body of GET /v2/models/{name}/config: the model configuration extension, as far as it applies here.

    `dims` leave out the batch axis, as `max_batch_size` says. Of alternative inputs each is optional. `parameters` name
    the forms that the model comes in; which one a pool serves, `explain` tells.
    """
    accepted = spec.accepted_inputs()
    optional = {"optional": True} if len(accepted) > 1 else {}
    return {
        "name": spec.name,
        "platform": spec.platform,
        "backend": spec.platform.partition("_")[0],
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": spec.batch.max_rows,
        "input": [_tensor_config(tensor) | optional for tensors in accepted for tensor in tensors],
        "output": [_tensor_config(tensor) for tensor in spec.outputs],
        "dynamic_batching": {},
        "parameters": {"variants": {"string_value": ", ".join(variant.name for variant in spec.variants)}},
    }


def _tensor_config(tensor: TensorSpec) -> dict[str, object]:
    kind = "STRING" if tensor.datatype == "BYTES" else tensor.datatype
    dims = [axis if isinstance(axis, int) else -1 for axis in tensor.shape[1:]]
    return {"name": tensor.name, "data_type": f"TYPE_{kind}", "dims": dims}


def repository_entry(name: str, version: str, ready: bool) -> dict[str, object]:
    """One entry of the body of POST /v2/repository/index."""
    reason = "" if ready else "no pool that may serve it has a ready replica"
    return {"name": name, "version": version, "state": "READY" if ready else "UNAVAILABLE", "reason": reason}


def model_statistics(models: Iterable[tuple[str, str, ModelTotals]]) -> dict[str, object]:
    """Body of GET /v2/models/stats, by (name, version, totals): the statistics extension, times in nanoseconds.

    A request's own share of waiting is in `queue`; what its batch took is counted for each request in it, as Triton
    does. `batch_stats` is empty: sizes are in the metrics.
    """
    return {"model_stats": [_statistics(name, version, totals) for name, version, totals in models]}


def _statistics(name: str, version: str, totals: ModelTotals) -> dict[str, object]:
    stats = {
        "success": _duration(totals.answered, totals.answered_s),
        "fail": _duration(totals.failed, totals.failed_s),
    }
    stats |= {shown: _duration(totals.answered, totals.stages_s.get(stage, 0.0)) for stage, shown in STAGES.items()}
    stats |= {shown: _duration(0, 0.0) for shown in _UNTIMED}
    return {
        "name": name,
        "version": version,
        "last_inference": round(totals.last_s * 1e3),
        "inference_count": round(totals.rows),
        "execution_count": round(totals.executions),
        "inference_stats": stats,
        "batch_stats": [],
    }


def _duration(count: int, seconds: float) -> Mapping[str, int]:
    return {"count": count, "ns": round(seconds * 1e9)}
