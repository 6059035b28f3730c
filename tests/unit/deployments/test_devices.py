"""What the probe says of this machine."""

from deployments.devices import probe
from deployments.providers import PROVIDERS


def test_each_provider_either_ran_or_says_what_is_missing():
    """No provider is left out, and none is both there and missing."""
    reports = probe()
    assert [report.provider for report in reports] == list(PROVIDERS)
    for report in reports:
        assert (report.placement is None) == bool(report.missing)
        if report.placement:
            assert report.placement.provider == PROVIDERS[report.provider].ep
            assert report.placement.nodes > 0


def test_the_cpu_provider_always_runs():
    """Every machine has it."""
    cpu = probe()[0]
    assert (cpu.provider, cpu.missing) == ("cpu", "")


def test_a_provider_of_another_build_names_its_package():
    """So that an operator knows what to install, and where not to."""
    missing = {report.provider: report.missing for report in probe()}
    assert "onnxruntime-cann" in missing["cann"]
    assert "onnxruntime-gpu" in missing["cuda"]
