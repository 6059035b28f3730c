"""Bad input in good HTTP: each with its status and a message that says what to change, and the server still well."""

import json

import pytest
from example import MAX_BODY_BYTES
from payloads import MINILM_INFER, MLP_INFER, mlp

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("nothing_lost")]

IDS = {"name": "input_ids", "shape": [1, 2], "datatype": "INT64", "data": [101, 102]}
MASK = {"name": "attention_mask", "shape": [1, 2], "datatype": "INT64", "data": [1, 1]}


def x(**changed):
    """A good request for the MLP but for what is changed in its tensor."""
    return {"inputs": [{"name": "x", "shape": [1, 256], "datatype": "FP32", "data": [0.5] * 256} | changed]}


def text(value):
    """A request for one sentence."""
    return {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [value]}]}


def in_place_of_first(number: bytes) -> bytes:
    """A good request for the MLP whose first number is something else."""
    return json.dumps(x()).encode().replace(b"0.5", number, 1)


BODIES = {
    "cut short": (MLP_INFER, b'{"inputs": [', 400, "truncated"),
    "nothing": (MLP_INFER, b"", 400, "truncated"),
    "no object": (MLP_INFER, b"[]", 400, "`object`"),
    "no inputs": (MLP_INFER, {}, 400, "`inputs`"),
    "empty inputs": (MLP_INFER, {"inputs": []}, 400, "$.inputs"),
    "invalid UTF-8": (MLP_INFER, b'{"inputs": [{"name": "\xff"}]}', 400, "utf-8"),
    "a NUL byte": (MLP_INFER, b'{"inputs": [{"name": "x\x00"}]}', 400, "invalid character"),
    "half a surrogate": (MINILM_INFER, json.dumps(text("\ud800")).encode(), 400, "the body is not"),
    "nested too deep": (MLP_INFER, in_place_of_first(b"[" * 50_000), 400, "recursion"),
    "NaN": (MLP_INFER, in_place_of_first(b"NaN"), 400, "invalid character"),
    "over FP32": (MLP_INFER, in_place_of_first(b"1e39"), 400, "out of range"),
    "over FP64": (MLP_INFER, in_place_of_first(b"1e999"), 400, "out of range"),
    "null for a number": (MLP_INFER, in_place_of_first(b"null"), 400, "got `null`"),
    "text for a number": (MLP_INFER, in_place_of_first(b'"0.5"'), 400, "got `str`"),
    "bool for a number": (MLP_INFER, in_place_of_first(b"true"), 400, "got `bool`"),
    "number for text": (MINILM_INFER, text(3), 400, "got `int`"),
    "wrong datatype": (MLP_INFER, x(datatype="FP64"), 400, "FP32 expected, got FP64"),
    "unknown datatype": (MLP_INFER, x(datatype="FLOAT"), 400, "unknown datatype 'FLOAT'"),
    "binary datatype": (MLP_INFER, x(datatype="FP16"), 400, "no JSON form"),
    "wrong name": (MLP_INFER, x(name="y"), 400, "input x is missing, input 'y' is unknown"),
    "missing tensor": (MINILM_INFER, {"inputs": [IDS]}, 400, "input attention_mask is missing"),
    "tensor twice": (MLP_INFER, {"inputs": x()["inputs"] * 2}, 400, "given twice"),
    "text beside tokens": (
        MINILM_INFER, {"inputs": [*text("a")["inputs"], IDS, MASK]}, 400, "'text' does not go with the others",
    ),
    "no data": (MLP_INFER, {"inputs": [{"name": "x", "shape": [1, 256], "datatype": "FP32"}]}, 400, "data is missing"),
    "wrong shape": (MLP_INFER, x(shape=[1, 255], data=[0.5] * 255), 422, "256 expected, got 255"),
    "wrong rank": (MLP_INFER, x(shape=[256]), 422, "2 axes expected, got 1"),
    "too few data": (MLP_INFER, x(data=[0.5] * 255), 422, "does not take 255 elements"),
    "ragged lists": (MLP_INFER, x(shape=[2, 2], data=[[1.0, 2.0], [3.0]]), 422, "axis 1"),
    "negative shape": (MLP_INFER, x(shape=[-1, 256]), 400, "`int` >= 1"),
    "zero shape": (MLP_INFER, x(shape=[0, 256], data=[]), 400, "`int` >= 1"),
    "fractional shape": (MLP_INFER, x(shape=[1.5, 256]), 400, "got `float`"),
    "huge shape": (MLP_INFER, x(shape=[10**12, 256]), 422, "does not take 256 elements"),
    "shape beyond 64 bits": (MLP_INFER, x(shape=[2**70, 256]), 422, "does not take 256 elements"),
    "2000 axes": (MLP_INFER, x(shape=[1] * 2000 + [256]), 400, "length <= 32"),
    "mask of another shape": (
        MINILM_INFER, {"inputs": [IDS, MASK | {"shape": [1, 1], "data": [1]}]}, 422, "axis sequence",
    ),
    "token beyond the vocabulary": (MINILM_INFER, {"inputs": [IDS | {"data": [101, 30522]}, MASK]}, 400, "0 to 30521"),
    "too many rows": (MLP_INFER, mlp(33), 413, "33 rows"),
    "text too long": (MINILM_INFER, text("word " * 50_000), 413, "bytes, at most"),
    "unknown output": (MLP_INFER, x() | {"outputs": [{"name": "z"}]}, 422, "mlp gives y"),
    "output twice": (MLP_INFER, x() | {"outputs": [{"name": "y"}] * 2}, 400, "asked for twice"),
    "shared memory": (MLP_INFER, x(parameters={"shared_memory_region": "a"}), 400, "not supported"),
    "unknown model": ("/v2/models/mpl/infer", x(), 404, "unknown model: 'mpl'"),
    "unknown version": ("/v2/models/mlp/versions/9/infer", x(), 404, "version '9'"),
    "a path for a model": ("/v2/models/..%2F..%2Fetc/infer", x(), 404, "unknown model"),
    "NUL in the model": ("/v2/models/m%00/infer", x(), 404, r"'m\x00'"),
    "unknown path": ("/v2/nothing", x(), 404, "Not Found"),
}  # fmt: skip

HEADERS = {
    "no unit": ({"x-pointsman-timeout": "50"}, 400, "a number and a unit"),
    "no duration": ({"x-pointsman-timeout": "fast"}, 400, "a number and a unit"),
    "negative duration": ({"x-pointsman-timeout": "-5ms"}, 400, "a number and a unit"),
    "no time at all": ({"x-pointsman-timeout": "0ms"}, 400, "out of range"),
    "two hours": ({"x-pointsman-timeout": "2h"}, 400, "at most 1h"),
    "two durations": ({"x-pointsman-timeout": "5ms, 6ms"}, 400, "a number and a unit"),
    "foreign digits": ({"x-pointsman-timeout": "٥ms".encode()}, 400, "a number and a unit"),
    "endless digits": ({"x-pointsman-timeout": "9" * 5000 + "s"}, 400, "a number and a unit"),
    "bad target": ({"x-pointsman-latency-target": "soon"}, 400, "x-pointsman-latency-target"),
    "bad priority": ({"x-pointsman-priority": "urgent"}, 400, "one of interactive, standard, batch"),
    "id with a space": ({"x-request-id": "a b"}, 400, "x-request-id"),
    "id too long": ({"x-request-id": "a" * 129}, 400, "x-request-id"),
    "id not ASCII": ({"x-request-id": "ä".encode()}, 400, "x-request-id"),
    "empty id": ({"x-request-id": ""}, 400, "x-request-id"),
    "compressed": ({"content-encoding": "br"}, 415, "gzip, deflate"),
    "not what it says": ({"content-encoding": "gzip"}, 400, "content-encoding"),
    "JSON cut short by its length": ({"inference-header-content-length": "10"}, 400, "truncated"),
    "JSON longer than the body": ({"inference-header-content-length": "999999"}, 400, "999999, the body has"),
    "a length that is no number": ({"inference-header-content-length": "1e3"}, 400, "a whole number"),
    "wrong key": ({"authorization": "Bearer pm_" + "0" * 32}, 401, "no valid API key"),
    "key not ASCII": ({"authorization": "Bearer ÿ".encode()}, 401, "no valid API key"),
    "another scheme": ({"authorization": "Basic ZGVtbzpkZW1v"}, 401, "no valid API key"),
    "scheme alone": ({"authorization": "Bearer"}, 401, "no valid API key"),
}

GOOD = json.dumps(x()).encode()


def content(body) -> bytes:
    """What travels."""
    return body if isinstance(body, bytes) else json.dumps(body).encode()


@pytest.fixture(autouse=True)
def still_well(fleet, client):
    """A good request on the same connection succeeds after whatever the test sent."""
    yield
    assert client.post(MLP_INFER, content=GOOD, headers=fleet.headers("demo")).status_code == 200


def check(reply, status, words):
    """The error as a client sees it."""
    assert reply.status_code == status, reply.text
    problem = reply.json()
    assert words in problem["error"]
    assert set(problem) == {"error", "reason", "request_id"}
    assert reply.headers["x-request-id"] == problem["request_id"]
    assert "x-pointsman-pool" not in reply.headers


@pytest.mark.parametrize("case", BODIES)
def test_bad_bodies_and_paths(fleet, client, case):
    """Each has its status, its words, and is counted once."""
    path, body, status, words = BODIES[case]
    reply = client.post(path, content=content(body), headers=fleet.headers("demo", x_request_id="bad-1"))
    check(reply, status, words)
    assert reply.headers["x-request-id"] == "bad-1"


@pytest.mark.parametrize("case", HEADERS)
def test_bad_headers(fleet, client, case):
    """Each has its status and its words, the body being good."""
    headers, status, words = HEADERS[case]
    reply = client.post(MLP_INFER, content=GOOD, headers=fleet.headers("demo") | headers)
    check(reply, status, words)
    assert ("www-authenticate" in reply.headers) == (status == 401)


@pytest.mark.parametrize("name", ["authorization", "x-request-id", "x-pointsman-timeout"])
def test_a_header_given_twice_is_refused(fleet, client, name):
    """Even where both say the same."""
    headers = fleet.headers("demo", x_request_id="twice", x_pointsman_timeout="1s")
    reply = client.post(MLP_INFER, content=GOOD, headers=[*headers.items(), (name, headers[name])])
    check(reply, 400, "given twice")


def test_two_ways_to_say_the_key_are_refused_and_each_alone_is_taken(fleet, client):
    """Which of two keys would count is nothing to guess."""
    key = fleet.keys["demo"]
    both = fleet.headers("demo", x_api_key=key)
    check(client.post(MLP_INFER, content=GOOD, headers=both), 400, "given twice")
    assert client.post(MLP_INFER, content=GOOD, headers={"x-api-key": key}).status_code == 200
    check(client.post(MLP_INFER, content=GOOD), 401, "Authorization: Bearer")


def test_a_body_over_the_limit_is_refused_declared_or_not(fleet, client):
    """A declared length before the body is read, a chunked one when it passes the limit; counted as too_large."""
    fleet.flushed()
    before = fleet.metric("pointsman_requests_total", tenant="demo", outcome="too_large")
    big = b" " * (MAX_BODY_BYTES + 1)
    headers = fleet.headers("demo", x_request_id="big")
    declared = client.post(MLP_INFER, content=big, headers=headers)
    check(declared, 413, f"the limit of {MAX_BODY_BYTES}")
    chunked = client.post(MLP_INFER, content=iter([big[:1000], big]), headers=headers)
    check(chunked, 413, f"the limit of {MAX_BODY_BYTES}")
    assert {reply.headers["x-request-id"] for reply in (declared, chunked)} == {"big"}
    fleet.flushed()
    assert fleet.metric("pointsman_requests_total", tenant="demo", outcome="too_large") == before + 2


def test_methods_that_a_path_does_not_have_are_refused_with_those_it_has(fleet, client):
    """405 with Allow."""
    for method, path, allowed in (("GET", MLP_INFER, "POST"), ("DELETE", "/v2", "GET"), ("PUT", "/v1/explain", "POST")):
        reply = client.request(method, path, headers=fleet.headers("demo"))
        check(reply, 405, "Method Not Allowed")
        assert allowed in reply.headers["allow"]


def test_bad_questions_to_explain_are_refused(fleet, client):
    """With the id of the one who asked."""
    for body, status, words in (
        (b"{", 400, "explain"),
        ({"model": "mlp", "rows": 0}, 400, "`int` >= 1"),
        ({"model": "mlp", "tensors": []}, 400, "tensors"),
        ({"model": "nothing"}, 404, "unknown model"),
        (b" " * 70_000, 413, "over the limit"),
    ):
        reply = client.post("/v1/explain", content=content(body), headers=fleet.headers("demo", x_request_id="why"))
        check(reply, status, words)
        assert reply.headers["x-request-id"] == "why"
    check(client.post("/v1/explain", json={"model": "mlp"}), 401, "no valid API key")


def test_every_inference_request_is_counted_once(fleet, client):
    """Whether it was answered, refused by its headers, its body or its key."""
    fleet.flushed()
    before = fleet.metric("pointsman_requests_total")
    headers = fleet.headers("demo")
    for body, more in ((GOOD, {}), (b"{", {}), (GOOD, {"x-request-id": "a b"}), (GOOD, {"authorization": "Bearer x"})):
        client.post(MLP_INFER, content=body, headers=headers | more)
    fleet.flushed()
    assert fleet.metric("pointsman_requests_total") == before + 4
