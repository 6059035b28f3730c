"""Backend types of other packages in a fleet file: known through an argument, their options judged by the package."""

from pathlib import Path

import pytest

from router.config.check_backend import Judged
from router.config.load import load
from router.config.problems import ConfigError
from router.config.settings import Settings

FLEET = """
accelerators:
  acme-npu: {{vendor: Acme, headquarters: SG, source: data sheet 7, as_of: 2026-01-01, ray: {{resource: ACME_NPU}}}}
pools:
  - name: npu
    accelerator: {accelerator}
    region: eu-1
    models: [m]
    backend: {backend}
"""
OPTIONS = {"tiles": [{"rows": 8, "on": True}, 1.5], "mode": None, "name": "a"}
SOUND = Judged()
YAML = "{type: acme, options: {tiles: [{rows: 8, on: true}, 1.5], mode: null, name: a}}"


@pytest.fixture
def loaded(tmp_path):
    """Load a fleet file with one pool of this backend; `judged` is what the package says."""

    def load_it(backend, judged=SOUND, accelerator="acme-npu", seen=None):
        def judge(options):
            if seen is not None:
                seen.append(options)
            return judged

        (tmp_path / "fleet.yaml").write_text(FLEET.format(backend=backend, accelerator=accelerator))
        return load(tmp_path / "fleet.yaml", kinds={"acme": judge, "onnx": judge})

    return load_it


@pytest.fixture
def faults(loaded):
    """(line, path, words) of each fault of such a file."""

    def told(*args, **more):
        with pytest.raises(ConfigError) as error:
            loaded(*args, **more)
        return [(problem.line, problem.path, problem.message) for problem in error.value.problems]

    return told


@pytest.mark.parametrize("emulated", [True, False])
def test_a_pool_of_another_package_carries_its_type_and_options(loaded, emulated):
    """The type is the provider that rules and metrics see; whether it is emulated is the package's word."""
    seen = []
    (pool,) = loaded(YAML, Judged(emulated=emulated), seen=seen).pools
    assert (pool.backend, pool.options, seen) == ("acme", OPTIONS, [OPTIONS])
    assert (pool.facts.provider, pool.facts.emulated) == ("acme", emulated)
    assert (pool.facts.accelerator.vendor, pool.hardware.ray_resource) == ("Acme", "ACME_NPU")


def test_options_travel_to_routers_as_they_are(loaded):
    """Nested values, null and booleans included."""
    settings = loaded(YAML)
    assert Settings.from_wire(settings.to_wire()) == settings


def test_a_class_with_a_default_provider_may_be_run_by_another_package(loaded):
    """What runs on what is known of ONNX Runtime's providers only."""
    assert loaded("{type: acme}", accelerator="huawei-ascend-910b3").pools[0].facts.provider == "acme"


def test_what_the_package_refuses_is_told_at_its_place(faults):
    """Below `backend`, at the line of the key or of what is nearest above it."""
    judged = Judged(faults=(("options.tiles[1]", "too wide"), ("type", "cannot be loaded")))
    backend = "\n      type: acme\n      options:\n        tiles:\n          - 1\n          - 2"
    assert faults(backend, judged) == [
        (10, "pools[0].backend.type", "cannot be loaded"),
        (14, "pools[0].backend.options.tiles[1]", "too wide"),
    ]


def test_keys_beside_options_are_refused(faults):
    """What a built-in type takes flat stands under `options` here."""
    seen = []
    assert faults("{type: acme, tiles: 2}", seen=seen) == [
        (9, "pools[0].backend.tiles", "what acme takes stands under options:")
    ]
    assert seen == []


def test_a_built_in_type_is_never_another_package_s(faults):
    """Also where the loader is told of one with that name."""
    assert faults("{type: onnx, options: {}}", accelerator="x86-cpu") == [
        (9, "pools[0].backend.options", "a backend of type onnx takes only provider, threads")
    ]


def test_a_type_that_no_package_has_lists_those_that_are_there(faults):
    """The installed ones beside the built-in ones."""
    ((_, path, words),) = faults("{type: zebra}")
    assert path == "pools[0].backend.type"
    assert words.startswith('unknown backend "zebra"; known: acme, emulated, oip_upstream, onnx; a type of another')
    assert faults("{type: acne}")[0][2] == 'unknown backend "acne"; did you mean "acme"?'


@pytest.mark.parametrize(
    ("options", "path", "words"),
    [
        ("{a: {b: [[[[[[[1]]]]]]]}}", "options.a.b[0][0][0][0][0][0][0]", "is nested deeper than 8 levels"),
        ("{a: [" + "1, " * 1000 + "]}", "options", "hold more than 1000 values"),
        ("{a: [b, " + "c" * 4097 + "]}", "options.a[1]", "must be at most 4096 characters long"),
        ("{a: 9223372036854775808}", "options.a", "must fit in 64 bits"),
        ("{a: 1e999}", "options.a", "must be a finite number"),
        ("{'': 1}", "options.", "must not be empty"),
    ],
)
def test_options_have_bounds(faults, options, path, words):
    """They travel to every replica; what is beyond is refused before the package sees it."""
    seen = []
    assert faults(f"{{type: acme, options: {options}}}", seen=seen) == [(9, f"pools[0].backend.{path}", words)]
    assert seen == []


def test_the_package_is_not_asked_for_a_pool_that_has_other_faults(loaded, tmp_path):
    """A faulty pool is left out as a whole."""
    text = FLEET.format(backend=YAML, accelerator="acme-npu").replace("region: eu-1", "cost: 0")
    Path(tmp_path / "fleet.yaml").write_text(text)
    with pytest.raises(ConfigError):
        load(tmp_path / "fleet.yaml", kinds={"acme": lambda _: pytest.fail("was asked")})
