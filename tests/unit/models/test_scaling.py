"""The rule of the assumed profiles, and that the bundled files follow it."""

from pathlib import Path

import pytest

from models.profile_build import SOURCES, documents
from models.profile_store import FOLDER, load_profile, read_profile
from models.repository import read_yaml
from models.scaling import RULE, Published, Scaling, Step, Tail

TABLE = read_yaml(SOURCES)
EXAMPLES = Path(__file__).parents[3] / "examples" / "profiles"
FILES = [*sorted(FOLDER.glob("*.yaml")), *sorted(EXAMPLES.glob("*.yaml"))]
PROFILES = [pytest.param(path, model, id=f"{path.stem}-{model}") for path in FILES for model in TABLE["models"]]


def test_the_rule_is_steps_and_work():
    """2 steps of 1 ms; a row is 3 of the 10 x 2 x 0.5 x 2 units that are done in a second."""
    reference = Published("old", "bench", 10.0, 2.0, 0.5, "", "")
    scaling = Scaling(RULE, "x", 2, 3.0, Step(0.001, ""), reference, "tflops", 8.0, 4.0, 2.0, Tail(1.5, 2.0, ""))
    assert scaling.service_time_s(4) == pytest.approx(0.002 + 4 * 3.0 / 20.0)
    assert scaling.quantiles_s(1) == pytest.approx((0.152, 0.228, 0.304))


@pytest.mark.parametrize(("path", "model"), PROFILES)
def test_every_point_of_a_profile_follows_from_its_rule_and_inputs(path, model):
    """As they stand in the file; and the ratio is that of two peaks, the bundled ones those of the table of sources."""
    profile = read_profile(path, model, path.stem)
    scaling = profile.scaling
    assert (profile.basis, scaling.rule) == ("assumed", RULE)
    for point in profile.points:
        rate = scaling.reference.samples_per_s * scaling.reference.work_per_sample * scaling.reference.precision
        p50_s = scaling.steps * scaling.step.seconds + point.rows * scaling.work_per_row / (rate * scaling.ratio)
        expected = (p50_s, p50_s * scaling.tail.p90, p50_s * scaling.tail.p99)
        assert (point.p50_s, point.p90_s, point.p99_s) == pytest.approx(expected, abs=1e-7)
    assert scaling.ratio == pytest.approx(scaling.peak / scaling.reference_peak, abs=1e-6)
    assert path.parent == EXAMPLES or scaling.peak == TABLE["classes"][path.stem][scaling.by]
    assert scaling.reference_peak == TABLE["classes"][scaling.reference.accelerator][scaling.by]
    assert all((scaling.reference.source, scaling.reference.as_of, scaling.step.source, scaling.tail.source))


def test_the_files_are_what_the_script_writes():
    """Nobody edited one by hand; another class in the table has its file."""
    assert {path.stem: path.read_text() for path in FOLDER.glob("*.yaml")} == documents()


def test_a_scaled_model_is_bound_by_what_its_kind_is_bound_by():
    """Encoders and pictures by arithmetic, look-ups by memory: the H20 beats the A100 in one and loses in the other."""
    for model, better in (("minilm", False), ("textline", False), ("ranker", True)):
        h20, a100 = (load_profile(model, name).service_time_s(128) for name in ("nvidia-h20", "nvidia-a100-80g"))
        assert (h20 < a100) is better, model
