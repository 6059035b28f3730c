"""Pools that are other servers: what the fleet file may say of them, and what is refused with its path."""

import pytest

from router.config.load import load
from router.config.problems import ConfigError
from router.config.settings import Settings

FLEET = """
pools:
  - name: far
    accelerator: nvidia-h20
    region: there
    models: [mlp]
    backend: {{type: {kind}, {more}}}
policy_default: allow
"""


def written(tmp_path, more, kind="oip_upstream"):
    for name in ("token", "ca.pem"):
        (tmp_path / name).touch()
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET.format(more=more, kind=kind))
    return path


def test_every_key_arrives_and_files_are_found_from_the_fleet_file(tmp_path):
    """Also after the way to a router as plain JSON."""
    more = (
        'url: "https://far:8000", connections: 4, tensors: json, authorization_file: token, ca_file: ca.pem, '
        'metrics_url: "http://far:8002/metrics", health_period: 200ms, hung_after: 2s, timeout_parameter: false, '
        "names: {mlp: other}, versions: {mlp: '3'}, emulated: true"
    )
    settings = load(written(tmp_path, more))
    (pool,) = Settings.from_wire(settings.to_wire()).pools
    assert pool == settings.pools[0]
    assert pool.options == {
        "url": "https://far:8000",
        "connections": 4,
        "tensors": "json",
        "authorization_file": str(tmp_path / "token"),
        "ca_file": str(tmp_path / "ca.pem"),
        "metrics_url": "http://far:8002/metrics",
        "health_period": 0.2,
        "hung_after": 2.0,
        "timeout_parameter": False,
        "names": {"mlp": "other"},
        "versions": {"mlp": "3"},
        "emulated": True,
    }
    assert (pool.facts.provider, pool.facts.emulated, pool.deviceless) == ("oip_upstream", True, True)


def test_an_upstream_is_not_emulated_unless_it_says_so(tmp_path):
    """Its class is declared, and no device of this cluster is asked for."""
    (pool,) = load(written(tmp_path, 'url: "http://far:8000"')).pools
    assert (pool.facts.emulated, pool.deviceless, pool.facts.accelerator.name) == (False, True, "nvidia-h20")


@pytest.mark.parametrize(
    ("more", "path", "words"),
    [
        ("connections: 4", "url", "is required"),
        ("url: 'far:8000'", "url", "http:// or https://"),
        ("url: 'http://user:secret@far:8000'", "url", "authorization_file"),
        ("url: 'http://far:8000/v2'", "url", "after host and port"),
        ("url: 'http://far:8000', connections: 0", "connections", "at least 1"),
        ("url: 'http://far:8000', tensors: text", "tensors", "binary"),
        ("url: 'http://far:8000', ca_file: ca.pem", "ca_file", "https"),
        ("url: 'http://far:8000', names: {nlp: other}", "names.nlp", "mlp"),
        ("url: 'http://far:8000', versions: {nlp: '1'}", "versions.nlp", "mlp"),
        ("url: 'http://far:8000', health_period: 2s", "health_period", "at most"),
        ("url: 'http://far:8000', conections: 4", "conections", "connections"),
        ("url: 'http://far:8000', threads: 4", "threads", "takes only"),
    ],
)
def test_what_cannot_be_is_refused_with_its_path(tmp_path, more, path, words):
    """And no word of a credential is repeated."""
    with pytest.raises(ConfigError) as refused:
        load(written(tmp_path, more))
    told = str(refused.value)
    assert f"pools[0].backend.{path}" in told
    assert words in told
    assert "secret" not in told


def test_other_backends_take_none_of_its_keys(tmp_path):
    """A URL of a pool that runs here would mean nothing."""
    with pytest.raises(ConfigError, match="takes only"):
        load(written(tmp_path, 'url: "http://far:8000"', "emulated"))
