"""What the rendered chart means: who lands where, who sees which secret, and what an upgrade restarts."""

from __future__ import annotations

import chart
import pytest

from deployments.chart import ROLE_LABEL
from deployments.placement import CLASS_LABEL
from router.config.check_backend import Judged
from router.config.load import load_value

KINDS = {"acme": lambda options: Judged(emulated=True)}
each_values = pytest.mark.parametrize("values", chart.VALUES)


def pods(service: dict) -> dict[str, dict]:
    """Pod specs by group, the head's among them."""
    cluster = service["spec"]["rayClusterConfig"]
    workers = {name: group["template"]["spec"] for name, group in chart.groups(service).items()}
    return {"head": cluster["headGroupSpec"]["template"]["spec"], **workers}


def applications(*sets: str) -> dict[str, dict]:
    """Serve applications of the CPU values by name."""
    return {a["name"]: a for a in chart.serve_config(chart.rayservice("cpu", *sets))["applications"]}


@each_values
def test_every_pool_has_pods_with_its_label_and_its_devices(values):
    """As the catalogue or the fleet file says that Ray and Kubernetes know the class."""
    service = chart.rayservice(values)
    for application in chart.serve_config(service)["applications"][:-1]:
        (pool,) = load_value(application["args"]["fleet"], kinds=KINDS).pools
        name = "x86-cpu" if pool.backend == "emulated" else pool.facts.accelerator.name
        group = chart.groups(service)[name]
        assert group["labels"] == {CLASS_LABEL: name, ROLE_LABEL: "pool"}
        if pool.backend == "emulated" or not pool.hardware.ray_resource:
            assert group["resources"].keys() == {"CPU"}
            continue
        assert group["resources"] == {"CPU": "1", pool.hardware.ray_resource: "1"}
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert limits.get(pool.hardware.kubernetes_resource or next(iter(limits.keys() - {"memory"}))) == 1


def test_there_are_as_many_pods_as_the_replicas_need():
    """From the fleet, or as the values say."""
    found = {name: group["replicas"] for name, group in chart.groups(chart.rayservice("h20-910b-asic")).items()}
    assert found == {"router": 2, "nvidia-h20": 2, "huawei-ascend-910b3": 4, "acme-asic-1": 1, "x86-cpu": 1}
    assert chart.groups(chart.rayservice("cpu", "classes.x86-cpu.pods=0"))["x86-cpu"]["replicas"] == 0
    assert chart.groups(chart.rayservice("cpu", "fleet.server.routers=3"))["router"]["replicas"] == 3


@each_values
def test_a_secret_is_mounted_only_where_it_is_used(values):
    """And none is in what Helm or Ray stores: names of Secrets, paths of files."""
    service = chart.rayservice(values, 'secrets.tls="pointsman-tls"')
    seen = {
        name: {v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v}
        for name, pod in pods(service).items()
    }
    assert seen.pop("head") == set()
    assert seen.pop("router") == {"pointsman-stream", "pointsman-tenants", "pointsman-tls"}
    assert all(names == {"pointsman-stream"} for names in seen.values())
    assert not any(document["kind"] == "Secret" for document in chart.documents(values))


@each_values
def test_pods_run_without_privileges(values):
    """Not as root, on a read-only root file system, without a token for Kubernetes."""
    for pod in pods(chart.rayservice(values)).values():
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip


@each_values
def test_only_routers_can_be_reached_through_a_service(values):
    """By ports that only their pods have; the admin listener has none. Each pod has a probe of its own: KubeRay's asks
    every worker for Serve's proxy, which is nowhere.
    """
    service = chart.rayservice(values)
    (ours,) = (d for d in chart.documents(values) if d["kind"] == "Service")
    assert ours["spec"]["selector"][ROLE_LABEL] == "router"
    targets = {port["targetPort"] for s in (ours, service["spec"]["serveService"]) for port in s["spec"]["ports"]}
    for name, pod in pods(service).items():
        (container,) = pod["containers"]
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
        assert ports == ({"pm-http": 8000, "pm-grpc": 8001, "pm-metrics": 8002} if name == "router" else {})
        assert targets <= ports.keys() or name != "router"
        assert container["readinessProbe"]["httpGet"]["path"] == ("/-/healthz" if name == "router" else "/api/healthz")


def test_with_tls_the_routers_present_the_certificate():
    """The fleet file names the mounted files, and the probe speaks TLS."""
    service = chart.rayservice("cpu", 'secrets.tls="pointsman-tls"')
    router = chart.serve_config(service)["applications"][-1]
    for fleet in (router["args"]["fleet"], router["deployments"][0]["user_config"]["fleet"]):
        assert fleet["server"]["http"]["tls"]["certificate"] == "/etc/pointsman/tls/tls.crt"
    (container,) = pods(service)["router"]["containers"]
    assert container["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"


@pytest.mark.parametrize(
    ("change", "restarted"),
    [
        ('fleet.policies=[{"name":"none","when":"true","deny":"true"}]', set()),
        ("fleet.models.minilm.latency_target=\"99ms\"", set()),
        ('fleet.tenants=[{"id":"other"}]', set()),
        ("fleet.server.routers=5", set()),
        ("fleet.pools[0].replicas=4", set()),
        ("fleet.models.minilm.max_rows=8", {"pool-cpu", "pool-a910-trial"}),
        ("fleet.pools[0].cost=3", {"pool-cpu", "router"}),
        ("fleet.limits={\"max_elements\":5}", {"router"}),
    ],
)  # fmt: skip
def test_an_upgrade_restarts_no_more_than_it_must(change, restarted):
    """Serve builds an application anew where its `args` differ; all else it hands to the replicas that run."""
    before, after = applications(), applications(change)
    assert {name for name in before if before[name]["args"] != after[name]["args"]} == restarted
    assert before != after
