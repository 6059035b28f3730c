"""What Triton's clients ask besides inference: configuration, statistics, repository index, and what is not offered."""

import asyncio

import orjson
import pytest
from api_rig import bearer, running

from router.core.record import RequestRecord

pytestmark = pytest.mark.asyncio


async def test_the_configuration_is_told_in_tritons_words(tmp_path):
    """Types with their prefix, dims without the batch axis, alternatives optional, batches as the fleet bounds them."""
    async with running(tmp_path) as rig:
        config = (await rig.data.get("/v2/models/words/config", headers=bearer("all"))).json()
        assert config == {
            "name": "words",
            "platform": "onnxruntime_onnx",
            "backend": "onnxruntime",
            "version_policy": {"latest": {"num_versions": 1}},
            "max_batch_size": 8,
            "input": [
                {"name": "text", "data_type": "TYPE_STRING", "dims": [], "optional": True},
                {"name": "x", "data_type": "TYPE_FP32", "dims": [4], "optional": True},
            ],
            "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [-1]}],
            "dynamic_batching": {},
            "parameters": {"variants": {"string_value": "fp32, fp16"}},
        }
        shown = (await rig.data.get("/v2/models/shown/versions/1/config", headers=bearer("all"))).json()
        assert shown["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]


async def test_the_index_lists_what_the_tenant_may_use_and_whether_it_is_ready(tmp_path):
    """Only a pool that it may use, with that version, makes a model ready."""
    async with running(tmp_path) as rig:
        rig.up("secret", "shown", "2")
        rig.up("open", "words", "1")

        async def index(who, body=b""):
            answer = await rig.data.post("/v2/repository/index", content=body, headers=bearer(who))
            return [(each["name"], each["version"], each["state"], bool(each["reason"])) for each in answer.json()]

        down, up = "UNAVAILABLE", "READY"
        shown, words = [("shown", "2", down, True), ("shown", "1", down, True)], ("words", "1", up, False)
        assert await index("part") == [*shown, words]
        assert await index("all", b"{}") == [("shown", "2", up, False), shown[1], ("hidden", "1", down, True), words]
        assert await index("part", b'{"ready": true, "repository_name": ""}') == [words]
        assert (await rig.data.post("/v2/repository/index", content=b"[]", headers=bearer("all"))).status_code == 400
        assert (await rig.data.post("/v2/repository/index")).status_code == 401


def answered(rows, batch_rows, model="shown"):
    """One request of a batch, with round times."""
    return RequestRecord(
        "r", "all", model, "answered", 200, "open", "x86-cpu", attempts=1, queue_s=0.001, batch_s=0.002, run_s=0.004,
        total_s=0.5, batch_rows=batch_rows, rows=rows,
    )  # fmt: skip


async def test_statistics_are_the_totals_of_what_was_counted(tmp_path):
    """Rows, batches, times in nanoseconds, failures apart; what nobody found has not failed."""
    async with running(tmp_path) as rig:
        metrics = rig.state.metrics
        for rows in (1, 3):
            metrics.observe(answered(rows, 4))
        metrics.observe(answered(2, 2))
        metrics.observe(RequestRecord("r", "all", "shown", "saturated", 429, total_s=0.25))
        metrics.observe(RequestRecord("r", "all", "shown", "model_not_found", 404))
        metrics.stamp(1234.5)
        stats = (await rig.data.get("/v2/models/shown/versions/2/stats", headers=bearer("all"))).json()
        (shown,) = stats["model_stats"]
        inference = shown.pop("inference_stats")
        assert shown == {
            "name": "shown", "version": "2", "last_inference": 1234500, "inference_count": 6, "execution_count": 2,
            "batch_stats": [],
        }  # fmt: skip
        nothing = {"count": 0, "ns": 0}
        assert inference == {
            "success": {"count": 3, "ns": 1_500_000_000},
            "fail": {"count": 1, "ns": 250_000_000},
            "queue": {"count": 3, "ns": 3_000_000},
            "compute_input": {"count": 3, "ns": 6_000_000},
            "compute_infer": {"count": 3, "ns": 12_000_000},
            "compute_output": nothing,
            "cache_hit": nothing,
            "cache_miss": nothing,
        }


async def test_statistics_of_all_models_are_those_that_the_tenant_may_use(tmp_path):
    """Counts stand under the version that is served."""
    async with running(tmp_path) as rig:
        rig.state.metrics.observe(answered(1, 1))
        rig.state.metrics.observe(answered(1, 1, "hidden"))

        async def counts(who, path):
            models = (await rig.data.get(path, headers=bearer(who))).json()["model_stats"]
            return {(each["name"], each["version"]): each["inference_count"] for each in models}

        assert await counts("part", "/v2/models/stats") == {("shown", "2"): 1, ("shown", "1"): 0, ("words", "1"): 0}
        assert (await counts("all", "/v2/models/stats"))["hidden", "1"] == 1
        assert await counts("all", "/v2/models/shown/stats") == {("shown", "2"): 1, ("shown", "1"): 0}
        assert (await rig.data.get("/v2/models/stats")).status_code == 401


async def test_however_many_ask_for_statistics_the_files_are_read_once(tmp_path, monkeypatch):
    """What costs is shared by all who ask, also where one of them leaves."""
    reads = []
    async with running(tmp_path) as rig:
        read = rig.state.handler.totals._read
        monkeypatch.setattr(rig.state.handler.totals, "_read", lambda: reads.append(1) or read())
        asked = [asyncio.create_task(rig.data.get("/v2/models/stats", headers=bearer("all"))) for _ in range(20)]
        await asyncio.sleep(0)
        asked.pop(0).cancel()
        assert [answer.status_code for answer in await asyncio.gather(*asked)] == [200] * 19
    assert reads == [1]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/models/shown/load"), ("POST", "/v2/repository/models/hidden/unload"),
        ("GET", "/v2/trace/setting"), ("POST", "/v2/models/shown/trace/setting"), ("POST", "/v2/logging"),
        ("GET", "/v2/systemsharedmemory/status"), ("POST", "/v2/cudasharedmemory/region/a/register"),
    ],
)  # fmt: skip
async def test_what_is_not_offered_says_so(tmp_path, method, path):
    """The same words for whoever asks, about whatever model."""
    async with running(tmp_path) as rig:
        answer = await rig.data.request(method, path, content=orjson.dumps({}))
        assert (answer.status_code, answer.json()["reason"]) == (404, "not_found")
        assert "not offered" in answer.json()["error"]
