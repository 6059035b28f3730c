"""Latency profiles on disk."""

import pytest

from models.profile_store import FOLDER, ProfileError, basis_of, load_profile, read_profile

CLASSES = [
    *("nvidia-h20", "nvidia-a100-80g", "nvidia-h100-sxm", "nvidia-l20", "nvidia-l4"),
    *("huawei-ascend-910b3", "huawei-ascend-910b4", "huawei-ascend-310p"),
]
GOOD = """
accelerator: chip
basis: measured
note: one test
models:
  m:
    - {rows: 1, p50_s: 0.001, p99_s: 0.002}
    - {rows: 8, p50_s: 0.004, p99_s: 0.004}
"""


@pytest.mark.parametrize("accelerator", CLASSES)
@pytest.mark.parametrize("model", ["minilm", "mlp", "ranker", "textline"])
def test_a_bundled_profile_says_that_it_is_assumed_and_grows_with_rows(accelerator, model):
    """The rule and its inputs travel in the note; time never falls as a batch grows, time per row never rises."""
    profile = load_profile(model, accelerator)
    assert profile.basis == "assumed"
    assert profile.note.startswith("ASSUMPTION, NOT A MEASUREMENT")
    assert "MLPerf Inference v" in profile.note
    times = [profile.service_time_s(rows) for rows in (1, 2, 8, 32, 100, 128)]
    assert times == sorted(times)
    assert profile.service_time_s(32) / 32 < profile.service_time_s(1)


def test_every_bundled_file_is_named_after_its_class():
    """The folder holds no class that the list above does not test."""
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted(CLASSES)


def test_a_class_without_profile_lists_those_that_have_one():
    """Nothing is guessed for it."""
    with pytest.raises(ProfileError, match="'nvidia-h21', known: huawei-ascend-310p, huawei-ascend-910b3"):
        load_profile("mlp", "nvidia-h21")


def test_a_good_file_is_read_whole(tmp_path):
    """Points, basis and note."""
    path = tmp_path / "chip.yaml"
    path.write_text(GOOD)
    profile = read_profile(path, "m", "chip")
    assert (profile.basis, profile.note) == ("measured", "one test")
    assert [(p.rows, p.p50_s, p.p99_s) for p in profile.points] == [(1, 0.001, 0.002), (8, 0.004, 0.004)]


def test_a_p90_is_for_every_point_and_between_the_others(tmp_path):
    """Then it is interpolated as they are; without one nothing is made up."""
    path = tmp_path / "chip.yaml"
    path.write_text(GOOD)
    assert read_profile(path, "m", "chip").p90_time_s(1) is None
    text = GOOD.replace("p99_s: 0.002", "p99_s: 0.002, p90_s: 0.0015")
    path.write_text(text.replace("p99_s: 0.004", "p99_s: 0.004, p90_s: 0.004"))
    assert read_profile(path, "m", "chip").p90_time_s(8) == 0.004
    assert read_profile(path, "m", "chip").p90_time_s(1) == 0.0015
    path.write_text(text.replace("p99_s: 0.004", "p99_s: 0.004, p90_s: 0.0041"))
    with pytest.raises(ProfileError, match="p50_s <= p90_s <= p99_s"):
        read_profile(path, "m", "chip")


def test_the_basis_of_a_class_or_a_file_can_be_asked_for(tmp_path):
    """As its pools show it."""
    path = tmp_path / "chip.yaml"
    path.write_text(GOOD)
    assert (basis_of("chip", str(path)), basis_of("nvidia-h20")) == ("measured", "assumed")
    with pytest.raises(ProfileError, match="no latency profile for accelerator 'chip'"):
        basis_of("chip")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("accelerator: chip", "accelerator: cheap", "is for accelerator 'cheap'"),
        ("basis: measured", "basis: guessed", "basis must be measured or assumed"),
        ("note: one test", "note: ' '", "note is empty"),
        ("note: one test", "nota: one test", "nota"),
        ("  m:", "  n:", "has no model 'm', only: n"),
        ("rows: 8", "rows: 1", "rows must rise"),
        ("rows: 1", "rows: 0", "rows must rise"),
        ("p99_s: 0.002", "p99_s: 0.0002", "p50_s <= p99_s"),
        ("p50_s: 0.001", "p50_s: .nan", "p50_s <= p99_s"),
        ("p99_s: 0.002", "p99_s: 0.002, p90_s: 0.001", "p90_s"),
        ("p99_s: 0.002", "p99_s: 0.002, p95_s: 0.001", "p95_s"),
        ("models:", "models: [", "while parsing"),
    ],
)
def test_a_bad_file_is_refused_with_what_is_wrong(tmp_path, old, new, words):
    """Strictly: also a key too many."""
    path = tmp_path / "chip.yaml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ProfileError, match=words):
        read_profile(path, "m", "chip")
