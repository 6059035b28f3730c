"""Binary tensors through the front door: the same answers as JSON, both ways, and refusals with words."""

import json

import numpy as np
import pytest
from payloads import MINILM_INFER, MLP_INFER, SENTENCES, mlp, output, text, tokens

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("nothing_lost")]

LENGTH = "inference-header-content-length"


def packed(array, datatype):
    """The bytes of a tensor, written without our own code."""
    if datatype != "BYTES":
        return np.array(array, {"FP32": "<f4", "INT64": "<i8"}[datatype]).tobytes()
    return b"".join(len(element.encode()).to_bytes(4, "little") + element.encode() for element in array)


def binary(body, *, names=None, **more):
    """(body, headers) of a JSON request with its inputs (or those named) as binary data; `more` are keys of it."""
    inputs, data = [], b""
    for tensor in body["inputs"]:
        if names is None or tensor["name"] in names:
            part = packed(tensor["data"], tensor["datatype"])
            data += part
            tensor = {key: tensor[key] for key in ("name", "shape", "datatype")}
            tensor["parameters"] = {"binary_data_size": len(part)}
        inputs.append(tensor)
    head = json.dumps(body | {"inputs": inputs} | more).encode()
    return head + data, {LENGTH: str(len(head))}


def unpacked(reply):
    """Output name to array, from wherever in the answer it is."""
    length = int(reply.headers.get(LENGTH, len(reply.content)))
    document, at, arrays = json.loads(reply.content[:length]), length, {}
    for tensor in document["outputs"]:
        if "parameters" in tensor:
            size = tensor["parameters"]["binary_data_size"]
            arrays[tensor["name"]] = np.frombuffer(reply.content[at : at + size], "<f4").reshape(tensor["shape"])
            at += size
        else:
            arrays[tensor["name"]] = output({"outputs": [tensor]})
    assert at == len(reply.content)
    return arrays


def ask(client, fleet, path, body, tenant="demo", **headers):
    """The reply to a request that must succeed. `body` is bytes or a document."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = client.post(path, content=content, headers=fleet.headers(tenant, x_pointsman_timeout="60s") | headers)
    assert reply.status_code == 200, reply.text
    return reply


ALL = {"parameters": {"binary_data_output": True}}


@pytest.mark.parametrize(
    ("path", "body"),
    [(MLP_INFER, mlp(3)), (MINILM_INFER, text(SENTENCES[:3])), (MINILM_INFER, tokens(SENTENCES[:3]))],
    ids=["numbers", "text", "tokens"],
)
def test_binary_and_json_give_the_same_answer(fleet, client, path, body):
    """In any mixture of the two, of requests and answers."""
    plain = ask(client, fleet, path, body)
    (name,) = unpacked(plain)
    first = body["inputs"][0]["name"]
    for names in (None, [first], []):
        for wanted in ({}, ALL, {"outputs": [{"name": name, "parameters": {"binary_data": True}}]}):
            content, headers = binary(body, names=names, **wanted)
            reply = ask(client, fleet, path, content, **headers)
            np.testing.assert_allclose(unpacked(reply)[name], unpacked(plain)[name], atol=1e-6, rtol=0)
            kind = "application/octet-stream" if wanted else "application/json"
            assert (reply.headers["content-type"], LENGTH in reply.headers) == (kind, bool(wanted))
            assert "x-pointsman-pool" in reply.headers


def test_a_request_that_is_all_json_may_ask_for_binary_outputs(fleet, client):
    """It needs no header for that; an output may be left out of it."""
    plain = unpacked(ask(client, fleet, MLP_INFER, mlp()))["y"]
    reply = ask(client, fleet, MLP_INFER, mlp() | ALL)
    assert reply.headers["content-type"] == "application/octet-stream"
    np.testing.assert_allclose(unpacked(reply)["y"], plain, atol=1e-6, rtol=0)
    exempt = {"outputs": [{"name": "y", "parameters": {"binary_data": False}}]}
    assert ask(client, fleet, MLP_INFER, mlp() | ALL | exempt).headers["content-type"] == "application/json"


def test_a_full_batch_arrives_whole_many_times_over_one_connection(fleet, client):
    """32 rows both ways."""
    content, headers = binary(mlp(32), **ALL)
    first = unpacked(ask(client, fleet, MLP_INFER, content, **headers))["y"]
    assert first.shape == (32, 256)
    for _ in range(20):
        again = unpacked(ask(client, fleet, MLP_INFER, content, **headers))["y"]
        np.testing.assert_allclose(again, first, atol=1e-6, rtol=0)


def test_what_is_not_finite_comes_as_binary_data_only(fleet, client):
    """The MLP makes NaN of NaN on the CPU provider: as JSON that is a failure, as binary data the answer."""
    body = mlp()
    body["inputs"][0]["data"][0] = float("nan")
    content, headers = binary(body, **ALL)
    assert np.isnan(unpacked(ask(client, fleet, MLP_INFER, content, "only-cpu", **headers))["y"]).all()
    content, headers = binary(body)
    reply = client.post(MLP_INFER, content=content, headers=fleet.headers("only-cpu") | headers)
    assert reply.status_code == 502
    assert "ask for it as binary data" in reply.json()["error"]


GOOD, GOOD_HEADERS = binary(mlp())
BAD = {
    "a byte short": (GOOD[:-1], GOOD_HEADERS, 400, "1023 bytes of binary data are left"),
    "a byte long": (GOOD + b"#", GOOD_HEADERS, 400, "1 bytes of binary data belong to no input"),
    "no length": (GOOD, {}, 400, "the body is not an inference request"),
    "a length too long": (GOOD, {LENGTH: str(len(GOOD) + 1)}, 400, "the body has"),
    "a length too short": (GOOD, {LENGTH: "9"}, 400, "truncated"),
    "a length of words": (GOOD, {LENGTH: "all"}, 400, "a whole number"),
    "another size": (GOOD.replace(b": 1024", b": 1020"), GOOD_HEADERS, 422, "does not take 1020 bytes"),
    "a negative size": (GOOD.replace(b": 1024", b": -102"), GOOD_HEADERS, 400, "an integer of at least 0"),
    "another shape": (GOOD.replace(b"[1, 256]", b"[1, 255]"), GOOD_HEADERS, 422, "does not take 1024 bytes"),
    "another datatype": (GOOD.replace(b"FP32", b"INT8"), GOOD_HEADERS, 422, "does not take 1024 bytes"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_add_up_is_refused_and_the_connection_lives(fleet, client, case):
    """Each with its status and its words; a good request follows on the same connection."""
    content, headers, status, words = BAD[case]
    reply = client.post(MLP_INFER, content=content, headers=fleet.headers("demo") | headers)
    assert reply.status_code == status, reply.text
    assert words in reply.json()["error"]
    ask(client, fleet, MLP_INFER, GOOD, **GOOD_HEADERS)


def test_the_server_says_that_it_knows_the_extension(client):
    """Clients look it up."""
    assert "binary_tensor_data" in client.get("/v2").json()["extensions"]
