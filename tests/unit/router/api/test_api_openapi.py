"""The OpenAPI document is true: of the routes that there are, of itself, and of real answers."""

import itertools
import json

import pytest
from api_rig import bearer, running
from jsonschema import Draft202012Validator
from openapi_check import DOCUMENT, check, resolved, validator

from router.api.asgi import data_app
from router.protocol.problem import PROBLEMS

pytestmark = pytest.mark.asyncio

NOT_SENT = {"client_gone", "method_not_allowed"}
"""The one has nobody left to read it; the other belongs to no operation."""
BEFORE_ROUTES = ("400", "408", "413", "414", "415", "429", "431", "500")
"""Of how a request is sent, or of faults of ours: not every one can be had here. 503 can, on paths about health."""
INFER = ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")
"""Served without the application, see router/api/http.py."""


def parts(value):
    """Every mapping within."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from parts(inner)


async def test_it_has_every_route_and_no_other(tmp_path):
    """With its methods."""
    async with running(tmp_path) as rig:
        routes = {(r.path, m.lower()) for r in data_app(rig.plane).routes for m in r.methods - {"HEAD"}}
    told = {(path, method) for path, item in DOCUMENT["paths"].items() for method in item}
    assert told - {(path, "post") for path in INFER} == routes - {(path, "post") for path in INFER}
    assert {path for path, _ in told} >= set(INFER)


async def test_every_reference_leads_somewhere_and_every_schema_is_one():
    """And each parameter of a path is declared."""
    for part in parts(DOCUMENT):
        if "$ref" in part:
            assert resolved(part)
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for path, item in DOCUMENT["paths"].items():
        for operation in item.values():
            given = [resolved(parameter) for parameter in operation.get("parameters", [])]
            in_path = {parameter["name"] for parameter in given if parameter["in"] == "path"}
            assert in_path == {name.rstrip("}") for name in path.split("{")[1:] for name in [name.split("}")[0]]}


async def test_every_reason_is_told_somewhere_under_its_status():
    """A new reason needs a place in the document."""
    told = {
        (reason, status)
        for item in DOCUMENT["paths"].values()
        for operation in item.values()
        for status, response in operation["responses"].items()
        for part in parts(response["content"])
        for reason in part.get("properties", {}).get("reason", {}).get("enum", [])
    }
    assert told == {(reason, str(p.status)) for reason, p in PROBLEMS.items() if reason not in NOT_SENT}


GETS = [path for path, item in DOCUMENT["paths"].items() if "get" in item]


@pytest.mark.parametrize("path", GETS)
async def test_what_a_path_answers_is_what_the_document_says(tmp_path, path):
    """For a tenant and a stranger, of a hidden model, an unknown version, with bad headers, pools down and up."""
    met = set()
    async with running(tmp_path) as rig:
        for state in ("down", "up", "leaving"):
            rig.plane.leaving = state == "leaving"
            if state == "up":
                rig.up("open", "words", "1")
            for model, version in itertools.product(("shown", "words", "hidden", "a%2Fb"), ("1", "9")):
                for headers in (bearer("part", x_request_id="mine"), {}, bearer("part", content_encoding="br"),
                                bearer("part", x_request_id="a b")):  # fmt: skip
                    answer = await rig.data.get(path.format(model=model, version=version), headers=headers)
                    met.add(check(answer))
        same = path.format(model="shown", version="1")
        answers = [await rig.data.request(method, same, headers=bearer("all")) for method in ("GET", "HEAD")]
        assert len({answer.status_code for answer in answers}) == 1
    documented = {s for s in DOCUMENT["paths"][path]["get"]["responses"] if s not in BEFORE_ROUTES}
    if not path.endswith(("/ready", "/healthz")):
        documented.discard("503")
    assert {name.split()[-1] for name in met} >= documented


@pytest.mark.parametrize("path", ["/v1/explain", "/v2/repository/index"])
async def test_what_a_question_is_answered_is_what_the_document_says(tmp_path, path):
    """Good ones that the schema allows, and bad ones that it does not."""
    async with running(tmp_path) as rig:
        rig.up("open")
        (body,) = DOCUMENT["paths"][path]["post"]["requestBody"]["content"].values()
        allows = validator(body["schema"]).is_valid
        for asked in ({"model": "shown"}, {"model": "shown", "rows": 0}, {"model": "hidden", "version": "1"}, [], {},
                      {"model": "shown", "version": "2", "rows": 2}, {"ready": 1},
                      {"ready": True, "x": 2}):  # fmt: skip
            answer = await rig.data.post(path, json=asked, headers=bearer("part"))
            check(answer)
            assert allows(asked) == (answer.status_code != 400), (asked, answer.text)
        for content, headers in ((b"{", bearer("part")), (b" " * 70_000, bearer("part")), (b"", {}),
                                 (b"{}", bearer("part", content_encoding="br"))):  # fmt: skip
            check(await rig.data.post(path, content=content, headers=headers))


async def test_the_document_is_served_as_it_is(tmp_path):
    """To anybody, with the router's version."""
    async with running(tmp_path) as rig:
        served = (await rig.data.get("/openapi.json")).json()
    assert served == json.loads(json.dumps(DOCUMENT))
    assert served["openapi"] == "3.1.0"
