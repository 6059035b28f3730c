"""Where requests go: never onto hardware that the tenant may not use, and among the rest where the target asks for."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import httpx
import pytest
import yaml
from payloads import MINILM_INFER, MLP_INFER, SENTENCES, mlp, text, tokens
from wire import Answer, request, send_all

pytestmark = pytest.mark.cluster

ASCEND = "huawei-ascend-910b3"
ASCEND_POOL = "a910-sh"
REQUESTS = 10_000
BESIDE = 1_000
"""Requests of each other tenant in the same seconds."""


@dataclass(frozen=True)
class Asked:
    """One request of the mix and how it must end."""

    data: bytes
    status: int


def mixed(headers: Mapping[str, str], count: int, seed: int) -> list[Asked]:
    """Requests of both models in all their forms, tight and loose, some that no Ascend part can answer in time."""
    rng = random.Random(seed)
    bodies = {
        MLP_INFER: [mlp(rows, seed) for rows in (1, 1, 1, 4) for seed in range(4)],
        MINILM_INFER: [kind([sentence]) for kind in (text, tokens) for sentence in SENTENCES],
    }
    asked = []
    for number in range(count):
        path = MINILM_INFER if number % 25 == 0 else MLP_INFER
        if rng.random() < 0.3:
            path = path.replace("/infer", "/versions/1/infer")
        more = {"x-pointsman-timeout": "60s", "x-pointsman-priority": rng.choice(["interactive", "standard"])}
        more |= {"x-pointsman-latency-target": rng.choice(["1ms", "5ms", "1s", "30s"])} if rng.random() < 0.8 else {}
        hopeless = rng.random() < 0.02
        more |= {"x-pointsman-timeout": "2ms"} if hopeless else {}
        body = rng.choice(bodies[path.replace("/versions/1", "")])
        asked.append(Asked(request(path, body, {**headers, **more}), 504 if hopeless else 200))
    return asked


def test_a_tenant_bound_to_ascend_gets_only_ascend_over_10_000_mixed_requests(fleet, pools):
    """Other tenants beside it, targets that it cannot keep: headers, tenant_class and the pools' counts agree."""
    fleet.flushed()
    counted = counts(fleet, pools)
    ascend = mixed(fleet.headers("ascend-only"), REQUESTS, 1)
    others = mixed(fleet.headers("demo"), BESIDE, 2) + mixed(fleet.headers("nobody"), BESIDE // 10, 3)

    async def all_at_once() -> tuple[list[Answer], list[Answer]]:
        return await asyncio.gather(
            send_all(fleet.http_url, [asked.data for asked in ascend], clients=64),
            send_all(fleet.http_url, [asked.data for asked in others], clients=8),
        )

    to_ascend, to_others = asyncio.run(all_at_once())
    assert [answer.status for answer in to_ascend] == [asked.status for asked in ascend]
    answered = [answer for answer in to_ascend if answer.status == 200]
    assert {place(answer) for answer in answered} == {(ASCEND_POOL, ASCEND, "true")}
    assert not any("x-pointsman-pool" in answer.headers for answer in to_ascend if answer.status != 200)
    assert {answer.status for answer in to_others[BESIDE:]} == {404}

    elsewhere = Counter(answer.headers["x-pointsman-pool"] for answer in to_others[:BESIDE] if answer.status == 200)
    assert set(elsewhere) - {ASCEND_POOL}, "the other tenant never left the Ascend pool: this proved nothing"
    fleet.flushed()
    gained = {key: value - counted[key] for key, value in counts(fleet, pools).items()}
    assert {key: value for key, value in gained.items() if key[0] == "ascend-only" and value} == {
        ("ascend-only", ASCEND): len(answered)
    }
    for pool in pools:
        assert gained["pool", pool] == elsewhere[pool] + (len(answered) if pool == ASCEND_POOL else 0)


def counts(fleet, pools) -> Counter[tuple[str, str]]:
    """Requests by (tenant, class), and answers by ("pool", its name)."""
    by_class = fleet.samples("pointsman_tenant_class_total")
    found = Counter({(dict(key)["tenant"], dict(key)["accelerator"]): value for key, value in by_class.items()})
    for pool in pools:
        found["pool", pool] = fleet.metric("pointsman_pool_requests_total", pool=pool, outcome="answered")
    return found


def place(answer: Answer | httpx.Response) -> tuple[str, str, str]:
    """Pool, accelerator class, and whether it is emulated, as the headers say."""
    names = ("x-pointsman-pool", "x-pointsman-accelerator", "x-pointsman-emulated")
    return tuple(answer.headers.get(name, "") for name in names)


def test_a_tight_target_goes_to_a_faster_pool_than_a_loose_one(fleet, client):
    """Headers, metrics and explain agree; the loose one takes the cheap, slow, emulated part."""
    predicted = {}
    for target, emulated in (("5ms", ""), ("1s", "true")):
        headers = fleet.headers("demo", x_pointsman_latency_target=target)
        explained = client.post("/v1/explain", json={"model": "mlp"}, headers=headers).json()
        (chosen,) = [pool for pool in explained["pools"] if pool["pool"] == explained["chosen"]]
        predicted[target] = chosen["predicted_s"]

        fleet.flushed()
        before = fleet.metric("pointsman_tenant_class_total", tenant="demo", accelerator=chosen["accelerator"])
        for _ in range(20):
            reply = client.post(MLP_INFER, json=mlp(), headers=headers)
            assert place(reply)[1:] == (chosen["accelerator"], emulated)
        fleet.flushed()
        after = fleet.metric("pointsman_tenant_class_total", tenant="demo", accelerator=chosen["accelerator"])
        assert (after - before, chosen["emulated"]) == (20, bool(emulated))
    assert predicted["5ms"] < predicted["1s"] / 3


def test_an_emulated_pool_says_so_everywhere_and_a_real_one_nowhere(fleet, client, pools):
    """Config, table of the start, headers, metrics, explain."""
    configured = yaml.safe_load(fleet.config.read_text())["pools"]
    for pool in configured:
        emulated = pool["backend"]["type"] == "emulated"
        headers = fleet.headers(f"only-{pool['name']}")
        assert place(client.post(MLP_INFER, json=mlp(), headers=headers)) == (
            pool["name"], pool["accelerator"], "true" if emulated else "",
        )  # fmt: skip
        (info,) = fleet.samples("pointsman_pool_info", pool=pool["name"])
        assert dict(info)["emulated"] == str(emulated).lower()
        scales = fleet.samples("pointsman_emulated_time_scale", pool=pool["name"])
        assert [(dict(labels)["basis"], value) for labels, value in scales.items()] == [("assumed", 40.0)] * emulated
        explained = client.post("/v1/explain", json={"model": "mlp"}, headers=headers).json()
        (own,) = [each for each in explained["pools"] if each["pool"] == pool["name"]]
        times = {"basis": "assumed", "time_scale": 40.0} if emulated else None
        assert (own["emulated"], own["emulation"], own["variant"]) == (emulated, times, "fp32")
        (row,) = [line.split() for line in fleet.stdout().splitlines() if line.startswith(f"{pool['name']} ")]
        assert row[2:5] == (["yes", "assumed", "x40"] if emulated else ["no", "own", row[4]])
    assert any(pool["backend"]["type"] == "emulated" for pool in configured)


def test_explain_names_the_rule_that_keeps_a_pool_out(fleet, pools):
    """For each pool but the Ascend one, to the operator."""
    asked = {"model": "minilm", "tenant": "ascend-only"}
    explained = httpx.post(f"{fleet.admin_url}/v1/explain", json=asked, headers=fleet.admin_headers()).json()
    assert explained["chosen"] == ASCEND_POOL
    barred = [pool for pool in explained["pools"] if pool["pool"] != ASCEND_POOL]
    assert {pool["pool"] for pool in barred} == set(pools) - {ASCEND_POOL}
    for pool in barred:
        assert (pool["reason"], pool["rule"]) == ("policy", "ascend-only-means-ascend")
        assert "agreed to Ascend hardware only" in pool["words"]


def test_who_may_use_no_pool_is_told_of_none(fleet, client, pools):
    """403 where another class of the tenant may use one, else the model is unknown."""
    for tenant, priority, refusal in (
        ("ascend-only", "batch", (403, "policy_denied")), ("nobody", "standard", (404, "model_not_found")),
    ):  # fmt: skip
        headers = fleet.headers(tenant, x_pointsman_priority=priority)
        refused = client.post(MLP_INFER, json=mlp(), headers=headers)
        assert (refused.status_code, refused.json()["reason"]) == refusal
        assert not any(pool in refused.text for pool in pools)


def test_batch_work_stays_off_the_trial_pool_however_it_asks(fleet, client):
    """A tenant's priority is a ceiling: asking for more changes nothing, and the rule on batch work holds."""
    for headers in ({}, {"x_pointsman_priority": "interactive"}):
        for target in ("1s", "1ms"):
            asked = fleet.headers("batch", x_pointsman_latency_target=target, **headers)
            reply = client.post(MLP_INFER, json=mlp(), headers=asked)
            assert reply.status_code == 200
            assert place(reply)[0] != ASCEND_POOL
