"""The table of backend kinds, with real entry points of other distributions."""

import textwrap

import numpy as np
import pytest

from deployments.backends import registry
from deployments.backends.base import BackendError, LoadContext
from deployments.backends.onnx import OnnxBackend
from deployments.devices import tiny_model

HERE = LoadContext("p", "acme-npu")
THEIRS = """
    import msgspec
    from deployments.backends.base import Backend, BackendError, Placement

    class Tile(msgspec.Struct, forbid_unknown_fields=True):
        rows: int

    class Options(msgspec.Struct, forbid_unknown_fields=True):
        tiles: list[Tile] = []
        mode: str = "plain"
        by_name: dict[str, int] = {}
        def __post_init__(self):
            if self.mode == "odd":
                raise ValueError("mode and tiles exclude each other")
            if self.mode == "worse":
                raise RuntimeError("their own fault")

    class Theirs(Backend):
        api_version = 1
        Options = Options
        def __init__(self, spec, options, context):
            if options.get("mode") == "raise":
                raise OSError("no device /dev/acme0")
            if options.get("mode") == "refuse":
                raise BackendError("the driver is too old")
            self.given = spec, options, context
            elsewhere = 1 if options.get("mode") == "split" else 0
            nodes = 0 if options.get("mode") == "nowhere" else 2
            self.placement = Placement("theirs", nodes, elsewhere, "chip 0")
        def run(self, inputs, outputs):
            return {"y": inputs["x"]}
        def close(self):
            self.closed = True

    class Newer(Theirs):
        api_version = 2

    class Silent(Backend):
        __init__ = Theirs.__init__
        run = Theirs.run
        close = Theirs.close

    class Loose(Theirs):
        class Options(msgspec.Struct):
            pass

    class Plain(Theirs):
        Options = dict

    class Half(Backend):
        api_version = 1
        run = Theirs.run

    class Unsure(Theirs):
        emulated = "partly"

    def build(spec, options, context):
        return Theirs(spec, options, context)
"""
KINDS = {
    "theirs": "their_backend:Theirs", "newer": "their_backend:Newer", "silent": "their_backend:Silent",
    "loose": "their_backend:Loose", "unsure": "their_backend:Unsure", "function": "their_backend:build",
    "broken": "no_such:build", "plain": "their_backend:Plain", "half": "their_backend:Half",
    "onnx": "their_backend:Theirs", "twice": "their_backend:Theirs",
}  # fmt: skip


def install(folder, name, kinds):
    """A distribution of that name in the folder, as an installer leaves it."""
    info = folder / f"{name}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    points = "\n".join(f"{kind} = {value}" for kind, value in kinds.items())
    (info / "entry_points.txt").write_text(f"[pointsman.backends]\n{points}\n")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Two other distributions on the path."""
    install(tmp_path, "theirs", KINDS)
    install(tmp_path, "others", {"twice": "their_backend:Theirs"})
    (tmp_path / "their_backend.py").write_text(textwrap.dedent(THEIRS))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "their_backend", raising=False)


@pytest.fixture
def spec(tmp_path):
    """A model whose file is what its checksum says."""
    return tiny_model(tmp_path)[0]


def test_onnx_is_built_in_and_cannot_be_replaced(installed, spec):
    """The table's own kinds need no entry point, and no entry point gets their name."""
    assert isinstance(registry.create("onnx", spec, {}, HERE), OnnxBackend)
    assert "onnx" not in registry.kinds()


def test_an_entry_point_adds_a_kind(installed, spec):
    """It is made with the model, the pool's options and what it is loaded for; what it does not say has a default."""
    backend = registry.create("theirs", spec, {"mode": "a"}, HERE)
    assert backend.given == (spec, {"mode": "a"}, HERE)
    assert (backend.emulated, backend.overruns) == (False, 0)
    backend.check_health()
    x = np.ones((1, 16), np.float32)
    assert backend.run({"x": x}, ())["y"] is x


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("broken", r"'broken' cannot be loaded from no_such:build of theirs 1\.5: ModuleNotFoundError: .*no_such"),
        ("newer", r"Newer of theirs 1\.5 needs version 2 of the backend contract; this Pointsman has version 1: inst"),
        ("silent", r"their_backend:Silent of theirs 1\.5 states no api_version; this Pointsman has version 1"),
        ("function", r"their_backend:build of theirs 1\.5 is no subclass of deployments\.backends\.base\.Backend"),
        ("loose", "Options that let unknown keys pass: a msgspec.Struct with forbid_unknown_fields=True is needed"),
        ("plain", "Options that let unknown keys pass"),
        ("half", r"their_backend:Half of theirs 1\.5 lacks __init__, close"),
        ("unsure", "states no emulated of True or False"),
        ("twice", r"'twice' is registered twice, by (theirs 1\.5 and others 1\.5|others 1\.5 and theirs 1\.5)"),
        ("onx", "unknown backend kind 'onx', known: .*emulated, .*onnx, .*theirs, .*; a further one comes with a pack"),
    ],
)
def test_what_does_not_fit_the_contract_is_refused_before_anything_is_loaded(installed, spec, kind, words):
    """With the package, its version and what to do; alike at load, and where a fleet file is checked."""
    with pytest.raises(BackendError, match=words):
        registry.create(kind, spec, {}, HERE)
    with pytest.raises(BackendError, match=words):
        registry.find(kind)
    ((path, told),) = registry.judge(kind, {}).faults
    assert path == "type"
    with pytest.raises(BackendError, match=words):
        raise BackendError(told)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({}, None),
        ({"tiles": [{"rows": 1}], "mode": "x"}, None),
        ({"tile": 1}, ("options.tile", "unknown key; known: tiles, mode, by_name")),
        ({"mode": 1}, ("options.mode", "Expected `str`, got `int`")),
        ({"tiles": [{"rows": 1}, {"rows": "2"}]}, ("options.tiles[1].rows", "Expected `int`, got `str`")),
        ({"tiles": [{"rows": 1, "cols": 2}]}, ("options.tiles[0].cols", "unknown key")),
        ({"by_name": {"a": "b"}}, ("options.by_name[...]", "Expected `int`, got `str`")),
        ({"mode": "odd"}, ("options", "mode and tiles exclude each other")),
        ({"mode": "worse"}, ("options", "RuntimeError: their own fault")),
    ],
)
def test_options_are_held_against_the_package_s_own_type(installed, options, fault):
    """The path leads to the key at fault; whatever the package's check raises is told as its own."""
    judged = registry.kinds()["theirs"](options)
    assert judged.faults == (() if fault is None else (fault,))
    assert judged.emulated is False


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("raise", "backend theirs: tiny: OSError: no device /dev/acme0"),
        ("refuse", "^the driver is too old$"),
        ("split", "theirs runs 2 nodes and 1 run elsewhere"),
        ("nowhere", "theirs runs 0 nodes and 0 run elsewhere"),
    ],
)
def test_a_model_that_does_not_load_whole_on_the_device_is_refused(installed, spec, mode, words):
    """Whatever the package raises, and also where it does not notice."""
    with pytest.raises(BackendError, match=words):
        registry.create("theirs", spec, {"mode": mode}, HERE)


def test_a_package_never_sees_a_file_that_was_altered(installed, spec, tmp_path):
    """Checksums are compared before its class is called."""
    with (tmp_path / "tiny.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BackendError, match=r"tiny\.onnx: sha256 .* expected"):
        registry.create("theirs", spec, {}, HERE)
