"""The catalogue's data: every fact has a source, figures follow from facts, names are those that Ray uses."""

import csv
from datetime import date
from pathlib import Path

import pytest
import yaml

from router.config.build import PROVIDERS
from router.config.load import accelerators, catalogue

ROOT = Path(__file__).parents[4]
FILES = sorted((ROOT / "router" / "config" / "catalogue").glob("*.yaml"))
CLASSES = {described.facts.name: described for described in accelerators()}
READ = [yaml.safe_load(file.read_text()) for file in FILES]
RAW = {name: entry for file in READ for name, entry in file.get("accelerators", {}).items()}
SOURCES = {name: source for file in READ for name, source in file.get("sources", {}).items()}
COLLECTED = ROOT.parent / "shared" / "data" / "accelerators.csv"


def leaves(value, path=""):
    """(path, value) of everything that an entry states but for what is about the entry."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if path or key not in ("source", "sources", "as_of", "notes", "licence"):
                yield from leaves(inner, f"{path}.{key}" if path else key)
    else:
        yield path, value


def by_the_text_of_the_rule(tpp, density):
    """The four prongs of ECCN 3A090 as they are written, for parts of data centres."""
    if tpp >= 4800 or (tpp >= 1600 and density >= 5.92):
        return "3A090.a"
    if (2400 <= tpp < 4800 and 1.6 <= density < 5.92) or (tpp >= 1600 and 3.2 <= density < 5.92):
        return "3A090.b"
    return "none"


def test_the_catalogue_has_the_classes_that_fleets_have():
    """And the facts are those of the files."""
    assert CLASSES.keys() == RAW.keys() == catalogue().keys()
    assert len(CLASSES) >= 20
    nvidia = "h100-sxm h100-pcie h100-nvl h200-sxm h20 a100-40g a100-80g a800 h800 l20 l40s l4 t4"
    assert {f"nvidia-{name}" for name in nvidia.split()} <= CLASSES.keys()
    assert {f"huawei-ascend-{name}" for name in ("910b1", "910b2", "910b3", "910b4", "910c", "310p")} <= CLASSES.keys()
    assert {"amd-mi300x", "intel-gaudi2", "intel-gaudi3", "x86-cpu"} <= CLASSES.keys()


@pytest.mark.parametrize("name", sorted(RAW))
def test_every_fact_has_a_source_a_date_and_a_confidence(name):
    """Every one that the file states, no other, and every licence state too."""
    described = CLASSES[name]
    assert {fact.name: fact.value for fact in described.stated} == {
        path: value.isoformat() if isinstance(value, date) else value for path, value in leaves(RAW[name])
    }
    titles = {f"{source['title']} ({source['as_of']})" for source in SOURCES.values()}
    for fact in (*described.stated, *described.licence):
        assert fact.source in titles
        assert date(2020, 1, 1) <= date.fromisoformat(fact.as_of)
        assert fact.confidence in ("high", "medium", "low")
    for step in described.licence:
        assert step.text


def test_every_source_is_cited_and_says_where_and_when():
    """A source without an address is of low or medium confidence."""
    cited = {fact.source for described in CLASSES.values() for fact in (*described.stated, *described.licence)}
    for name, source in SOURCES.items():
        assert f"{source['title']} ({source['as_of']})" in cited, name
        assert source.get("url", "").startswith("https://") or source["confidence"] != "high", name
    assert "CC-BY" in SOURCES["epoch"]["licence"]


@pytest.mark.parametrize("name", sorted(RAW))
def test_export_attributes_follow_from_the_figures(name):
    """Computed here once more, from the file and the text of the rule."""
    peaks, area = RAW[name].get("peak_tops", {}), RAW[name].get("die_area_mm2")
    facts = CLASSES[name].facts
    tpp = max((peak * int(precision.strip("fpint")) for precision, peak in peaks.items()), default=None)
    density = tpp / area if tpp is not None and area is not None else None
    assert facts.export_tpp == pytest.approx(tpp)
    assert facts.export_performance_density == pytest.approx(density)
    possible = {by_the_text_of_the_rule(tpp, d) for d in ((density,) if density else (0, 2, 4, 6))} if tpp else set()
    assert facts.export_class == (possible.pop() if len(possible) == 1 else None)
    assert "export" not in RAW[name], "computed, never written by hand"


def test_class_by_numbers_and_licence_state_are_kept_apart():
    """The H20 is below every line and needs a licence; the Inferentia 2's class hangs on an area that nobody states."""
    at = {name: (facts.export_class, facts.licence_state(1.79e9)) for name, facts in catalogue().items()}
    assert at["nvidia-h20"] == ("none", "required")
    assert at["nvidia-h100-sxm"] == ("3A090.a", "case-by-case")
    assert at["huawei-ascend-910b3"] == ("3A090.a", "use-restricted")
    assert at["aws-inferentia2"] == (None, None)
    assert at["x86-cpu"] == (None, None)


def test_providers_are_those_that_pointsman_has():
    """A class without one has no backend yet."""
    named = {fact.value for described in CLASSES.values() for fact in described.stated if fact.name == "provider"}
    assert named == {"cpu", "cuda", "cann"} <= PROVIDERS


def values(name):
    return {fact.name: fact.value for fact in CLASSES[name].stated}


def test_types_are_what_ray_makes_of_the_drivers_names():
    """By Ray's own code: what a node of that hardware reports is what the class asks for."""
    from ray._private.accelerators.amd_gpu import amd_product_dict
    from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager

    detected = NvidiaGPUAcceleratorManager._gpu_name_to_accelerator_type
    checked = 0
    for name in CLASSES:
        known = values(name)
        for driver in known.get("aliases.driver", ()) if name.startswith("nvidia-") else ():
            assert detected(driver) == known["ray.type"], driver
            checked += 1
    assert checked >= 15
    assert values("amd-mi300x")["ray.type"] in amd_product_dict.values()


def test_a_type_that_more_than_one_class_reports_is_not_exact():
    """And one that no source states is not there."""
    types = [known["ray.type"] for known in map(values, CLASSES) if "ray.type" in known]
    for name in CLASSES:
        known = values(name)
        if types.count(known.get("ray.type")) > 1 or ("ray.resource" in known and "ray.type" not in known):
            assert known["ray.exact"] is False, name
    assert "ray.type" not in values("huawei-ascend-910c")
    never_detected = {"Ascend910B", "Intel-GAUDI", "AMD-Instinct-MI308X", "A100-40G", "A100-80G"}
    assert not never_detected & set(types)


@pytest.mark.skipif(not COLLECTED.exists(), reason="figures collected apart are not beside the checkout")
def test_the_catalogue_agrees_with_the_figures_collected_beforehand():
    """Number by number, where both have one; export attributes as worked out there."""
    with COLLECTED.open() as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    columns = {
        "peak_tops.fp16": "fp16_bf16_dense_tflops",
        "peak_tops.fp8": "fp8_dense_tflops",
        "peak_tops.int8": "int8_dense_tops",
        "peak_tops.fp4": "fp4_dense_tflops",
        "memory_gib": "memory_gb",
        "memory_bandwidth_gb_per_s": "memory_bw_gbs",
        "tdp_w": "tdp_w",
        "die_area_mm2": "die_area_mm2",
    }
    compared = 0
    for name in CLASSES.keys() & rows.keys():
        row, known, facts = rows[name], values(name), CLASSES[name].facts
        for fact, column in columns.items():
            if fact in known:
                assert known[fact] == float(row[column]), (name, fact)
                compared += 1
            else:
                assert not row[column] or (name, fact) == ("huawei-ascend-310p", "tdp_w"), (name, fact)
        assert facts.headquarters == row["vendor_hq"]
        assert facts.export_tpp == pytest.approx(float(row["tpp"]))
        density, there = facts.export_performance_density, row["performance_density"]
        assert (density is None) == (not there)
        assert density is None or density == pytest.approx(float(there), abs=0.005)
        class_there = row["class_by_numbers"]
        assert facts.export_class == (None if class_there.startswith("unknown") else class_there)
        if "ray.type" in known:
            assert known["ray.type"] == row["ray_accelerator_type"]
        assert known.get("kubernetes") == row["k8s_resource"]
    assert compared > 100
