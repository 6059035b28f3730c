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

MORE_POOLS = "  - {name: cpu, accelerator: x86-cpu, region: b, models: [mlp]}\ntenants:"
FAULTS = {
    "unknown key": ("    region: local", "    regoin: local", 4, "pools[0].regoin", 'did you mean "region"'),
    "unknown class": ("x86-cpu", "x86-cpus", 3, "pools[0].accelerator", 'did you mean "x86-cpu"'),
    "dangling model": ("[mlp]", "[mlp, mpl]", 5, "pools[0].models[1]", 'did you mean "mlp"'),
    "duplicate pool": ("tenants:", MORE_POOLS, 6, "pools[1].name", "is taken: pools[0] at line 2"),
    "duplicate key": ("    region: local", "    region: a\n    region: b", 5, "pools[0].region", "given twice"),
    "typo in a rule": ('tenant.id == "demo"', 'tenant.idd == "demo"', 11, "policies[0].when", "tenant.idd"),
    "no expression": ('"true"', '"true &&"', 12, "policies[0].allow", "Syntax error"),
    "no replicas": ("    region: local", "    region: a\n    replicas: 0", 5, "pools[0].replicas", "impossible"),
    "impossible": (
        "    region: local",
        "    region: a\n    replicas: {min: 3, max: 2}",
        5,
        "pools[0].replicas",
        "min 3",
    ),
    "no duration": ("tenants_file:", "models: {mlp: {deadline: 5}}\ntenants_file:", 8, "models.mlp.deadline", "50ms"),
}
"""What is replaced in the good file by what, and the line, path and words that the message must have."""


def pointsman(tmp_path: Path, command: str, text: str) -> subprocess.CompletedProcess[str]:
    """Run a command on this fleet file, with a folder of its own for Ray."""
    config, ray = tmp_path / "fleet.yaml", tmp_path / "ray"
    config.write_text(text)
    ray.mkdir()
    store = tmp_path / "state" / "models"
    store.mkdir(parents=True)
    (store / "mlp").symlink_to(ROOT / "build" / "models" / "mlp")
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
    assert f"{tmp_path}/fleet.yaml:{line}: {path}: " in done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "ray").iterdir())
    assert not (tmp_path / "state" / "run").exists()
    assert not (tmp_path / "tenants.yaml").exists()


def test_validate_tells_every_fault_at_once(tmp_path):
    """In the order of their lines."""
    faulty = GOOD
    for case in ("unknown class", "dangling model", "typo in a rule"):
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
