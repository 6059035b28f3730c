"""The parts of the `pointsman` command that need no fleet, run as a person runs them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from deployments.cli import main
from router.policy.credentials import digest

ROOT = Path(__file__).parents[2]
POINTSMAN = Path(sys.executable).with_name("pointsman")
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.yaml") if "pools:" in path.read_text())


def run(*arguments: object) -> str:
    """Output of a command that must succeed."""
    done = subprocess.run([POINTSMAN, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_shows_an_example_of_each_command():
    """On the command itself, too."""
    help_text = run("--help")
    commands = re.findall(r"^  (\w+) +\S", help_text.partition("Commands:")[2], re.MULTILINE)
    assert {"serve", "validate", "explain", "key", "devices", "accelerators", "status", "restart"} <= set(commands)
    for command in set(commands) - {"key"}:
        shown = CliRunner().invoke(main, [command, "--help"], prog_name="pointsman").output
        assert f"\n  pointsman {command}" in shown.partition("Options:")[0]


def test_a_new_key_has_128_random_bits_and_the_digest_that_is_shown():
    """Two calls, two keys."""
    shown = [dict(re.findall(r"(key|digest): +(\S+)", run("key", "new"))) for _ in range(2)]
    for made in shown:
        assert re.fullmatch(r"pm_[0-9a-f]{32}", made["key"])
        assert made["digest"] == f"sha256:{digest(made['key'])}"
    assert shown[0] != shown[1]


def test_devices_says_of_each_provider_whether_it_runs():
    """In each environment, for people and as JSON alike; the CPU always does."""
    table = run("devices").partition("\n\n")[2].splitlines()[1:]
    rows = {tuple(line.split()[:2]): line.split()[2] for line in table}
    assert rows["cpu", "main"] == "yes"
    assert {name for name, _ in rows} == {"cpu", "openvino", "cuda", "tensorrt", "cann"}
    told = json.loads(run("devices", "--json"))
    assert told["cpu"]["cores"] > 0
    assert rows == {
        (each["provider"], each["environment"]): "no" if each["missing"] else "yes" for each in told["providers"]
    }


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_example_fleet_is_sound(example):
    """As `pointsman validate` sees it."""
    assert "config " in run("validate", "--config", example)


def test_only_an_operator_asks_for_another_tenant():
    """Whose view is wanted is never guessed."""
    for arguments in (["--tenant", "demo", "--key", "k"], ["--admin"]):
        shown = CliRunner().invoke(main, ["explain", "mlp", *arguments])
        assert (shown.exit_code, "--admin and --tenant go together" in shown.output) == (2, True)


def test_status_and_explain_without_a_fleet_say_that_none_runs(tmp_path):
    """No traceback."""
    for arguments in (["status"], ["explain", "mlp", "--key", "k", "--url", "http://127.0.0.1:9"]):
        done = subprocess.run(
            [POINTSMAN, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "RAY_TMPDIR": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "pointsman serve" in done.stderr


def test_accelerators_lists_every_class_with_its_licence_state_today():
    """And says what is unknown or a guess."""
    shown = run("accelerators")
    rows = {line.split()[0]: line for line in shown.splitlines() if line}
    assert re.search(
        r"NVIDIA +US +96 GiB +2368 +2\.91 +none +required since 2025-04-09 +cuda +GPU H20$", rows["nvidia-h20"]
    )
    assert re.search(r"5008~ +7\.52~ +3A090\.a~ +use-restricted since", rows["huawei-ascend-910b3"])
    assert re.search(r"3040 +\? +\? +\? +- +neuron_cores x2 aws-neuron-core$", rows["aws-inferentia2"])
    assert shown.endswith("whom they bind depends on more.\n")


def test_accelerators_shows_one_class_with_sources_and_arithmetic(tmp_path):
    """The fleet file's own facts among the catalogue's."""
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text("accelerators: {nvidia-h20: {memory_gib: 141, source: our lab, as_of: 2026-02-02}}\npools: []\n")
    shown = run("accelerators", "nvidia-h20", "--config", fleet)
    assert re.search(r"^memory_gib +141 +2026-02-02 +not stated +\[\d+\]$", shown, re.MULTILINE)
    assert re.search(r"^\[\d+\] our lab$", shown, re.MULTILINE)
    assert "fp8 296 x 8 bit = 2368" in shown
    assert "PD 2.91: 2368 / 814 mm2 = 2.91" in shown
    assert "class none: TPP < 2400 and PD < 3.2" in shown
    assert re.search(r"^2025-04-09 +required ", shown, re.MULTILINE)
    assert "not legal advice" in shown


def test_accelerators_as_json_hold_everything():
    """For other programs."""
    (h100,) = json.loads(run("accelerators", "nvidia-h100-sxm", "--json"))
    assert (h100["name"], h100["export"]["tpp"]["value"], h100["export"]["class"]["value"]) == (
        "nvidia-h100-sxm", 15832.0, "3A090.a",
    )  # fmt: skip
    assert {"name", "value", "source", "url", "as_of", "confidence", "note"} == set(h100["stated"][0])
    assert h100["licence_today"] == h100["licence"][-1]["state"] == "case-by-case"


def test_an_unknown_class_and_a_fleet_file_with_faults_are_refused(tmp_path):
    """With the nearest name, or the place of the fault."""
    result = CliRunner().invoke(main, ["accelerators", "nvidia-h2O"])
    assert (result.exit_code, 'did you mean "nvidia-h20"?' in result.output) == (2, True)
    (tmp_path / "fleet.yaml").write_text("accelerators: {x: {source: s, as_of: 2026-02-02, memory: 1}}")
    result = CliRunner().invoke(main, ["accelerators", "--config", str(tmp_path / "fleet.yaml")])
    assert (result.exit_code, "accelerators.x.memory: unknown key" in result.output) == (2, True)
