"""What a fleet says of itself: ids, health, metadata, timing, the commands that ask it, and metrics in Prometheus."""

import contextlib
import json
import re
import shutil
import subprocess
import time

import httpx
import psutil
import pytest
from fleet import POINTSMAN, ROOT, eventually, free_ports
from payloads import MINILM_INFER, MLP_INFER, mlp, text

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
    assert client.get("/v2/models/mlp/ready", headers=fleet.headers("nobody")).status_code == 503
    assert client.get("/v2/models/nothing", headers=fleet.headers("demo")).status_code == 404


def test_pointsman_explain_shows_every_pool_and_why(fleet, pools):
    """As a table and as JSON."""
    shown = run(fleet, "explain", "minilm", "--url", fleet.http_url, "--latency-target", "1s", key="ascend-only")
    assert shown.returncode == 0, shown.stderr
    assert "tenant ascend-only" in shown.stdout
    assert all(re.search(rf"^{pool} .*(chosen|rejected)", shown.stdout, re.MULTILINE) for pool in pools)
    assert "(emulated)" in shown.stdout
    assert "agreed to Ascend hardware only" in shown.stdout

    as_json = run(fleet, "explain", "minilm", "--url", fleet.http_url, "--json")
    assert {pool["pool"] for pool in json.loads(as_json.stdout)["pools"]} == set(pools)

    refused = run(fleet, "explain", "nothing", "--url", fleet.http_url)
    assert (refused.returncode, "404" in refused.stderr) == (1, True)


def test_pointsman_status_shows_the_fleet(fleet, pools):
    """Every pool with a ready replica."""
    shown = run(fleet, "status", "--state", fleet.state)
    assert shown.returncode == 0, shown.stderr
    rows = {line.split()[0]: line.split() for line in shown.stdout.splitlines()[1:]}
    assert set(rows) == set(pools)
    assert rows["a910-sh"][1:4] == ["huawei-ascend-910b3", "yes", "1"]
    assert rows["cpu"][1:3] == ["x86-cpu", "1"]


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


def traffic(fleet, client):
    """One of everything that metrics tell apart."""
    for tenant in ("demo", "ascend-only"):
        for path, body in ((MLP_INFER, mlp()), (MINILM_INFER, text(["a"]))):
            client.post(path, json=body, headers=fleet.headers(tenant))
    client.post(MLP_INFER, json=mlp(), headers=fleet.headers("ascend-only", x_pointsman_timeout="1ms"))
    client.post(MLP_INFER, content=b"{", headers=fleet.headers("demo"))


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool_finds_nothing_wrong_with_the_metrics(fleet, client):
    """After traffic of every kind."""
    traffic(fleet, client)
    fleet.flushed()
    scraped = httpx.get(fleet.metrics_url).content
    done = subprocess.run(["promtool", "check", "metrics"], input=scraped, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


@contextlib.contextmanager
def prometheus(fleet, folder):
    """A real Prometheus that scrapes the fleet four times a second. Gives its URL."""
    (port,) = free_ports(1)
    target = fleet.metrics_url.removeprefix("http://").removesuffix("/metrics")
    scrape = {"job_name": "pointsman", "scrape_interval": "250ms", "scrape_timeout": "250ms"}
    scrape["static_configs"] = [{"targets": [target]}]
    (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": [scrape]}))
    arguments = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    arguments += [f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(["prometheus", *arguments], stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed")
def test_every_query_of_the_metrics_page_finds_data_in_prometheus(fleet, client, tmp_path):
    """The page's own queries, on what a real Prometheus scraped; the one for alerts finds nothing to alert on."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    queries = [line for block in re.findall(r"```promql\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    assert len(queries) > 5
    with prometheus(fleet, tmp_path) as url:

        def ask(query: str) -> list:
            with contextlib.suppress(httpx.TransportError):
                reply = httpx.get(f"{url}/api/v1/query", params={"query": query}, timeout=10)
                if reply.status_code != 503:  # not ready yet
                    assert reply.status_code == 200, reply.text
                    return reply.json()["data"]["result"]
            return []

        def scrapes() -> float:
            return sum(float(each["value"][1]) for each in ask("count_over_time(up{job='pointsman'}[1h])"))

        until_s = time.monotonic() + 30
        while scrapes() < 8 and time.monotonic() < until_s:
            traffic(fleet, client)
        assert ask("up{job='pointsman'}")[0]["value"][1] == "1"
        found = {query: ask(query) for query in queries}
    alerts = {query for query in queries if re.search(r" (>|==) \d", query)}
    assert {query for query, result in found.items() if not result} == alerts
    rates = [each for each in found[queries[0]] if each["metric"].get("tenant") == "ascend-only"]
    assert float(rates[0]["value"][1]) > 0
