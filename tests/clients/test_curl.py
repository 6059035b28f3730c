"""curl, the client that everybody has: what the protocol's bytes look like to somebody who writes them by hand."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.cluster

JSON_BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2.5, -0.1]}]})


@pytest.fixture
def curl(server, tmp_path):
    """Runs curl on a path of the server with the tenant's key: (status, headers, body)."""

    def run(path: str, *options: str, key: str = server["key"], body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        head, out, data = tmp_path / "head", tmp_path / "out", tmp_path / "data"
        data.write_bytes(body)
        given = ["--data-binary", f"@{data}"] if body else []
        command = ["curl", "-sS", "--max-time", "30", "-D", head, "-o", out, "-H", f"Authorization: Bearer {key}"]
        subprocess.run([*command, *given, *options, f"http://{server['http']}{path}"], check=True, timeout=40)
        first, *lines = head.read_text().split("HTTP/1.1 ")[-1].splitlines()
        headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
        return int(first.split()[0]), headers, Path(out).read_bytes() if out.exists() else b""

    return run


def binary_body(array: np.ndarray, **request: object) -> tuple[bytes, str]:
    """A request with binary data by hand, and the header that says where its JSON ends."""
    tensor = {"name": "x", "shape": list(array.shape), "datatype": "FP32"}
    tensor["parameters"] = {"binary_data_size": array.nbytes}
    head = json.dumps({"inputs": [tensor], **request}).encode()
    return head + array.tobytes(), f"Inference-Header-Content-Length: {len(head)}"


def test_json_in_and_out(curl):
    """What the protocol's first example does."""
    status, headers, body = curl("/v2/models/echo_fp32/infer", body=JSON_BODY.encode())
    assert (status, headers["content-type"]) == (200, "application/json")
    (tensor,) = json.loads(body)["outputs"]
    assert np.float32(tensor["data"]).tobytes() == struct.pack("<3f", 1, 2.5, -0.1)


@pytest.mark.parametrize("asked", [{"parameters": {"binary_data_output": True}},
                                   {"outputs": [{"name": "y", "parameters": {"binary_data": True}}]}])  # fmt: skip
def test_binary_in_and_out(curl, asked):
    """Lengths are where the protocol has them, on the way there and on the way back."""
    array = np.array([[1, 2.5, -0.1]], "<f4")
    body, where = binary_body(array, **asked)
    status, headers, answer = curl("/v2/models/echo_fp32/infer", "-H", where, "-H", OCTETS, body=body)
    assert status == 200, answer
    end = int(headers["inference-header-content-length"])
    (tensor,) = json.loads(answer[:end])["outputs"]
    assert tensor["parameters"]["binary_data_size"] == array.nbytes
    assert "data" not in tensor
    assert answer[end:] == array.tobytes()
    assert headers["content-type"] == "application/octet-stream"


OCTETS = "Content-Type: application/octet-stream"


def test_binary_in_and_json_out(curl):
    """Who does not ask for binary data gets JSON."""
    body, where = binary_body(np.array([[4, 5, 6]], "<f4"))
    status, headers, answer = curl("/v2/models/echo_fp32/infer", "-H", where, "-H", OCTETS, body=body)
    assert (status, json.loads(answer)["outputs"][0]["data"]) == (200, [4, 5, 6])
    assert "inference-header-content-length" not in headers


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_an_answer_is_compressed_for_who_accepts_it(curl, algorithm):
    """And only then; curl takes it apart again by itself."""
    long = json.dumps({"inputs": [{"name": "x", "shape": [1, 4096], "datatype": "FP32", "data": [0.5] * 4096}]})
    accept = f"Accept-Encoding: {algorithm}"
    _, headers, plain = curl("/v2/models/echo_fp32/infer", "-H", accept, "--compressed", body=long.encode())
    assert headers["content-encoding"] == algorithm
    assert json.loads(plain)["outputs"][0]["data"] == [0.5] * 4096
    _, headers, _ = curl("/v2/models/echo_fp32/infer", body=long.encode())
    assert "content-encoding" not in headers


@pytest.mark.parametrize(
    ("path", "key", "body", "status"),
    [
        ("/v2/models/nosuch/infer", None, JSON_BODY, 404),
        ("/v2/models/echo_fp32/infer", "nobody", JSON_BODY, 401),
        ("/v2/models/echo_fp32/infer", None, "{", 400),
        ("/v2/models/echo_pair/infer", None, JSON_BODY, 400),
        ("/v2/nowhere", None, "", 404),
    ],
)
def test_errors_are_json_with_words(curl, server, path, key, body, status):
    """Whatever goes wrong: a status, and why."""
    seen, headers, answer = curl(path, key=key or server["key"], body=body.encode())
    assert (seen, headers["content-type"]) == (status, "application/json")
    assert json.loads(answer)["error"]


def test_a_broken_binary_head_is_said_to_be_broken(curl):
    """A length that lies about the JSON is the client's fault, in words, not ours."""
    body, _ = binary_body(np.ones((1, 3), "<f4"))
    for length in ("0", "7", "99999999", "-1", "abc"):
        where = f"Inference-Header-Content-Length: {length}"
        status, _, answer = curl("/v2/models/echo_fp32/infer", "-H", where, "-H", OCTETS, body=body)
        assert status == 400, (length, answer)
        assert json.loads(answer)["error"]


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("/v2", {"name", "version", "extensions"}),
        ("/v2/models/echo_pair", {"name", "versions", "platform", "inputs", "outputs"}),
        ("/v2/models/echo_pair/config", {"name", "input", "output", "max_batch_size"}),
        ("/v2/models/echo_pair/stats", {"model_stats"}),
        ("/openapi.json", {"openapi", "info", "paths"}),
    ],
)
def test_documents_have_their_keys(curl, path, keys):
    """Everything that says what is served."""
    status, headers, body = curl(path)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert keys <= json.loads(body).keys()


def test_the_repository_index_lists_models(curl):
    """As Triton's own tools ask for it."""
    status, _, body = curl("/v2/repository/index", "-X", "POST", "-H", "Content-Type: application/json", body=b"{}")
    assert status == 200
    assert {"name": "echo_fp32", "version": "1", "state": "READY"}.items() <= {
        one["name"]: one for one in json.loads(body)
    }["echo_fp32"].items()
