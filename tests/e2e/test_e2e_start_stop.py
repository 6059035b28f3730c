"""`pointsman serve` as a person uses it: start, Ctrl-C, start again; at no point is a process of it left behind."""

import json

import httpx
import pytest
from fleet import Fleet, start_fleet
from payloads import MLP_INFER, mlp

pytestmark = pytest.mark.cluster

SMALL = """
pools:
  - {name: cpu, accelerator: x86-cpu, region: local, models: [mlp]}
tenants:
  - {id: demo}
policy_default: allow
"""


def test_ctrl_c_while_it_starts_leaves_nothing_and_the_next_start_keeps_the_keys(tmp_path, record_property):
    """It need not be ready to be stopped; what it made by then is taken up. Fleet.stop asserts that nothing is left."""
    stopped = Fleet.launch(SMALL, tmp_path)
    try:
        stopped.wait_until_it_says("starting 1 pools")
    finally:
        stopped.stop()
    assert (stopped.process.returncode, "ready after" in stopped.stderr()) == (0, False)
    keys = json.loads((stopped.state / "run" / "keys.json").read_text())

    with start_fleet(f"{SMALL}server: {{anonymous: {{tenant: demo}}}}\n", tmp_path) as fleet:
        record_property("second_start_s", round(fleet.start_s, 1))
        assert fleet.keys == keys
        assert keys["demo"] in fleet.stdout()
        reply = httpx.post(fleet.http_url + MLP_INFER, json=mlp(), headers=fleet.headers("demo"))
        assert (reply.status_code, reply.headers["x-pointsman-pool"]) == (200, "cpu")
        for headers, status in (({}, 200), ({"authorization": "Bearer pm_wrong"}, 401), ({"x-api-key": ""}, 401)):
            assert httpx.post(fleet.http_url + MLP_INFER, json=mlp(), headers=headers).status_code == status
    assert fleet.process.returncode == 0


def test_a_taken_port_is_said_and_nothing_is_started(fleet, tmp_path):
    """Two routers on one port would share its connections."""
    port = httpx.URL(fleet.http_url).port
    second = Fleet.launch(f"{SMALL}server: {{http: {{port: {port}}}}}\n", tmp_path)
    assert second.process.wait(30) == 2
    second.stop()
    assert "is taken" in second.stderr()
    assert "starting Ray" not in second.stderr()
