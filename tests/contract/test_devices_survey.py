"""`pointsman devices` over environments: what runs was proved by that environment's own process, the rest says why."""

import stat
from pathlib import Path

import pytest

from deployments import devices, environments
from deployments.devices import MAIN, survey
from deployments.environments import ENVIRONMENTS
from deployments.machine import detected, processor
from deployments.providers import PROVIDERS


def environment(root: Path, name: str, script: str) -> None:
    """An environment whose interpreter is a shell script."""
    python = root / ENVIRONMENTS[name].folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)


def test_each_provider_is_proved_in_its_environment_or_says_what_is_missing():
    """Never both, never neither; what ran has its nodes where it was asked to run."""
    reports = survey()
    assert {report.provider for report in reports} == set(PROVIDERS)
    for report in reports:
        assert (report.placement is None) == bool(report.missing)
        if report.placement is not None:
            assert report.placement.provider == PROVIDERS[report.provider].ep
            assert (report.placement.nodes > 0, report.placement.other_nodes) == (True, 0)
            assert report.runtime
    first = reports[0]
    assert (first.provider, first.environment, first.missing) == ("cpu", MAIN, "")


def test_openvino_is_proved_where_its_environment_is():
    """Any x86 CPU will do for the fork."""
    if not ENVIRONMENTS["openvino"].interpreter.exists():
        pytest.skip("not made: make env-openvino")
    found = {(report.provider, report.environment): report for report in survey()}
    assert found["openvino", "openvino"].missing == ""
    assert found["openvino", "openvino"].runtime.startswith("onnxruntime-openvino ")


def test_an_environment_that_dies_hangs_or_is_not_made_runs_nothing(tmp_path, monkeypatch):
    """Its providers are told with the cause; those of the others do not suffer."""
    monkeypatch.setattr(environments, "_ROOT", tmp_path)
    monkeypatch.setattr(devices, "TIMEOUT_S", 20.0)
    environment(tmp_path, "cann", "echo driver broken >&2; kill -SEGV $$")
    environment(tmp_path, "openvino", "echo not what was asked")
    found = {(report.provider, report.environment): report for report in survey()}
    assert found["cpu", MAIN].missing == ""
    assert found["cann", "cann"].missing == "the probe ended with -11: driver broken"
    assert found["openvino", "openvino"].missing == "the probe ended with 0: it said nothing"
    assert found["cuda", "cuda"].missing == found["tensorrt", "cuda"].missing == "not made: make env-cuda"
    assert all(report.placement is None for key, report in found.items() if key[1] != MAIN)


def test_an_environment_that_hangs_is_given_up(tmp_path, monkeypatch):
    """As a driver may; the words say what to try by hand."""
    monkeypatch.setattr(environments, "_ROOT", tmp_path)
    monkeypatch.setattr(devices, "TIMEOUT_S", 0.1)
    environment(tmp_path, "cann", "exec sleep 60")
    hung = next(report for report in survey() if report.environment == "cann")
    assert hung.placement is None
    assert "no answer within 0.1 s: a driver may hang; try `" in hung.missing
    assert hung.missing.endswith("-m deployments.devices cann`")


def test_the_machine_is_told_as_linux_and_ray_see_it():
    """Detection needs no cluster; where a GPU node file is, it counts it, and nothing else does."""
    assert processor().cores > 0
    gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))
    assert sum(each.count for each in detected() if each.resource == "GPU") >= gpus
