"""What a fleet file may say of accelerator classes: additions and changes, each with its source, and what follows."""

import pytest

from router.config.load import accelerators, catalogue, load
from router.config.problems import ConfigError

POOL = "pools: [{name: p, accelerator: NAME, region: r, models: [m], backend: {type: emulated}}]\n"


@pytest.fixture
def fleet(tmp_path):
    """Write a fleet file whose `accelerators` are these lines; its path."""

    def write(name, lines):
        path = tmp_path / "fleet.yaml"
        path.write_text(POOL.replace("NAME", name) + "accelerators:\n  " + lines.replace("\n", "\n  ") + "\n")
        return path

    return write


def chip(path):
    """Facts of the one pool's class, as policy gets them."""
    return load(path).pools[0].facts.accelerator


def described(path, name):
    return next(d for d in accelerators(path) if d.facts.name == name)


def test_a_changed_peak_changes_what_is_computed_from_it(fleet):
    """The other peaks stay, and so does the die area."""
    path = fleet("nvidia-h20", "nvidia-h20: {peak_tops: {fp16: 320}, source: our lab, as_of: 2026-02-02}")
    facts = chip(path)
    assert (facts.export_tpp, facts.export_class) == (5120.0, "3A090.a")
    assert facts.export_performance_density == 5120 / 814
    stated = {fact.name: fact.value for fact in described(path, "nvidia-h20").stated}
    assert (stated["peak_tops.fp16"], stated["peak_tops.fp8"]) == (320.0, 296.0)


def test_each_fact_keeps_the_source_of_who_stated_it(fleet):
    """A file may cite the catalogue's sources by their ids, or say it in words."""
    path = fleet(
        "nvidia-h20",
        "nvidia-h20:\n  memory_gib: 141\n  tdp_w: 500\n  peak_tops: {int8: 300}\n"
        "  source: our lab\n  as_of: 2026-02-02\n"
        "  sources: {tdp_w: epoch, peak_tops.int8: {source: a guess, as_of: 2026-03-03, confidence: low, note: n}}",
    )
    facts = {fact.name: fact for fact in described(path, "nvidia-h20").stated}
    told = {name: (fact.source.split(",")[0], fact.as_of, fact.confidence) for name, fact in facts.items()}
    assert told["memory_gib"] == ("our lab", "2026-02-02", "")
    assert told["tdp_w"] == ("Epoch AI", "2026-02-02", "high")
    assert told["peak_tops.int8"] == ("a guess", "2026-03-03", "low")
    assert facts["peak_tops.int8"].note == "n"
    assert told["peak_tops.fp8"] == ("Tom's Hardware", "2026-11-23", "medium")
    assert told["vendor"] == ("Epoch AI", "2026-11-23", "high")


def test_a_stated_export_attribute_wins_and_says_that_it_is_stated(fleet):
    """What is not stated follows from it."""
    path = fleet("nvidia-h20", "nvidia-h20: {export: {tpp: 4900}, source: counsel, as_of: 2026-02-02}")
    export = described(path, "nvidia-h20").export
    assert (export.tpp.value, export.tpp.how) == (4900.0, "stated, not computed")
    assert (export.class_.value, export.class_.how) == ("3A090.a", "TPP >= 4800")
    path = fleet("nvidia-h20", "nvidia-h20: {export: {class: 3A090.b}, source: counsel, as_of: 2026-02-02}")
    assert (chip(path).export_class, chip(path).export_tpp) == ("3A090.b", 2368.0)


@pytest.mark.parametrize(
    ("name", "change", "unknown"),
    [
        ("nvidia-l4", "die_area_mm2: null", {"export_class", "export_performance_density"}),
        ("nvidia-l4", "export: {class: null}", {"export_class"}),
        (
            "nvidia-h20",
            "peak_tops: {fp16: null, fp8: null, int8: null}",
            {"export_class", "export_performance_density", "export_tpp"},
        ),
        ("nvidia-h100-sxm", "die_area_mm2: null", {"export_performance_density"}),
        ("nvidia-h20", "memory_bandwidth_gb_per_s: null", {"memory_bandwidth_gb_per_s"}),
    ],
)
def test_null_makes_a_fact_unknown_and_what_rests_on_it(fleet, name, change, unknown):
    """And nothing else."""
    facts, known = chip(fleet(name, f"{name}: {{{change}, source: s, as_of: 2026-02-02}}")), catalogue()[name]
    for field in known.__struct_fields__:
        if field not in ("source", "as_of"):
            assert getattr(facts, field) == (None if field in unknown else getattr(known, field)), field


def test_a_class_of_ones_own_is_unknown_but_for_what_is_stated(fleet):
    """No default is a fact."""
    facts = chip(fleet("asic", "asic: {peak_tops: {int8: 100}, provider: cpu, source: s, as_of: 2026-02-02}"))
    assert (facts.export_tpp, facts.export_class) == (800.0, "none"), "below 1600 no density matters"
    for field in ("vendor", "headquarters", "memory_gib", "memory_bandwidth_gb_per_s", "export_performance_density"):
        assert getattr(facts, field) is None
    assert facts.licence == ()
    assert facts.licence_state(2e9) is None


def test_a_licence_history_replaces_the_catalogues(fleet):
    """From its dates on; the pool is another one to policy then."""
    path = fleet(
        "nvidia-h20",
        "nvidia-h20:\n  source: counsel\n  as_of: 2026-02-02\n"
        "  licence: [{from: 2026-01-01, state: granted, text: t, source: s}]",
    )
    assert [chip(path).licence_state(at_s) for at_s in (1767225599.0, 1767225600.0)] == [None, "granted"]
    (step,) = described(path, "nvidia-h20").licence
    assert (step.source, step.as_of) == ("s", "2026-02-02")
    changed = load(path).pools[0].facts.digest()
    plain = load(fleet("nvidia-h20", "nvidia-h20: {source: counsel, as_of: 2026-02-02}")).pools[0].facts.digest()
    assert changed != plain


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("sources: {tpd_w: epoch}", 'accelerators.c: sources names "tpd_w", which is no fact'),
        ("sources: {peak_tops.fp32: epoch}", 'accelerators.c: sources names "peak_tops.fp32", which is no fact'),
        ("sources: {licence: epoch}", 'accelerators.c: sources names "licence", which is no fact'),
        ("peak_tops: {fp32: 1}", "accelerators.c.peak_tops.fp32: unknown key"),
        ("peak_tops: {fp16: -1}", "accelerators.c.peak_tops.fp16: must be at least 0"),
        ("die_area_mm2: 0", "accelerators.c.die_area_mm2: must be more than 0"),
        ("launch: 2023-13", "accelerators.c.launch: must be a year, a month or a day"),
        ("licence: [{from: 2026-01-01, state: maybe, text: t, source: s}]", "accelerators.c.licence[0].state: must be"),
        ("licence: [{from: 2026-01-01, state: granted, text: t}]", "accelerators.c.licence[0].source: is required"),
        (
            "licence: [{from: 2026-01-02, state: granted, text: t, source: s}, "
            "{from: 2026-01-01, state: required, text: t, source: s}]",
            "accelerators.c: licence must be in the order of its dates, each once",
        ),
    ],
)
def test_what_is_no_fact_is_refused_with_its_place(fleet, entry, words):
    """By `validate` and by the list of classes alike."""
    path = fleet("c", f"c: {{{entry}, provider: cpu, source: s, as_of: 2026-02-02}}")
    for reader in (load, accelerators):
        with pytest.raises(ConfigError) as error:
            reader(path)
        assert words in str(error.value)
