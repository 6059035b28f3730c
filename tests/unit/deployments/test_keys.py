"""Keys of a local fleet: made once, kept for their owner alone."""

import pytest

from deployments.keys import admin_key, local_keys
from router.config.load import load
from router.policy.credentials import Credentials, digest

FLEET = f"""
pools: [{{name: p, accelerator: x86-cpu, region: r, models: [m]}}]
tenants: [{{id: t}}, {{id: known, keys: ["sha256:{digest("known")}"]}}]
tenants_file: local/tenants.yaml
"""


@pytest.fixture
def fleet(tmp_path):
    """A fleet file that leaves keys to a tenants file, which is absent."""
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET)
    return path


def test_tenants_without_a_key_and_the_operator_get_one_at_the_first_start(fleet, tmp_path):
    """The configuration that is loaded next knows them; a second start makes no others."""
    run = tmp_path / "run"
    made = local_keys(load(fleet, tenants_file_may_be_absent=True), run)
    settings = load(fleet)
    credentials = Credentials(settings.tenants, admin_digests=settings.server.admin.key_digests)
    assert set(made.tenants) == {"t"}
    assert credentials.authenticate(made.tenants["t"]).id == "t"
    assert credentials.is_admin(made.admin)
    assert not credentials.is_admin(made.tenants["t"])
    assert local_keys(settings, run) == made
    assert admin_key(run) == made.admin
    private = [*run.iterdir(), tmp_path / "local" / "tenants.yaml"]
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}
    assert len(private) == 3


def test_an_operator_with_a_key_gets_no_other(fleet, tmp_path):
    """Nor does one whose tenants file is there already: it is not written again."""
    fleet.write_text(f"{FLEET}server: {{admin: {{keys: ['sha256:{digest('mine')}']}}}}\n")
    made = local_keys(load(fleet, tenants_file_may_be_absent=True), tmp_path / "run")
    assert (made.admin, set(made.tenants)) == ("", {"t"})
    fleet.write_text(FLEET)
    file = tmp_path / "local" / "tenants.yaml"
    before = file.read_text()
    assert local_keys(load(fleet), tmp_path / "run").admin == ""
    assert file.read_text() == before


def test_a_fleet_without_a_tenants_file_makes_none(fleet, tmp_path):
    """Its operator writes digests."""
    fleet.write_text(FLEET.replace("tenants_file: local/tenants.yaml", ""))
    assert local_keys(load(fleet), tmp_path / "run").tenants == {}
    assert not (tmp_path / "run").exists()
