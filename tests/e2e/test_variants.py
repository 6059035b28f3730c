"""A fleet of three classes that serve different variants of the bundled models, one of them pinned."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import yaml
from fleet import MODELS, POINTSMAN, ROOT, Fleet, start_fleet

pytestmark = pytest.mark.cluster

FLEET = """
pools:
  - {name: cpu, accelerator: x86-cpu, region: here, models: [minilm, ranker, textline], variants: {minilm: fp16}}
  - {name: h20, accelerator: nvidia-h20, region: here, models: [minilm, ranker],
     backend: {type: emulated, time_scale: 20.0}}
  - {name: a910, accelerator: huawei-ascend-910b3, region: here, models: [ranker, textline],
     backend: {type: emulated, time_scale: 20.0}}
tenants:
  - {id: only-cpu}
  - {id: only-h20}
  - {id: only-a910}
policies:
  - {name: each-its-own, when: "true", allow: '"only-" + pool.name == tenant.id'}
"""
SERVED = {
    ("cpu", "minilm"): "fp16", ("cpu", "ranker"): "fp32", ("cpu", "textline"): "fp32",
    ("h20", "minilm"): "fp16", ("h20", "ranker"): "fp16",
    ("a910", "ranker"): "fp16-fixed", ("a910", "textline"): "fp32-fixed",
}  # fmt: skip


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The fleet above."""
    with start_fleet(FLEET, tmp_path_factory.mktemp("variants")) as running:
        yield running


def reference(model: str) -> dict:
    return json.loads((ROOT / "models" / "zoo" / model / "reference.json").read_text())


@pytest.mark.parametrize(("pool", "model"), SERVED)
def test_each_pool_answers_with_its_variant_as_accurately_as_model_yaml_says(fleet, pool, model):
    """Fixed sizes included: three rows on a pool that runs four. Explain names the variant."""
    headers = fleet.headers(f"only-{pool}", x_pointsman_timeout="30s")
    with httpx.Client(base_url=fleet.http_url, timeout=30, headers=headers) as client:
        (explained,) = client.post("/v1/explain", json={"model": model}).json()["pools"]
        assert (explained["pool"], explained["variant"]) == (pool, SERVED[pool, model])
        reply = client.post(f"/v2/models/{model}/infer", json=three_rows(reference(model)["inputs"]))
    assert reply.status_code == 200, reply.text
    variants = yaml.safe_load((MODELS / model / "1" / "model.yaml").read_text())["variants"]
    (accuracy,) = [each["accuracy"] for each in variants if each["name"] == SERVED[pool, model]]
    (got,), (expected,) = reply.json()["outputs"], reference(model)["outputs"]
    rows = np.resize(np.array(expected["data"]).reshape(expected["shape"]), got["shape"])
    assert got["shape"][0] == 3
    # What a sentence is padded with differs from batch to batch, so half precision rounds elsewhere.
    tolerance = 2 * accuracy["max_abs_error"]
    np.testing.assert_allclose(np.array(got["data"]).reshape(got["shape"]), rows, atol=tolerance, rtol=0)


def three_rows(tensors: list[dict]) -> dict:
    """A request of the first three rows, the first again where there are fewer."""
    inputs = []
    for tensor in tensors:
        shape = [3, *tensor["shape"][1:]]
        data = np.resize(np.array(tensor["data"], object), shape).ravel().tolist()
        inputs.append(tensor | {"shape": shape, "data": data})
    return {"inputs": inputs}


def test_status_and_the_start_table_show_what_each_pool_serves(fleet):
    """With the basis and scale of emulated times."""
    shown = subprocess.run(
        [POINTSMAN, "status", "--state", fleet.state],
        cwd=ROOT, env=fleet.environment, capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    for page in (shown, fleet.stdout()):
        rows = {line.split()[0]: line for line in page.splitlines() if line}
        assert "minilm fp16, ranker fp32, textline fp32" in rows["cpu"]
        assert "minilm fp16, ranker fp16" in rows["h20"]
        assert "ranker fp16-fixed, textline fp32-fixed" in rows["a910"]
        assert "assumed x20" in rows["a910"]
        assert "assumed" not in rows["cpu"]
    pools = httpx.get(f"{fleet.admin_url}/v1/status", headers=fleet.admin_headers()).json()["pools"]
    told = {(pool["name"], name): model["variant"] for pool in pools for name, model in pool["models"].items()}
    assert told == SERVED


def test_a_pin_that_no_variant_has_is_refused_before_anything_starts(fleet, tmp_path):
    """With its place in the file and what there is."""
    config = tmp_path / "fleet.yaml"
    config.write_text(FLEET.replace("{minilm: fp16}", "{minilm: int8}"))
    done = subprocess.run(
        [POINTSMAN, "validate", "--config", config, "--state", fleet.state],
        cwd=ROOT, env=fleet.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.endswith(
        "pools[0].variants.minilm: minilm has no variant 'int8'; it has fp32 (for any), fp16 (for cuda and tensorrt)\n"
    )
