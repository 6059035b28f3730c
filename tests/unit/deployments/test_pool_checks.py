"""What `pointsman validate` says of pools that could not serve a model of theirs."""

from pathlib import Path

import pytest
import yaml

from deployments.serving import checked
from router.config.problems import ConfigError

DIGEST = "0" * 64
FLEET = """
policy_default: allow
pools:
  - {name: a, accelerator: x86-cpu, region: r, models: [any, cuda-only]}
  - {name: b, accelerator: nvidia-h20, region: r, models: [any, cuda-only],
     backend: {type: emulated, profile: h20.yaml}}
  - {name: c, accelerator: huawei-ascend-910b3, region: r, models: [any], variants: {any: fp61}}
"""
PROFILE = """
accelerator: nvidia-h20
basis: measured
note: made up for a test
models:
  any: [{rows: 1, p50_s: 0.001, p99_s: 0.002}]
"""


def put(store: Path, name: str, variant: dict[str, object]) -> None:
    folder = store / name / "1"
    folder.mkdir(parents=True)
    tensors = [{"name": "x", "datatype": "FP32", "shape": ["batch", 1]}]
    facts = {"name": name, "version": "1", "description": "", "licence": "", "source": ""}
    variants = [{"name": "fp16", "file": "m.onnx", "sha256": DIGEST} | variant]
    facts |= {"inputs": tensors, "outputs": tensors, "variants": variants}
    (folder / "model.yaml").write_text(yaml.safe_dump(facts))


def test_each_is_told_with_its_place_and_the_variants_that_there_are(tmp_path):
    """An emulated pool is asked as the hardware it stands for."""
    put(tmp_path / "models", "any", {})
    put(tmp_path / "models", "cuda-only", {"for": ["cuda"]})
    config = tmp_path / "fleet.yaml"
    config.write_text(FLEET)
    (tmp_path / "h20.yaml").write_text(PROFILE)
    with pytest.raises(ConfigError) as error:
        checked(config, tmp_path)
    lacking = f"latency profile {tmp_path / 'h20.yaml'} has no model 'cuda-only', only: any"
    assert [(problem.path, problem.message) for problem in error.value.problems] == [
        ("pools[0].models[1]", "cuda-only has no variant for x86-cpu on provider cpu; it has fp16 (for cuda)"),
        ("pools[1].models[1]", f"the emulated pool cannot keep its times: {lacking}"),
        ("pools[2].variants.any", "any has no variant 'fp61'; it has fp16 (for any)"),
    ]


def test_of_variants_nothing_is_said_where_no_store_is_built(tmp_path):
    """Then a replica says it."""
    config = tmp_path / "fleet.yaml"
    config.write_text(FLEET)
    (tmp_path / "h20.yaml").write_text(PROFILE.replace("any:", "cuda-only: [{rows: 1, p50_s: 1, p99_s: 2}]\n  any:"))
    assert len(checked(config, tmp_path).pools) == 3
