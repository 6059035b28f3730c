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
    assert {"serve", "validate", "explain", "key", "devices", "status", "restart"} <= set(commands)
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
