"""Writes helm/values.schema.json: `python scripts/helm_schema.py`. The chart's keys stand here; those of the fleet file
come from its own schema, less what the chart sets itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from router.config.schema import Fleet
from router.config.schema_backend import SCHEMAS, OnnxBackend

FILE = Path(__file__).parents[1] / "helm" / "values.schema.json"
Schema = dict[str, Any]

SET_BY_THE_CHART = {
    "Fleet": ("model_store", "tenants_file"),
    "Stream": ("key_file",),
    "Server": ("metrics",),
    "Http": ("host", "port", "tls"),
    "Grpc": ("host", "port"),
    "Admin": ("host", "port"),
}
TEXT: Schema = {"type": "string", "minLength": 1}
MAYBE: Schema = {"type": "string"}
SWITCH: Schema = {"type": "boolean"}
OPEN: Schema = {"type": "object"}
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
OBJECTS: Schema = {"type": "array", "items": OPEN}
COUNT: Schema = {"type": "integer", "minimum": 1}


def closed(required: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    """An object with these keys and no other."""
    schema: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return schema | ({"required": list(required)} if required else {})


def values_schema() -> Schema:
    """The schema of the chart's values."""
    fleet, definitions = _fleet()
    pod = {
        "image": TEXT, "resources": OPEN, "nodeSelector": TEXTS, "tolerations": OBJECTS, "affinity": OPEN,
        "runtimeClassName": TEXT, "env": OBJECTS, "volumes": OBJECTS, "volumeMounts": OBJECTS, "annotations": TEXTS,
    }  # fmt: skip
    device = closed(("resource", "ray"), resource=TEXT, ray=TEXT)
    group = closed(("image",), **pod, device=device, replicasPerPod=COUNT, pods={"type": "integer", "minimum": 0})
    properties = {
        "global": OPEN,
        "fleet": fleet,
        "classes": {"type": "object", "minProperties": 1, "additionalProperties": group},
        "router": closed(("image",), **pod, settleSeconds={"type": "integer", "minimum": 0}),
        "head": closed(("image",), **pod),
        "rayVersion": TEXT,
        "imagePullSecrets": OBJECTS,
        "modelStore": closed(("path",), path={"type": "string", "pattern": "^/"}, volume=OPEN),
        "secrets": closed(("streamKey",), streamKey=TEXT, tenants=MAYBE, tls=MAYBE),
        "service": closed(type={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}, annotations=TEXTS),
        "networkPolicy": closed(enabled=SWITCH, clients=OBJECTS, monitoring=OBJECTS, operator=OBJECTS),
        "podDisruptionBudget": closed(enabled=SWITCH),
        "upgradeStrategy": {"enum": ["NewCluster", "None"]},
        "terminationGracePeriodSeconds": COUNT,
        "podSecurityContext": OPEN,
        "securityContext": OPEN,
        "podMonitor": closed(enabled=SWITCH, interval=TEXT, labels=TEXTS),
        "dashboard": closed(enabled=SWITCH, labels=TEXTS),
    }
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the Pointsman chart"}
    required = ("fleet", "classes", "router", "head", "secrets")
    return head | closed(required, **properties) | {"definitions": definitions}


def _fleet() -> tuple[Schema, Schema]:
    """Schema of the fleet file as a value of the chart, and the definitions that it refers to."""
    fleet = Fleet.model_json_schema(ref_template="#/definitions/{model}")
    definitions = fleet.pop("$defs")
    for name, keys in SET_BY_THE_CHART.items():
        properties = (fleet if name == "Fleet" else definitions[name])["properties"]
        for key in keys:
            del properties[key]
    for unused in ("Metrics", "Tls"):
        del definitions[unused]
    for kind, keys in SCHEMAS.items():
        definitions[keys.__name__]["properties"]["type"] = {"const": kind}
        if kind != OnnxBackend().type:
            definitions[keys.__name__]["required"] = ["type", *definitions[keys.__name__].get("required", [])]
    definitions["OtherBackend"] |= {"required": ["type"]}
    definitions["OtherBackend"]["properties"]["type"] = {"type": "string", "not": {"enum": list(SCHEMAS)}}
    fleet["properties"]["pools"]["minItems"] = 1
    fleet["required"] = ["pools", "stream"]
    return _plain(fleet), _plain(definitions)


def _plain(schema: Any) -> Any:
    """Without titles that only repeat names, and without defaults, which the fleet file's reader fills in."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _plain(item) for name, item in value.items()} if key == "properties" else _plain(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str)) and key != "default"
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(values_schema(), indent=1) + "\n")
