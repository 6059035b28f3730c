"""The values of the OpenAPI document: schemas of bodies, headers and parameters. Data only; see openapi.py."""

from __future__ import annotations

from typing import Any

from models.tensors import DTYPES
from router.protocol.problem import PROBLEMS

Json = dict[str, Any]


def _object(required: Json, optional: Json | None = None, closed: bool = True) -> Json:
    schema: Json = {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}
    return schema | {"additionalProperties": False} if closed else schema


def _array(items: Json, **bounds: int) -> Json:
    return {"type": "array", "items": items, **bounds}


_TEXT, _FLAG = {"type": "string"}, {"type": "boolean"}
_NUMBER, _COUNT = {"type": "number"}, {"type": "integer", "minimum": 0}
_SECONDS = {"type": ["number", "null"], "description": "seconds"}
_DATATYPE = {"enum": sorted(DTYPES)}
_SHAPE = _array({"type": "integer", "minimum": 1}, maxItems=32)
_NAME = {"type": "string", "minLength": 1, "maxLength": 256}
_OPEN = {"type": ["object", "null"]}
BINARY = {"schema": {"type": "string", "format": "binary"}}
_DURATION = {"type": "string", "pattern": r"^[0-9]{1,12}(\.[0-9]{1,9})?(us|ms|s|m|h)$"}
"""And more than nothing, and at most an hour, which no pattern says well."""

_DATA = _array({"type": ["number", "string", "boolean", "array"]})
"""Flat or nested, of one type as the datatype says."""
_IN = _object({"name": _NAME, "shape": _SHAPE, "datatype": _DATATYPE}, {"data": _DATA, "parameters": _OPEN}, False)
_ASKED = _object({"name": _NAME}, {"parameters": _OPEN}, closed=False)
_OUT = _object(
    {"name": _TEXT, "datatype": _DATATYPE, "shape": _SHAPE}, {"data": _DATA, "parameters": {"type": "object"}}
)
_TENSOR = _object(
    {"name": _TEXT, "datatype": _DATATYPE, "shape": _array({"type": "integer"})},
    {"parameters": _object({"alternative": _COUNT})},
)
_CONFIGURED = _object(
    {"name": _TEXT, "data_type": {"enum": sorted(f"TYPE_{'STRING' if d == 'BYTES' else d}" for d in DTYPES)},
     "dims": _array({"type": "integer"})},
    {"optional": _FLAG},
)  # fmt: skip
_DURATION_STAT = _object({"count": _COUNT, "ns": _COUNT})
_STAT_NAMES = (
    "success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss",
)  # fmt: skip
_STATISTICS = _object(
    {"name": _TEXT, "version": _TEXT, "last_inference": _COUNT, "inference_count": _COUNT, "execution_count": _COUNT,
     "inference_stats": _object(dict.fromkeys(_STAT_NAMES, _DURATION_STAT)), "batch_stats": _array({"type": "object"})},
)  # fmt: skip
_EMULATION = {
    "anyOf": [_object({"basis": {"enum": ["measured", "assumed", "unknown"]}, "time_scale": _NUMBER}), {"type": "null"}]
}
_POOL = _object(
    {"pool": _TEXT, "accelerator": _TEXT, "emulated": _FLAG, "emulation": _EMULATION, "variant": _TEXT,
     "status": {"enum": ["chosen", "candidate", "rejected"]}, "reason": {"type": ["string", "null"]},
     "words": _TEXT, "rule": _TEXT, "predicted_s": _SECONDS},
    {"score": _NUMBER, "parts": {"type": "object", "additionalProperties": _NUMBER}, "prefer": _NUMBER,
     "cost": _NUMBER},
)  # fmt: skip
_NAME_OR_NONE = {"type": ["string", "null"]}

SCHEMAS: Json = {
    "Problem": _object({"error": _TEXT, "reason": {"enum": sorted(PROBLEMS)}, "request_id": _TEXT}),
    "Live": _object({"live": _FLAG}),
    "Ready": _object({"ready": _FLAG}),
    "ModelReady": _object({"name": _TEXT, "ready": _FLAG}),
    "ServerMetadata": _object({"name": _TEXT, "version": _TEXT, "extensions": _array(_TEXT)}),
    "ModelMetadata": _object(
        {"name": _TEXT, "versions": _array(_TEXT), "platform": _TEXT, "inputs": _array(_TENSOR),
         "outputs": _array(_TENSOR)},
    ),
    "ModelConfig": _object(
        {"name": _TEXT, "platform": _TEXT, "backend": _TEXT, "version_policy": {"type": "object"},
         "max_batch_size": {"type": "integer", "minimum": 1}, "input": _array(_CONFIGURED),
         "output": _array(_CONFIGURED), "dynamic_batching": {"type": "object"},
         "parameters": _object({"variants": _object({"string_value": _TEXT})})},
    ),
    "Statistics": _object({"model_stats": _array(_STATISTICS)}),
    "IndexQuery": _object({}, {"ready": _FLAG}, closed=False),
    "IndexEntry": _object(
        {"name": _TEXT, "version": _TEXT, "state": {"enum": ["READY", "UNAVAILABLE"]}, "reason": _TEXT}
    ),
    "ExplainQuery": _object(
        {"model": _TEXT}, {"version": _TEXT, "rows": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}}
    ),
    "Explanation": _object(
        {"request_id": _TEXT, "tenant": _TEXT, "model": _TEXT, "version": _TEXT, "rows": _COUNT, "target_s": _NUMBER,
         "left_s": _NUMBER, "policy_version": _TEXT, "profile": _TEXT, "chosen": _NAME_OR_NONE,
         "weights": {"type": "object", "additionalProperties": _NUMBER}, "predicted_s": _SECONDS,
         "runner_up": _NAME_OR_NONE, "pools": _array(_POOL)},
    ),
    "InferRequest": _object(
        {"inputs": _array(_IN, minItems=1)},
        {"id": _NAME_OR_NONE, "parameters": _OPEN,
         "outputs": {"type": ["array", "null"], "items": _ASKED}},
        closed=False,
    ),
    "InferResponse": _object(
        {"model_name": _TEXT, "model_version": _TEXT, "outputs": _array(_OUT)}, {"id": _TEXT, "parameters": _OPEN}
    ),
}  # fmt: skip


def _header(words: str, schema: Json = _TEXT, required: bool = False) -> Json:
    return {"description": words, "schema": schema, "required": required}


HEADERS: Json = {
    "x-request-id": _header("The client's, or one that the router made; the log has it", required=True),
    "x-pointsman-pool": _header("The pool that answered, where the operator lets it be shown"),
    "x-pointsman-accelerator": _header("Its accelerator class, where the operator lets it be shown"),
    "x-pointsman-emulated": _header("true where the hardware is not there and its work is emulated"),
    "server-timing": _header("Milliseconds of each stage: parse, decide, queue, batch, run, total"),
    "inference-header-content-length": _header("Bytes of JSON before the binary tensors of the answer", _COUNT),
    "retry-after": _header(
        "Seconds after which the same request is predicted to fit", {"type": "integer", "minimum": 1}
    ),
    "www-authenticate": _header("Bearer"),
}
OF_ERRORS = ("retry-after", "www-authenticate")


def _of_header(name: str, words: str, schema: Json) -> Json:
    return {"name": name, "in": "header", "description": words, "schema": schema}


_NAMES: Json = {"type": "string", "minLength": 1}

PARAMETERS: Json = {
    "model": {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
    "version": {"name": "version", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
    "x-request-id": _of_header(
        "x-request-id", "Comes back in the answer", {"type": "string", "pattern": "^[A-Za-z0-9._:/+=-]{1,128}$"}
    ),
    "x-pointsman-timeout": _of_header(
        "x-pointsman-timeout",
        "When an answer stops being useful, such as 1s or 250ms; more than 0, at most 1h",
        _DURATION,
    ),
    "x-pointsman-latency-target": _of_header(
        "x-pointsman-latency-target", "How soon it is wanted, in the same form", _DURATION
    ),
    "x-pointsman-priority": _of_header(
        "x-pointsman-priority", "Never above the tenant's own", {"enum": ["interactive", "standard", "batch"]}
    ),
    "x-pointsman-only-accelerator": _of_header(
        "x-pointsman-only-accelerator", "Accelerator classes that the request keeps itself to, with commas", _NAMES
    ),
    "x-pointsman-only-region": _of_header(
        "x-pointsman-only-region", "Regions that the request keeps itself to, with commas", _NAMES
    ),
    "x-pointsman-only-emulated": _of_header(
        "x-pointsman-only-emulated", "false: real pools only; true: emulated ones only", {"enum": ["true", "false"]}
    ),
    "x-pointsman-hops": _of_header("x-pointsman-hops", "Routers that the request has passed", _COUNT),
    "inference-header-content-length": _of_header(
        "inference-header-content-length", "Bytes of JSON before the binary tensors", _COUNT
    ),
}
