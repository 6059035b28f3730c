"""A fleet file that cannot be used: `pointsman serve` says where and why, exits with 2, and starts nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
POINTSMAN = Path(sys.executable).with_name("pointsman")

GOOD = """\
pools:
  - name: cpu
    accelerator: x86-cpu
    region: local
    models: [mlp]
tenants:
  - {id: demo, labels: {team: a}}
tenants_file: tenants.yaml
policies:
  - name: everyone
    when: tenant.id == "demo"
    allow: "true"
"""

FAULTS = {
    "unknown key": ("    region: local", "    regoin: local", "3", "pools[0].regoin", "region"),
    "unknown section": ("policies:", "polices:", "9", "polices", "policies"),
    "unknown accelerator": ("x86-cpu", "x86-cpus", "3", "pools[0].accelerator", 'did you mean "x86-cpu"'),
    "dangling model": ("[mlp]", "[mlp, mpl]", "5", "pools[0].models[1]", 'did you mean "mlp"'),
    "dangling pool class": (
        "tenants_file:", "models: {mlp: {prefer: [nvidia-h21]}}\ntenants_file:", "8", "models.mlp.prefer[0]", "nvidia-h20",
    ),
    "duplicate pool": (
        "tenants:", "  - {name: cpu, accelerator: x86-cpu, region: b, models: [mlp]}\ntenants:", "6", "pools[1].name",
        "pools[0]",
    ),
    "duplicate key": ("    region: local", "    region: a\n    region: b", "5", "pools[0].region", "given twice"),
    "typo in a rule": ('tenant.id == "demo"', 'tenant.idd == "demo"', "11", "policies[0].when", "tenant.idd"),
    "rule that is no expression": ('"true"', '"true &&"', "12", "policies[0].allow", "1:"),
    "rule of two minds": ('    allow: "true"', '    allow: "true"\n    deny: "true"', "10", "policies[0]", "exactly one"),
    "no replicas": ("    region: local", "    region: local\n    replicas: 0", "5", "pools[0].replicas", "impossible"),
    "more least than most": (
        "    region: local", "    region: local\n    replicas: {min: 3, max: 2}", "5", "pools[0].replicas", "impossible",
    ),
    "fewer than no replicas": ("    region: local", "    region: local\n    replicas: -1", "5", "pools[0].replicas", "-1"),
    "no duration": ("tenants_file:", "models: {mlp: {deadline: 5}}\ntenants_file:", "8", "models.mlp.deadline", "50ms"),
    "not YAML": ("pools:", "pools: [", "", "", "not YAML"),
}  # fmt: skip


def pointsman(tmp_path: Path, command: str, text: str) -> subprocess.CompletedProcess[str]:
    """Run a command on this fleet file, with a folder of its own for Ray."""
    config, ray = tmp_path / "fleet.yaml", tmp_path / "ray"
    config.write_text(text)
    ray.mkdir()
    (tmp_path / "state" / "models" / "mlp").mkdir(parents=True)
    for name in ("1",):
        (tmp_path / "state" / "models" / "mlp" / name).symlink_to(ROOT / "build" / "models" / "mlp" / name)
    return subprocess.run(
        [POINTSMAN, command, "--config", config, "--state", tmp_path / "state"],
        cwd=ROOT, env=os.environ | {"RAY_TMPDIR": str(ray)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_serve_refuses_with_line_and_path_and_starts_nothing(tmp_path, case):
    """No Ray session, no key, no tenants file: as if it had not been called."""
    old, new, line, path, words = FAULTS[case]
    assert GOOD.count(old) == 1
    done = pointsman(tmp_path, "serve", GOOD.replace(old, new))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{tmp_path}/fleet.yaml:{line}" in done.stderr
    assert (f": {path}: " in done.stderr) or not path
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "ray").iterdir())
    assert not (tmp_path / "state" / "run").exists()
    assert not (tmp_path / "tenants.yaml").exists()


def test_validate_tells_every_fault_at_once(tmp_path):
    """In the order of their lines."""
    faulty = GOOD
    for case in ("unknown accelerator", "dangling model", "typo in a rule"):
        old, new, *_ = FAULTS[case]
        faulty = faulty.replace(old, new)
    done = pointsman(tmp_path, "validate", faulty)
    assert done.returncode == 2
    places = [
        line.partition("fleet.yaml:")[2].split(": ")[1] for line in done.stderr.splitlines() if "fleet.yaml:" in line
    ]
    assert places == ["pools[0].accelerator", "pools[0].models[1]", "policies[0].when"]


def test_validate_accepts_a_sound_file(tmp_path):
    """And says what it holds; the faults above are the only difference."""
    done = pointsman(tmp_path, "validate", GOOD)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 pools, 1 tenants, 1 rules" in done.stdout
    assert not list((tmp_path / "ray").iterdir())


def test_a_file_that_is_not_there_is_said_plainly(tmp_path):
    """As any other fault."""
    done = subprocess.run(
        [POINTSMAN, "serve", "--config", tmp_path / "none.yaml"], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert (done.returncode, "none.yaml" in done.stderr, "Traceback" in done.stderr) == (2, True, False)
