"""What helm makes of the chart, with both helms: sound for Kubernetes and KubeRay, or refused."""

from __future__ import annotations

import gzip
import json
import runpy
import subprocess
from pathlib import Path

import chart
import jsonschema
import pytest
import yaml

from deployments import chart as builders
from deployments.loopback import LoopbackOnly

SCHEMA = runpy.run_path(str(chart.ROOT / "scripts" / "helm_schema.py"))
CRD = Path(__file__).with_name("crds") / "ray.io_rayservices.yaml.gz"
both_helms = pytest.mark.parametrize("version", chart.HELMS)
each_values = pytest.mark.parametrize("values", chart.VALUES)
EVERYTHING = (
    "podMonitor.enabled=true",
    "dashboard.enabled=true",
    'secrets.tls="pointsman-tls"',
    'networkPolicy.monitoring=[{"namespaceSelector":{}}]',
    'imagePullSecrets=[{"name":"registry"}]',
)


@both_helms
@each_values
def test_helm_finds_no_fault(values, version):
    """`helm lint --strict`."""
    done = chart.helm(version, "lint", "--strict", str(chart.CHART), "-f", str(chart.CHART / f"values-{values}.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


@each_values
def test_both_helms_render_the_same(values):
    """Helm 3.17 and 4."""
    third, fourth = (chart.documents(values, *EVERYTHING, version=version) for version in chart.HELMS)
    assert third == fourth


@each_values
def test_kubernetes_takes_what_is_rendered(values, tmp_path):
    """Every document of Kubernetes' own kinds and the pods inside the RayService, unknown fields refused."""
    found = [d for d in chart.documents(values, *EVERYTHING) if d["kind"] not in ("RayService", "PodMonitor")]
    cluster = chart.rayservice(values, *EVERYTHING)["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "Pod", **group["template"]}
        pod["metadata"]["name"] = group.get("groupName", "head")
        found.append(pod)
    assert {d["kind"] for d in found} == {"Service", "NetworkPolicy", "PodDisruptionBudget", "ConfigMap", "Pod"}
    file = tmp_path / "rendered.yaml"
    file.write_text(yaml.safe_dump_all(found))
    command = [chart.TOOLS / "kubernetes-validate", "--strict", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def closed(schema):
    """The same schema, in which an object takes only the keys that it names."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    same = {key: closed(value) for key, value in schema.items()}
    open_ended = {"additionalProperties", "x-kubernetes-preserve-unknown-fields"} & schema.keys()
    if isinstance(schema.get("properties"), dict) and not open_ended:
        same["additionalProperties"] = False
    return same


@pytest.fixture(scope="module")
def kuberay():
    """KubeRay's definition of a RayService, unknown fields refused."""
    with gzip.open(CRD) as file:
        definition = yaml.load(file, yaml.CSafeLoader)
    (stored,) = (v for v in definition["spec"]["versions"] if v["storage"])
    whole = closed(stored["schema"]["openAPIV3Schema"])
    whole["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft202012Validator(whole)


@each_values
def test_kuberay_takes_the_rayservice(values, kuberay):
    """And would refuse a field that it does not know."""
    service = chart.rayservice(values, *EVERYTHING)
    assert list(kuberay.iter_errors(service)) == []
    service["spec"]["rayClusterConfig"]["headGroupSpec"]["replicaas"] = 1
    (refusal,) = kuberay.iter_errors(service)
    assert "'replicaas' was unexpected" in refusal.message


@both_helms
@pytest.mark.parametrize(
    ("values", "named"),
    [
        ("clases={}", "clases"),
        ('fleet.pools=[{"name":"a","accelerator":"x86-cpu","region":"r","modles":["m"]}]', "modles"),
        ('fleet.server={"http":{"host":"::"}}', "host"),
        ("classes.x86-cpu.image=null", "image"),
        ('secrets={"streamKey":""}', "streamKey"),
        ('fleet.stream={"key_file":"/k"}', "key_file"),
        ('fleet.models={"minilm":{"deadline":2}}', "deadline"),
    ],
)  # fmt: skip
def test_a_value_that_would_mean_nothing_is_refused(values, named, version):
    """At install, by name; in the fleet as in the chart's own values."""
    done = chart.template("cpu", values, version=version)
    assert done.returncode != 0
    assert named in done.stderr


def test_streams_between_pods_have_to_be_wanted():
    """They are not encrypted: the chart says so, and so does the application if somebody goes around the chart."""
    done = chart.template("cpu", "fleet.stream.beyond_loopback=false")
    assert "not encrypted; say true where you trust the network" in done.stderr
    config = chart.serve_config(chart.rayservice("cpu"))
    for application in config["applications"]:
        application["args"]["fleet"]["stream"]["beyond_loopback"] = False
        build = builders.router if application["name"] == "router" else builders.pool
        with pytest.raises(LoopbackOnly, match="not encrypted"):
            build(application["args"])


def test_a_pool_needs_pods_of_its_class():
    """Or it would wait for ever."""
    done = chart.template("cpu", 'fleet.pools=[{"name":"a","accelerator":"nvidia-h20","region":"r","models":["m"]}]')
    assert 'classes.nvidia-h20: is needed by the pool "a"' in done.stderr


def test_the_schema_is_that_of_the_code():
    """Written by scripts/helm_schema.py from the fleet file's own."""
    written = json.loads(SCHEMA["FILE"].read_text())
    assert written == SCHEMA["values_schema"](), "run: python scripts/helm_schema.py"
