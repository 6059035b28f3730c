"""What a fleet says of itself: ids, health, metadata, timing, the commands that ask it, and metrics in Prometheus."""

import json
import re
import shutil
import subprocess
import time

import httpx
import psutil
import pytest
from fleet import POINTSMAN, ROOT, eventually
from jsonschema import Draft202012Validator
from payloads import MINILM_INFER, MLP_INFER, mlp, text
from scraped import prometheus, scrape, traffic

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("nothing_lost")]

STAGES = ["parse", "decide", "queue", "batch", "run", "total"]


def run(fleet, *arguments, key="demo"):
    """A `pointsman` command beside the running fleet."""
    return subprocess.run(
        [POINTSMAN, *arguments], cwd=ROOT, env=fleet.environment | {"POINTSMAN_KEY": fleet.keys[key]},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_one_request_id_in_answer_log_and_explain(fleet, client):
    """The client's where it sends one, else one that the router makes; the log names what failed."""
    headers = fleet.headers("demo", x_request_id="trace:7/a=b")
    good = client.post(MLP_INFER, json=mlp(), headers=headers)
    explained = client.post("/v1/explain", json={"model": "mlp"}, headers=headers)
    failed = client.post("/v2/models/nothing/infer", json=mlp(), headers=headers)
    ids = [good.headers["x-request-id"], explained.headers["x-request-id"], explained.json()["request_id"]]
    ids += [failed.headers["x-request-id"], failed.json()["request_id"]]
    assert set(ids) == {"trace:7/a=b"}
    eventually(lambda: re.search("request trace:7/a=b: model_not_found", fleet.log()))

    made = {client.post(MLP_INFER, json=mlp(), headers=fleet.headers("demo")).headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3


def test_server_timing_splits_the_total(fleet, client):
    """Every stage in milliseconds; what a pool does is part of the whole."""
    reply = client.post(MINILM_INFER, json=text(["how long"]), headers=fleet.headers("ascend-only"))
    stages = dict(re.findall(r"(\w+);dur=([0-9.]+)", reply.headers["server-timing"]))
    assert list(stages) == STAGES
    spent = {stage: float(ms) for stage, ms in stages.items()}
    assert sum(spent.values()) - spent["total"] <= spent["total"] + 0.01
    assert spent["run"] > 5


def test_health_and_metadata(fleet, client):
    """As the Open Inference Protocol has them; a model's need the key."""
    assert (client.get("/-/healthz").text, client.get("/-/healthz").status_code) == ("success\n", 200)
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2").json()["name"] == "pointsman"
    for path in ("/v2/models/minilm", "/v2/models/minilm/versions/1"):
        metadata = client.get(path, headers=fleet.headers("demo")).json()
        assert (metadata["name"], metadata["versions"]) == ("minilm", ["1"])
        assert [(each["name"], each["shape"]) for each in metadata["outputs"]] == [("embedding", [-1, 384])]
        assert {each["name"] for each in metadata["inputs"]} == {"text", "input_ids", "attention_mask"}
        assert client.get(path).status_code == 401
    assert client.get("/v2/models/mlp/ready", headers=fleet.headers("demo")).json() == {"name": "mlp", "ready": True}
    config = client.get("/v2/models/mlp/config", headers=fleet.headers("demo")).json()
    assert (config["max_batch_size"], config["input"]) == (
        32, [{"name": "x", "data_type": "TYPE_FP32", "dims": [256]}],
    )  # fmt: skip
    index = client.post("/v2/repository/index", json={"ready": True}, headers=fleet.headers("demo")).json()
    assert [(each["name"], each["state"]) for each in index] == [("minilm", "READY"), ("mlp", "READY")]


def test_statistics_count_what_was_answered(fleet, client):
    """Requests, rows and failures of one model, the ones just sent included."""

    def stats():
        time.sleep(1.1)  # they may be a second old
        (model,) = client.get("/v2/models/mlp/stats", headers=fleet.headers("demo")).json()["model_stats"]
        return model

    before = stats()
    for rows in (1, 3):
        assert client.post(MLP_INFER, json=mlp(rows), headers=fleet.headers("demo")).status_code == 200
    client.post(MLP_INFER, content=b"{", headers=fleet.headers("demo"))
    asked_ms = time.time() * 1e3
    after = stats()
    assert after["inference_count"] - before["inference_count"] == 4
    assert after["execution_count"] - before["execution_count"] == 2
    inference = {
        name: (after["inference_stats"][name], before["inference_stats"][name]) for name in ("success", "fail")
    }
    assert {name: new["count"] - old["count"] for name, (new, old) in inference.items()} == {"success": 2, "fail": 1}
    assert all(new["ns"] > old["ns"] for new, old in inference.values())
    assert abs(after["last_inference"] - asked_ms) < 5_000


def without_names(answer, model):
    """An answer less what must differ: the model's name and the id."""
    headers = {name: value for name, value in answer.headers.items() if name not in ("x-request-id", "content-length")}
    body = {name: value for name, value in answer.json().items() if name != "request_id"}
    return answer.status_code, headers, json.dumps(body).replace(model, "MODEL")


@pytest.mark.parametrize("path", ["", "/config", "/stats", "/ready", "/versions/1", "/versions/1/stats", "/infer"])
def test_a_model_that_a_tenant_may_not_use_is_answered_like_an_unknown_one(fleet, client, path):
    """Whatever is asked of it, in whatever way: no key, a broken body, a bad header."""
    method = "POST" if path == "/infer" else "GET"
    for headers in ({}, fleet.headers("nobody"), fleet.headers("nobody", x_pointsman_timeout="soon")):
        for body in (json.dumps(mlp()), "{"):
            hidden, absent = [
                without_names(client.request(method, f"/v2/models/{model}{path}", content=body, headers=headers), model)
                for model in ("minilm", "absent")
            ]
            assert hidden == absent
            assert hidden[0] == (404 if headers else 401)
    index = client.post("/v2/repository/index", headers=fleet.headers("nobody"))
    stats = client.get("/v2/models/stats", headers=fleet.headers("nobody"))
    assert (index.json(), stats.json()) == ([], {"model_stats": []})


def test_answers_are_what_the_openapi_document_says(fleet, client):
    """Of inference, good and bad; the other paths have tests of their own."""
    document = client.get("/openapi.json").json()
    responses = document["paths"]["/v2/models/{model}/infer"]["post"]["responses"]
    cases = {
        200: (MINILM_INFER, text(["a"]), {}),
        400: (MLP_INFER, "{", {}),
        404: ("/v2/models/nothing/infer", mlp(), {}),
        413: (MLP_INFER, mlp(33), {}),
        422: (MLP_INFER, mlp() | {"outputs": [{"name": "z"}]}, {}),
        504: (MLP_INFER, mlp(), {"x_pointsman_timeout": "100us"}),
    }
    for status, (path, body, more) in cases.items():
        answer = client.post(path, json=body, headers=fleet.headers("demo", **more))
        assert answer.status_code == status, answer.text
        told = responses[str(status)]
        schema = told["content"][answer.headers["content-type"]]["schema"]
        Draft202012Validator({**schema, "components": document["components"]}).validate(answer.json())
        assert {name for name in answer.headers if name.startswith(("x-", "server-"))} <= set(told["headers"])


def test_pointsman_explain_shows_a_tenant_its_own_pools(fleet, pools):
    """As a table and as JSON."""
    own = run(fleet, "explain", "minilm", "--url", fleet.http_url, key="ascend-only")
    assert own.returncode == 0, own.stderr
    assert re.search(r"^a910-sh .*\(emulated, assumed x40\) +fp32 +chosen", own.stdout, re.MULTILINE)
    assert not any(pool in own.stdout for pool in set(pools) - {"a910-sh"})

    as_json = run(fleet, "explain", "minilm", "--url", fleet.http_url, "--json")
    assert {pool["pool"] for pool in json.loads(as_json.stdout)["pools"]} == set(pools)

    refused = run(fleet, "explain", "nothing", "--url", fleet.http_url)
    assert (refused.returncode, "404" in refused.stderr) == (1, True)


def test_pointsman_explain_shows_the_operator_every_pool_and_why(fleet, pools):
    """With the key that `serve` made, which it printed and keeps for its owner alone."""
    key = fleet.state / "run" / "admin.key"
    assert (key.read_text() in fleet.stdout(), key.stat().st_mode & 0o777) == (True, 0o600)
    admin = ["explain", "minilm", "--admin", "--admin-url", fleet.admin_url, "--state", fleet.state]
    shown = run(fleet, *admin, "--tenant", "ascend-only", "--latency-target", "1s")
    assert shown.returncode == 0, shown.stderr
    assert "tenant ascend-only" in shown.stdout
    assert all(re.search(rf"^{pool} .*(chosen|rejected)", shown.stdout, re.MULTILINE) for pool in pools)
    assert "agreed to Ascend hardware only" in shown.stdout

    refused = run(fleet, *admin, "--tenant", "demo", "--admin-key", fleet.keys["demo"])
    assert (refused.returncode, "401" in refused.stderr) == (1, True)


def test_the_admin_listener_shows_the_fleet_to_the_operator_only(fleet, pools):
    """Pools, replicas and the providers that they run on."""
    assert httpx.get(f"{fleet.admin_url}/-/healthz").text == "success\n"
    url = f"{fleet.admin_url}/v1/status"
    assert httpx.get(url, headers=fleet.headers("demo")).status_code == 401
    status = httpx.get(url, headers=fleet.admin_headers()).json()
    assert [pool["name"] for pool in status["pools"]] == pools
    assert all(len(pool["replicas"]) == pool["ready_replicas"] == 1 for pool in status["pools"])
    assert status["pools"][0]["providers"] == ["CPUExecutionProvider"]
    assert httpx.get(f"{fleet.http_url}/v1/status", headers=fleet.admin_headers()).status_code == 404


def test_pointsman_status_shows_the_fleet(fleet, pools):
    """Every pool with a ready replica."""
    shown = run(fleet, "status", "--state", fleet.state)
    assert shown.returncode == 0, shown.stderr
    rows = {line.split()[0]: line.split() for line in shown.stdout.splitlines()[1:]}
    assert set(rows) == set(pools)
    models = ["minilm", "fp32,", "mlp", "fp32"]
    assert rows["a910-sh"][1:10] == ["huawei-ascend-910b3", "yes", "assumed", "x40", *models, "1"]
    assert rows["cpu"][1:8] == ["x86-cpu", "own", *models, "1"]
    assert {row[-1] for row in rows.values()} == {"running"}


def test_nothing_listens_beyond_loopback(fleet):
    """Neither the router nor a pool nor any process of Ray's."""
    listening = [
        connection.laddr
        for process in fleet.processes()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) > 5
    assert {address.ip.removeprefix("::ffff:") for address in listening} <= {"127.0.0.1", "::1"}


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool_finds_nothing_wrong_with_the_metrics(fleet, client):
    """After traffic of every kind."""
    traffic(fleet, client)
    fleet.flushed()
    scraped = httpx.get(fleet.metrics_url).content
    done = subprocess.run(["promtool", "check", "metrics"], input=scraped, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


@pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed")
def test_every_query_of_the_metrics_page_finds_data_in_prometheus(fleet, client, tmp_path):
    """The page's own queries, on what a real Prometheus scraped; the one for alerts finds nothing to alert on."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    queries = [line for block in re.findall(r"```promql\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    assert len(queries) > 5
    with prometheus(fleet, tmp_path) as ask:
        scrape(ask, lambda: traffic(fleet, client))
        found = {query: ask(query) for query in queries}
    alerts = {query for query in queries if re.search(r" (>|==) \d", query)}
    assert {query for query, result in found.items() if not result} == alerts
    rates = [each for each in found[queries[0]] if each["metric"].get("tenant") == "ascend-only"]
    assert float(rates[0]["value"][1]) > 0
