"""Who sees what: models and pools that a tenant may not use, requests without a key, and the operator."""

import orjson
import pytest
from api_rig import KEYS, bearer, running

from router.service.head import Head

pytestmark = pytest.mark.asyncio

X = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1.0, 2.0, 3.0, 4.0]}]}
ABOUT_A_MODEL = ("", "/config", "/stats", "/ready", "/versions/1", "/versions/1/stats", "/versions/9/config")


def alike(answer, model):
    """An answer less what must differ: the name asked for and the id."""
    body = answer.json()
    body.pop("request_id")
    text = orjson.dumps(body).replace(model.encode(), b"MODEL")
    headers = {k: v for k, v in answer.headers.items() if k not in ("x-request-id", "content-length")}
    return answer.status_code, text, headers


@pytest.mark.parametrize("path", ABOUT_A_MODEL)
async def test_a_model_that_a_tenant_may_not_use_is_answered_like_one_that_does_not_exist(tmp_path, path):
    """Status, words and headers; who may use it gets it."""
    async with running(tmp_path) as rig:
        rig.up("secret", "hidden", "1")
        hidden, absent = [
            alike(await rig.data.get(f"/v2/models/{model}{path}", headers=bearer("part")), model)
            for model in ("hidden", "absent")
        ]
        assert hidden == absent
        assert hidden[0] == 404
        assert b"Request for unknown model: 'MODEL'" in hidden[1]
        if "9" not in path:
            assert (await rig.data.get(f"/v2/models/hidden{path}", headers=bearer("all"))).status_code == 200


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (orjson.dumps(X), {}),
        (b"{", {}),
        (orjson.dumps({"inputs": [{"name": "x", "shape": [1, 9], "datatype": "FP32", "data": [0.5] * 9}]}), {}),
        (orjson.dumps(X), {"timeout": "soon"}),
        (orjson.dumps(X), {"priority": "urgent"}),
        (orjson.dumps(X), {"version": "1"}),
    ],
)
async def test_inference_on_a_hidden_model_ends_like_that_on_an_absent_one(tmp_path, body, more):
    """Whatever else is wrong with the request, and the same is counted but for the model's name."""
    async with running(tmp_path) as rig:
        rig.up("secret", "hidden", "1")
        replies = []
        for model in ("hidden", "absent"):
            head = Head(model, more.get("version", ""), "id", KEYS["part"], more.get("timeout", ""))
            head.priority = more.get("priority", "")
            rig.state.handler.start(head, body, replies.append)
        hidden, absent = replies
        assert (hidden.status, hidden.head) == (absent.status, absent.head) == (404, hidden.head)
        assert hidden.body.replace(b"hidden", b"absent") == absent.body


async def test_where_another_class_of_the_tenant_is_allowed_the_answer_is_403(tmp_path):
    """And where none is, 404: the tenant `late` has batch priority only, and that may not use `words`."""
    async with running(tmp_path) as rig:
        rig.up("open", "words", "1")
        replies = []
        for tenant, priority in (("part", "batch"), ("late", ""), ("late", "interactive")):
            head = Head("words", "", "id", KEYS[tenant], priority=priority)
            rig.state.handler.start(head, orjson.dumps(X), replies.append)
        assert [reply.status for reply in replies] == [403, 404, 404]
        assert b"policy_denied" in replies[0].body
        seen = {}
        for tenant in ("part", "late"):
            index = await rig.data.post("/v2/repository/index", headers=bearer(tenant))
            seen[tenant] = {entry["name"] for entry in index.json()}
        assert seen == {"part": {"shown", "words"}, "late": {"shown"}}


async def test_explain_shows_a_tenant_only_pools_that_it_may_use(tmp_path):
    """No name, state or rule of another, whichever is chosen; an operator sees all of them and why."""
    async with running(tmp_path) as rig:
        for pool in ("open", "trial", "secret"):
            rig.up(pool)
        own = await rig.data.post("/v1/explain", json={"model": "shown"}, headers=bearer("part"))
        assert [pool["pool"] for pool in own.json()["pools"]] == ["open", "trial"]
        assert {pool["rule"] for pool in own.json()["pools"]} == {"everybody"}
        batch = bearer("part", x_pointsman_priority="batch")
        fewer = await rig.data.post("/v1/explain", json={"model": "shown"}, headers=batch)
        assert [pool["pool"] for pool in fewer.json()["pools"]] == ["open"]
        assert not any(word in own.text + fewer.text for word in ("secret", "no-batch-on-trial"))

        asked = {"tenant": "part", "model": "shown"}
        full = (await rig.admin.post("/v1/explain", json=asked, headers=bearer("admin"))).json()
        assert {pool["pool"]: pool["rule"] for pool in full["pools"]} == {
            "open": "everybody", "trial": "everybody", "secret": "the-secret-rule",
        }  # fmt: skip
        assert (full["tenant"], full["chosen"]) == ("part", own.json()["chosen"])
        hidden = await rig.admin.post("/v1/explain", json=asked | {"model": "hidden"}, headers=bearer("admin"))
        assert (hidden.status_code, hidden.json()["chosen"]) == (200, None)


async def test_where_pools_are_not_revealed_no_tenant_is_told_of_them(tmp_path):
    """Until a reload reveals them; the operator always is."""
    async with running(tmp_path, http={"reveal_pools": False}) as rig:
        asked = {"model": "shown"}
        assert (await rig.data.post("/v1/explain", json=asked, headers=bearer("all"))).status_code == 404
        full = await rig.admin.post("/v1/explain", json=asked | {"tenant": "all"}, headers=bearer("admin"))
        assert full.status_code == 200
        rig.reload(tmp_path)
        assert (await rig.data.post("/v1/explain", json=asked, headers=bearer("all"))).status_code == 200


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/explain"), ("GET", "/v1/status")])
async def test_the_admin_listener_takes_admin_keys_only_and_the_data_listener_none_of_them(tmp_path, method, path):
    """A tenant's key is no admin key, nor the other way round; without an admin key nobody gets in."""
    async with running(tmp_path) as rig:
        body = {"tenant": "all", "model": "shown"}
        for headers in ({}, bearer("all"), {"authorization": f"Basic {KEYS['admin']}"}, {"x-api-key": "pm_admi"}):
            assert (await rig.admin.request(method, path, json=body, headers=headers)).status_code == 401
        for headers in (bearer("admin"), {"x-api-key": KEYS["admin"]}):
            assert (await rig.admin.request(method, path, json=body, headers=headers)).status_code == 200
        assert (await rig.data.get("/v2/models/shown", headers=bearer("admin"))).status_code == 401
        rig.reload(tmp_path, admin={"keys": []})
        assert (await rig.admin.request(method, path, json=body, headers=bearer("admin"))).status_code == 401


async def test_bad_questions_of_the_operator_are_refused(tmp_path):
    """In words, each with its status."""
    async with running(tmp_path) as rig:
        for body, status, words in (
            (b"{", 400, "explain"),
            (b"\xff", 400, "explain"),
            (b'{"model": "shown"}', 400, "tenant"),
            (b'{"model": "shown", "tenant": "nobody"}', 400, "no tenant 'nobody'"),
            (b'{"model": "absent", "tenant": "all"}', 404, "unknown model"),
            (b" " * 70_000, 413, "over the limit"),
        ):
            answer = await rig.admin.post("/v1/explain", content=body, headers=bearer("admin"))
            assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text
        assert (await rig.admin.get("/v2/models/shown", headers=bearer("admin"))).status_code == 404


async def test_status_names_pools_replicas_and_providers(tmp_path):
    """As this router sees them."""
    async with running(tmp_path) as rig:
        rig.up("open")
        pools = (await rig.admin.get("/v1/status", headers=bearer("admin"))).json()["pools"]
        assert [(p["name"], p["ready_replicas"], p["providers"], len(p["replicas"])) for p in pools] == [
            ("open", 1, ["cpu"], 1), ("trial", 0, [], 0), ("secret", 0, [], 0),
        ]  # fmt: skip
        assert pools[0]["replicas"][0]["name"] == "open-shown"
        assert pools[0]["models"]["shown"] == {
            "version": "2", "variant": "", "max_rows": 8, "ready": True,
        }  # fmt: skip
        assert (await rig.admin.get("/-/healthz")).text == "success\n"
        rig.plane.leaving = True
        assert (await rig.admin.get("/-/healthz")).status_code == 503


@pytest.mark.parametrize(
    "shown",
    [
        {"authorization": "Bearer pm_wrong"}, {"authorization": "Basic YTpi"}, {"authorization": "Bearer"},
        {"authorization": ""}, {"x-api-key": ""}, {"x-api-key": "k" * 1000},
    ],
)  # fmt: skip
async def test_only_a_request_without_any_credential_is_anonymous(tmp_path, shown):
    """A wrong or empty one is refused; a reload takes the anonymous tenant away again."""
    async with running(tmp_path, anonymous={"tenant": "part"}) as rig:
        assert (await rig.data.get("/v2/models/shown")).status_code == 200
        assert (await rig.data.get("/v2/models/hidden")).status_code == 404
        assert (await rig.data.get("/v2/models/hidden", headers=bearer("all"))).status_code == 200
        assert (await rig.data.post("/v1/explain", json={"model": "shown"})).json()["tenant"] == "part"
        assert (await rig.data.get("/v2/models/shown", headers=shown)).status_code == 401
        assert (await rig.admin.get("/v1/status")).status_code == 401

        head = Head("shown", "", "id")
        replies = []
        rig.state.handler.start(head, b"{", replies.append)
        assert rig.state.handler.knows(head)
        rig.reload(tmp_path)
        rig.state.handler.start(head, b"{", replies.append)  # what the connection remembers of it counts no more
        assert ([reply.status for reply in replies], rig.state.handler.knows(head)) == ([400, 401], False)
        assert (await rig.data.get("/v2/models/shown")).status_code == 401
