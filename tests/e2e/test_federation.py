"""Two Pointsmans, one of them a pool of the other: what policy of the outer decides holds inside."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import httpx
import pytest
from fleet import Fleet, eventually, start_fleet
from payloads import MINILM_INFER, MLP_INFER, mlp, text

pytestmark = pytest.mark.cluster

INNER = """
pools:
  - {name: h20, accelerator: nvidia-h20, region: cn-north, models: [mlp, minilm], cost: 50, backend: {type: emulated}}
  - {name: a100, accelerator: nvidia-a100-80g, region: us-east, models: [mlp, minilm], backend: {type: emulated}}
  - {name: cpu, accelerator: x86-cpu, region: cn-north, models: [mlp, minilm]}
tenants: [{id: outer}]
policy_default: allow
models: {mlp: {deadline: 5s}, minilm: {deadline: 5s}}
"""
OUTER = """
pools:
  - name: cell-h20
    accelerator: nvidia-h20
    region: cn-north
    models: [mlp, minilm]
    cost: 50
    backend: {{type: oip_upstream, url: "{url}", authorization_file: "{token}", emulated: true}}
  - name: cell-cpu
    accelerator: x86-cpu
    region: cn-north
    models: [mlp]
    backend: {{type: oip_upstream, url: "{url}", authorization_file: "{token}"}}
  - name: cell-nowhere
    accelerator: nvidia-l4-not-there
    region: cn-north
    models: [mlp]
    backend: {{type: oip_upstream, url: "{url}", authorization_file: "{token}"}}
accelerators: {{nvidia-l4-not-there: {{source: this test, as_of: "2026-11-23"}}}}
tenants: [{{id: anyone}}, {{id: bound}}]
policies:
  - {{name: all, when: "true", allow: "true"}}
  - {{name: bound-to-h20, when: 'tenant.id == "bound"', require: 'accelerator.class == "nvidia-h20"'}}
models: {{mlp: {{deadline: 5s}}, minilm: {{deadline: 5s}}}}
"""
BODIES = {MLP_INFER: mlp(1, 1), MINILM_INFER: text(["a sentence"])}


@pytest.fixture(scope="module")
def inner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The cell."""
    with start_fleet(INNER, tmp_path_factory.mktemp("inner")) as running:
        yield running


@pytest.fixture(scope="module")
def outer(inner: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The one that forwards to it, with a key in a file."""
    folder = tmp_path_factory.mktemp("outer")
    (folder / "token").write_text(inner.keys["outer"] + "\n")
    with start_fleet(OUTER.format(url=inner.http_url, token=folder / "token"), folder) as running:
        yield running


def send(fleet: Fleet, tenant: str, path: str = MLP_INFER, **more: str) -> httpx.Response:
    """One request."""
    return httpx.post(f"{fleet.http_url}{path}", json=BODIES[path], headers=fleet.headers(tenant, **more), timeout=20)


def classes(inner: Fleet) -> dict[str, float]:
    """Requests that the cell has answered, by accelerator class."""
    inner.flushed()
    return {dict(labels)["accelerator"]: n for labels, n in inner.samples("pointsman_tenant_class_total").items()}


def test_a_tenant_bound_outside_is_bound_inside(inner: Fleet, outer: Fleet) -> None:
    """The cell's own rules allow everything, and its H20 pool is by far the dearest. Text is tokenised once."""
    bare = send(inner, "outer")
    assert bare.headers["x-pointsman-pool"] != "h20"
    before = classes(inner)
    for path in BODIES:
        for _ in range(20):
            answer = send(outer, "bound", path, x_pointsman_latency_target="2s")
            assert (answer.status_code, answer.headers.get("x-pointsman-pool")) == (200, "cell-h20"), answer.text
            assert answer.headers["x-pointsman-accelerator"] == "nvidia-h20"
            assert answer.headers["x-pointsman-emulated"] == "true"
            assert answer.json()["outputs"] == send(inner, "outer", path).json()["outputs"] or path == MINILM_INFER
    after = classes(inner)
    assert after["nvidia-h20"] - before.get("nvidia-h20", 0) >= 40


def test_what_the_cell_may_not_use_for_it_is_no_candidate(outer: Fleet) -> None:
    """A pool whose class the cell does not have never opens: 403 inside, with words outside."""
    answer = send(outer, "anyone", x_pointsman_only_accelerator="nvidia-l4-not-there")
    assert (answer.status_code, answer.json()["reason"]) == (503, "no_ready_pool")
    told = httpx.post(
        f"{outer.http_url}/v1/explain", json={"model": "mlp"}, headers=outer.headers("anyone"), timeout=20
    ).json()
    (pool,) = [pool for pool in told["pools"] if pool["pool"] == "cell-nowhere"]
    assert pool["words"] == "upstream: it forbids the request (403): policy_denied"


def test_a_request_narrows_and_never_widens(inner: Fleet, outer: Fleet) -> None:
    """Sent by a client itself, to either of the two."""
    for only, pool in (("nvidia-a100-80g", "a100"), ("nvidia-h20, nvidia-a100-80g", "a100"), ("x86-cpu", "cpu")):
        assert send(inner, "outer", x_pointsman_only_accelerator=only).headers["x-pointsman-pool"] == pool
    assert send(inner, "outer", x_pointsman_only_region="us-east").headers["x-pointsman-pool"] == "a100"
    for more in ({"x_pointsman_only_accelerator": "no-such"}, {"x_pointsman_only_region": "no-such"}):
        answer = send(inner, "outer", **more)
        assert (answer.status_code, answer.json()["reason"]) == (403, "policy_denied")
    assert send(outer, "bound", x_pointsman_only_accelerator="x86-cpu").status_code == 403


def test_a_request_that_goes_in_circles_ends(inner: Fleet) -> None:
    """Each router counts it up."""
    assert send(inner, "outer", x_pointsman_hops="4").status_code == 200
    answer = send(inner, "outer", x_pointsman_hops="5")
    assert (answer.status_code, answer.json()["reason"]) == (508, "too_many_hops")


def test_a_request_ends_within_the_time_that_the_outer_gave_it(inner: Fleet, outer: Fleet) -> None:
    """The cell's pool stands still."""
    (pid,) = inner.pool_pids("h20")
    os.kill(pid, signal.SIGSTOP)
    try:
        started_s = time.monotonic()
        answer = send(outer, "bound", x_pointsman_timeout="700ms")
        took_s = time.monotonic() - started_s
    finally:
        os.kill(pid, signal.SIGCONT)
    assert answer.status_code == 504
    assert took_s < 1.5


def test_the_request_id_is_one(inner: Fleet, outer: Fleet) -> None:
    """The cell's pool dies: the request fails inside, then outside, and both logs have it under the client's id."""
    (pid,) = inner.pool_pids("h20")
    eventually(lambda: send(outer, "bound").status_code == 200, 20)
    os.kill(pid, signal.SIGKILL)
    answer = send(outer, "bound", x_request_id="one-id-for-both")
    assert (answer.status_code, answer.json()["reason"]) == (503, "no_ready_pool")
    assert answer.headers["x-request-id"] == "one-id-for-both"
    eventually(lambda: "one-id-for-both" in outer.log())
    eventually(lambda: "one-id-for-both" in inner.log())
    eventually(lambda: send(outer, "bound").status_code == 200, 60)


def test_traffic_leaves_a_cell_that_is_gone_and_comes_back(inner: Fleet, outer: Fleet) -> None:
    """Its router stands still: readiness and inference hang; then it goes on."""
    (pid,) = inner.router_pids()
    eventually(lambda: send(outer, "anyone").status_code == 200, 20)
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: send(outer, "anyone", x_pointsman_timeout="200ms").status_code == 503, 10)
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: send(outer, "anyone").status_code == 200, 20)
