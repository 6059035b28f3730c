"""What a sound configuration becomes."""

import json
import shutil
from pathlib import Path

import pytest

from router.config.build import policy_table, routing_profile
from router.config.load import catalogue, load, load_value, read_stream_key, tenants_yaml
from router.config.problems import ConfigError
from router.config.settings import Settings
from router.core.facts import Emulation
from router.core.profile import default_profile
from router.policy.credentials import Credentials, digest

EXAMPLES = Path(__file__).parents[4] / "examples"
FLEET = """
accelerators:
  acme-asic: {vendor: Acme, headquarters: SG, provider: cpu, source: data sheet 7, as_of: 2026-01-01}
  nvidia-h20: {export: {class: null, tpp: 2400}, source: our lab, as_of: 2026-02-02}
pools:
  - {name: a, accelerator: acme-asic, region: eu-1, models: [m, n], cost: 2, variants: {n: fp16},
     replicas: {min: 0, max: 4}, labels: {x: "1"}, node_labels: {topology.kubernetes.io/zone: eu-1a}}
  - {name: b, accelerator: nvidia-h20, region: cn-1, models: [m], backend: {type: emulated, seed: 7, time_scale: 2}}
tenants:
  - {id: t, priority: batch, labels: {data: eu}}
policies:
  - {name: all, when: "true", allow: "true", from: 2023-11-17, until: "2023-11-17T08:00:00+08:00"}
models:
  m: {latency_target: 50ms, deadline: 1s, prefer: [nvidia-h20, acme-asic]}
model_store: store
stream: {key_file: /etc/key}
"""


@pytest.fixture
def fleet(tmp_path):
    (tmp_path / "fleet.yaml").write_text(FLEET.replace('until: "2023-11-17T08:00:00+08:00"', "until: 2023-11-18"))
    return load(tmp_path / "fleet.yaml")


def test_pools_carry_facts_replicas_and_backend_options(fleet):
    """Added classes and changed facts included; what is not stated stays as the catalogue has it."""
    a, b = fleet.pools
    assert (a.replicas_min, a.replicas_max, a.backend, a.options) == (0, 4, "onnx", {"provider": "cpu"})
    assert (a.facts.accelerator.vendor, a.facts.accelerator.export_tpp, a.facts.labels) == ("Acme", None, {"x": "1"})
    assert (a.node_labels, b.node_labels) == ({"topology.kubernetes.io/zone": "eu-1a"}, {})
    assert (b.replicas_min, b.replicas_max, b.facts.emulated, b.facts.provider) == (1, 1, True, "cpu")
    assert b.options == {"seed": 7, "time_scale": 2.0}
    chip = b.facts.accelerator
    assert (chip.vendor, chip.export_tpp, chip.export_class, chip.source) == ("NVIDIA", 2400.0, None, "our lab")
    assert chip.export_performance_density == 2400 / 814, "from the TPP that is stated and the catalogue's die area"
    assert chip.licence == catalogue()["nvidia-h20"].licence


def test_variants_are_chosen_by_the_provider_of_the_hardware(fleet):
    """Also where that is emulated, here on a CPU; a wish travels by model."""
    a, b = fleet.pools
    assert (a.native_provider, b.native_provider) == ("cpu", "cuda")
    assert (a.variants, b.variants) == ({"n": "fp16"}, {})


def test_an_emulated_pool_says_whose_times_it_keeps(fleet, tmp_path):
    """Of the class's bundled profile, or of the file it names, from where the fleet file lies."""
    assert [pool.facts.emulation for pool in fleet.pools] == [None, Emulation("assumed", 2.0)]
    written = (tmp_path / "fleet.yaml").read_text()
    for name, text, basis in (
        ("none.yaml", "", "unknown"),
        ("own.yaml", "accelerator: nvidia-h20\nbasis: measured\nnote: ours\nmodels: {}\n", "measured"),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / "fleet.yaml").write_text(written.replace("seed: 7", f"profile: {name}"))
        pool = load(tmp_path / "fleet.yaml").pools[1]
        assert pool.facts.emulation == Emulation(basis, 2.0)
        assert pool.options["profile"] == str(tmp_path / name)


def test_paths_are_relative_to_the_file(fleet, tmp_path):
    """Not to where the command runs."""
    assert (fleet.model_store, fleet.stream_key_file) == (str(tmp_path / "store"), "/etc/key")


def test_every_served_model_has_its_times(fleet):
    """Its own or the defaults."""
    assert {name: (m.latency_target_s, m.deadline_s) for name, m in fleet.models.items()} == {
        "m": (0.05, 1.0),
        "n": (0.1, 2.0),
    }


def test_dates_are_midnight_utc_and_times_keep_their_offset(fleet, tmp_path):
    """An interval that is empty once offsets are counted is refused."""
    assert (fleet.rules[0].valid_from_s, fleet.rules[0].valid_until_s) == (1700179200.0, 1700265600.0)
    (tmp_path / "fleet.yaml").write_text(FLEET)
    with pytest.raises(ConfigError, match="from must be before until"):
        load(tmp_path / "fleet.yaml")


def test_a_preference_of_a_model_reaches_the_verdicts(fleet):
    """In its order, through the same table as rules."""
    table = policy_table(fleet, {"m": ("1",), "n": ("1",)})
    table.fill(1700200000.0)
    prefer = {
        model: [verdict.prefer for verdict in table.lookup("t", model, "", 2).verdicts.values()] for model in "mn"
    }
    assert prefer == {"m": [0.5, 1.0], "n": [0.0, 0.0]}


def test_settings_travel_as_plain_json(fleet):
    """To router replicas that have no files; the digest tells one content from another."""
    wire = fleet.to_wire()
    assert Settings.from_wire(wire) == fleet
    assert plain(wire)
    assert fleet.stamped().digest == fleet.digest
    assert Settings.from_wire(wire | {"default_allow": True}).stamped().digest != fleet.digest


def plain(value):
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(item) for key, item in value.items())
    return all(map(plain, value)) if isinstance(value, list) else isinstance(value, str | int | float | bool | None)


def test_the_default_profile_is_the_core_s_own(fleet):
    """One place says what default means."""
    built, default = routing_profile(fleet.routing), default_profile()
    assert (built.filters, built.scorers, built.picker) == (default.filters, default.scorers, default.picker)


def test_a_profile_may_be_written_out(tmp_path):
    """Weights, filters and picker by name."""
    profile = "routing: {profile: {filters: [capacity, model, readiness], scorers: {cost: 3}, picker: power_of_two}}"
    (tmp_path / "f.yaml").write_text(f"pools: [{{name: a, accelerator: x86-cpu, region: r, models: [m]}}]\n{profile}\n")
    built = routing_profile(load(tmp_path / "f.yaml").routing)
    assert ([f.__name__ for f in built.filters], built.weights, built.picker.__name__) == (
        ["capacity", "model", "readiness"],
        {"cost": 3.0},
        "power_of_two",
    )


def test_a_tenants_file_adds_keys_and_tenants(tmp_path):
    """What `pointsman` writes at its first start is what it reads."""
    (tmp_path / "fleet.yaml").write_text(
        "pools: [{name: a, accelerator: x86-cpu, region: r, models: [m]}]\n"
        f"tenants: [{{id: t, priority: batch, keys: ['sha256:{digest('old')}']}}]\ntenants_file: keys.yaml\n"
    )
    (tmp_path / "keys.yaml").write_text(tenants_yaml({"t": digest("new"), "u": digest("other")}))
    settings = load(tmp_path / "fleet.yaml")
    credentials = Credentials(settings.tenants)
    shown = {key: credentials.authenticate(key) for key in ("old", "new", "other", "wrong")}
    assert {key: tenant and (tenant.id, tenant.priority) for key, tenant in shown.items()} == {
        "old": ("t", 2),
        "new": ("t", 2),
        "other": ("u", 1),
        "wrong": None,
    }
    assert settings.tenants_file == str(tmp_path / "keys.yaml")


def test_a_tenants_file_may_hold_the_operators_key(tmp_path):
    """Beside that of the fleet file, also where it has no tenants."""
    (tmp_path / "fleet.yaml").write_text(
        "pools: [{name: a, accelerator: x86-cpu, region: r, models: [m]}]\n"
        f"server: {{admin: {{keys: ['sha256:{digest('mine')}']}}}}\ntenants_file: keys.yaml\n"
    )
    (tmp_path / "keys.yaml").write_text(tenants_yaml({}, digest("made")))
    assert load(tmp_path / "fleet.yaml").server.admin.key_digests == (digest("mine"), digest("made"))
    (tmp_path / "keys.yaml").write_text(tenants_yaml({"t": digest("mine")}))
    with pytest.raises(ConfigError, match=r'keys.yaml:2: tenants: tenant "t" and the operator have the same key'):
        load(tmp_path / "fleet.yaml")


def test_the_local_example_loads_and_means_what_it_says(tmp_path):
    """One tenant gets Ascend only, batch work stays off trial pools, before and after keys are made."""
    (tmp_path / "examples").mkdir()
    shutil.copy(EXAMPLES / "fleet-local.yaml", tmp_path / "examples")
    path, models = tmp_path / "examples" / "fleet-local.yaml", {"minilm": ("1",), "mlp": ("1",)}
    settings = load(path, models, tenants_file_may_be_absent=True)
    assert [tenant.key_digests for tenant in settings.tenants] == [(), ()]
    Path(settings.tenants_file).parent.mkdir(exist_ok=True)
    Path(settings.tenants_file).write_text(tenants_yaml({tenant.id: digest(tenant.id) for tenant in settings.tenants}))
    settings = load(path, models)
    table = policy_table(settings, models)
    table.fill(0.0)

    def eligible(tenant, priority):
        return {n for n, v in table.lookup(tenant, "minilm", "1", priority).verdicts.items() if v.allowed}

    assert eligible("demo", 0) == eligible("demo", 1) == {"cpu", "openvino", "a910-sh"}
    assert eligible("demo", 2) == {"cpu", "openvino"}
    assert eligible("ascend-only", 1) == {"a910-sh"}
    assert eligible("ascend-only", 2) == set()


def test_a_stream_key_is_read_and_a_short_one_refused(tmp_path):
    """The key is no part of the settings."""
    (tmp_path / "good").write_text("k" * 32 + "\n")
    (tmp_path / "short").write_text("k" * 31 + "\n")
    assert read_stream_key(tmp_path / "good") == b"k" * 32
    with pytest.raises(ConfigError, match="holds 31 bytes; a key needs 32"):
        read_stream_key(tmp_path / "short")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_stream_key(tmp_path / "none")


VALUE = {
    "pools": [{"name": "a", "accelerator": "x86-cpu", "region": "r", "models": ["m"]}],
    "server": {"http": {"tls": {"certificate": "/absent.crt", "key": "/absent.key"}}},
    "stream": {"beyond_loopback": True},
}


def test_a_fleet_that_comes_as_a_value_is_checked_as_a_file_is():
    """Faults with their paths; a certificate is tried unless it is said to be elsewhere."""
    assert load_value(VALUE, certificates=False).stream_beyond_loopback
    with pytest.raises(ConfigError, match=r"fleet:1: server\.http\.tls: /absent\.crt and /absent\.key cannot be used"):
        load_value(VALUE)
    with pytest.raises(ConfigError, match=r"pools\[0\]\.models\[0\]: unknown model"):
        load_value(VALUE, {"other"}, certificates=False)
    with pytest.raises(ConfigError, match="modles"):
        load_value(VALUE | {"modles": {}}, certificates=False)


def test_a_file_that_an_upstream_pool_names_is_looked_for(tmp_path):
    """As a replica would; not where the fleet comes as a value, away from its files. Paths start from the file."""
    pool = {"name": "u", "accelerator": "x86-cpu", "region": "r", "models": ["m"]}
    backend = {"type": "oip_upstream", "url": "https://there:1", "authorization_file": "token"}
    fleet = {"pools": [pool | {"backend": backend}]}
    (tmp_path / "fleet.yaml").write_text(json.dumps(fleet))
    with pytest.raises(ConfigError, match=r"pools\[0\]\.backend\.authorization_file: .*/token cannot be read"):
        load(tmp_path / "fleet.yaml")
    (tmp_path / "token").write_text("secret")
    assert load(tmp_path / "fleet.yaml").pools[0].options["authorization_file"] == str(tmp_path / "token")
    (pool,) = load_value(fleet, certificates=False).pools
    assert pool.options["authorization_file"] == "/token"
