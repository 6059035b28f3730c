"""The commands that README and docs print, run against a fleet as their reader would run them."""

import re
import subprocess
import sys

import pytest
from fleet import POINTSMAN, ROOT

pytestmark = pytest.mark.cluster

NOT_RUN = ("pointsman serve", "pointsman restart")
"""The first runs already, the second would take a pool from other tests; both have tests of their own."""


def shell(fleet, script: str) -> str:
    """What bash prints for `script`, its addresses and commands turned to this fleet. Fails where bash does."""
    turned = script.replace("http://127.0.0.1:8000", fleet.http_url)
    turned = turned.replace("http://127.0.0.1:8002/metrics", fleet.metrics_url)
    turned = turned.replace(".venv/bin/pointsman", str(POINTSMAN))
    where = f"--url {fleet.http_url} --admin-url {fleet.admin_url} --state {fleet.state}"
    turned = turned.replace("pointsman explain", f"pointsman explain {where}")
    turned = turned.replace("pointsman status", f"pointsman status --state {fleet.state}")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", turned], cwd=ROOT, env=fleet.environment | {"KEY": fleet.keys["demo"]},
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{turned}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def blocks(page: str, language: str) -> list[str]:
    """Fenced blocks of one language on a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def test_the_readme_does_what_it_says(fleet):
    """The curl line answers with the headers that the page shows, the next one too, explain explains, metrics count."""
    first, wish, explain, metrics = (shell(fleet, block) for block in blocks("README.md", "sh"))

    head, _, body = first.partition("\n\n")
    shown = {line.partition(":")[0] for line in blocks("README.md", "http")[0].splitlines()}
    assert shown <= {line.partition(":")[0].strip() for line in head.splitlines()}
    assert '"shape":[1,384]' in body
    assert '"shape":[2,384]' in wish
    assert re.search(r"^a910-sh +huawei-ascend-910b3 \(emulated, assumed x40\) +fp32 +chosen", explain, re.MULTILINE)
    assert re.search(r'^pointsman_requests_total\{.*tenant="demo".*\} [1-9]', metrics, re.MULTILINE)


def test_binary_tensors_travel_as_the_page_shows(fleet, tmp_path):
    """With curl and with Python: the header says where the JSON ends, the tensor's bytes follow."""
    (script,), (code,) = blocks("docs/protocol.md", "sh"), blocks("docs/protocol.md", "python")
    head = shell(fleet, script.replace("answer.bin", str(tmp_path / "answer.bin")))
    (length,) = re.findall(r"^inference-header-content-length: (\d+)", head, re.MULTILINE)
    body = (tmp_path / "answer.bin").read_bytes()
    assert '"parameters":{"binary_data_size":1024}' in body[: int(length)].decode()
    assert len(body) == int(length) + 1024

    (tmp_path / "client.py").write_text(code.replace("http://127.0.0.1:8000", fleet.http_url))
    assert shell(fleet, f"{sys.executable} {tmp_path / 'client.py'}") == "y (1, 256) float32\n"


@pytest.mark.parametrize("page", ["docs/operations.md", "docs/policy.md"])
def test_the_commands_of_a_page_work(fleet, page):
    """Every one that leaves the fleet as it is."""
    ran = 0
    for block in blocks(page, "sh"):
        lines = [line for line in block.splitlines() if not any(command in line for command in NOT_RUN)]
        for line in lines:
            assert shell(fleet, line).strip(), f"{line} printed nothing"
            ran += 1
    assert ran
