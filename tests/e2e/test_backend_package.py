"""A vendor's runtime as a package of its own: copied out of the tree, built, installed, served, with no change here.

The commands are those of docs/backends.md; `--target` stands in for the environment, which other tests share.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from fleet import MODELS, POINTSMAN, ROOT, Fleet, start_fleet
from payloads import MLP_INFER, expected, mlp, output, reference_body

ACME = ROOT / "examples" / "backends" / "acme"
PAGE = ROOT / "docs" / "backends.md"
THERE = "--python .venv/bin/python"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def shell_block(number: int) -> str:
    """Commands of one block of the page."""
    return re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)[number]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page's commands installed the package, from a copy of its folder."""
    folder, target = tmp_path_factory.mktemp("vendor"), tmp_path_factory.mktemp("site")
    script = shell_block(0)
    there = f"--offline --no-build-isolation --target {target} --python {POINTSMAN.with_name('python')}"
    for told, here in (("examples/", f"{ROOT}/examples/"), (".uv/", f"{ROOT}/.uv/"), (THERE, there)):
        assert told in script
        script = script.replace(told, here)
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=folder, check=True, timeout=120)
    assert (target / "acme_runtime" / "backend.py").exists()
    return target


def with_path(*folders: Path) -> str:
    """PYTHONPATH with these folders first."""
    return os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `pointsman` with packages of these folders, beside the example's fleet file, which may be altered."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "models").symlink_to(MODELS)
    (tmp_path / "ray").mkdir()

    def run_it(*arguments: str, folder: Path | None, old: str = "", new: str = "") -> subprocess.CompletedProcess[str]:
        text = (ACME / "fleet.yaml").read_text()
        assert old in text
        (tmp_path / "fleet.yaml").write_text(text.replace(old, new) if old else text)
        more = {"PYTHONPATH": with_path(*([folder] if folder else [])), "RAY_TMPDIR": str(tmp_path / "ray")}
        return subprocess.run(
            [POINTSMAN, *arguments, *(() if arguments[-1] == "list" else ("--state", tmp_path / "state"))],
            cwd=tmp_path, env=os.environ | more, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    return run_it


def test_the_page_s_commands_do_what_it_says(installed: Path, run: Run) -> None:
    """The type is listed, its class keeps the contract, the fleet file is sound; serving is below."""
    lines = shell_block(1).replace("my-runtime/fleet.yaml", "fleet.yaml").splitlines()
    assert lines[3:] == [".venv/bin/pointsman serve --config fleet.yaml"]
    listed, checked, valid = (run(*shlex.split(line)[1:], folder=installed) for line in lines[:3])
    assert re.search(r"^acme +acme-runtime 0\.1\.0 +emulated$", listed.stdout, re.MULTILINE)
    assert (checked.returncode, checked.stderr, "FAILED" in checked.stdout) == (0, "", False)
    assert checked.stdout in PAGE.read_text()
    assert (valid.returncode, valid.stdout.partition(":")[2][:8]) == (0, " 2 pools")


BROKEN = "raise ImportError('libacme.so.2: cannot open shared object file')"
REFUSALS: dict[str, tuple[tuple[str, str], tuple[str, str] | None, str, str]] = {
    "option out of bounds": (("tile_rows: 8", "tile_rows: 0"), None, "options.tile_rows", "Expected `int` >= 1"),
    "unknown option": (("tile_rows: 8", "tiles: 8"), None, "options.tiles", "unknown key; known: tile_rows"),
    "option not under options": (("{type: acme,", "{type: acme, threads: 1,"), None, "threads", "under options:"),
    "misspelt": (("type: acme", "type: acmee"), None, "type", 'unknown backend "acmee"; did you mean "acme"?'),
    "library missing": (
        ("", ""), ("device.py", BROKEN), "type",
        "cannot be loaded from acme_runtime.backend:AcmeBackend of acme-runtime 0.1.0: ImportError: libacme.so.2",
    ),
    "contract too new": (
        ("", ""), ("backend.py", "AcmeBackend.api_version = 2"), "type",
        "needs version 2 of the backend contract; this Pointsman has version 1: install releases of both that agree",
    ),
}  # fmt: skip
"""What is changed in the fleet file, which line a file of the package ends with, and where and how that is refused."""


@pytest.mark.parametrize("command", ["validate", "serve"])
@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_used_is_refused_with_its_place_and_nothing_starts(
    case: str, command: str, installed: Path, run: Run, tmp_path: Path
) -> None:
    """Before Ray, before a key: by `validate` and `serve` alike."""
    (old, new), change, path, words = REFUSALS[case]
    folder = installed
    if change:
        folder = shutil.copytree(installed, tmp_path / "site")
        with (folder / "acme_runtime" / change[0]).open("a") as file:
            file.write(f"\n{change[1]}\n")
    done = run(command, "--config", "fleet.yaml", folder=folder, old=old, new=new)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(rf"^fleet\.yaml:\d+: pools\[0\]\.backend\.{re.escape(path)}: ", done.stderr)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "ray").iterdir())
    assert not (tmp_path / "state" / "run").exists()


def test_without_the_package_the_type_is_unknown_and_says_where_it_would_come_from(run: Run) -> None:
    """The same fleet file in an environment that lacks it."""
    done = run("validate", "--config", "fleet.yaml", folder=None)
    assert done.returncode == 2
    assert done.stderr == (
        'fleet.yaml:16: pools[0].backend.type: unknown backend "acme"; known: emulated, oip_upstream, onnx; a type of '
        "another package needs that package in the Python environment that runs pointsman\n"
    )
    assert run("backend", "check", "acme", folder=None).returncode == 1


@pytest.fixture(scope="module")
def fleet(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The example's fleet, and a pool of the same chip whose model it cannot hold."""
    config = yaml.safe_load((ACME / "fleet.yaml").read_text())
    config["pools"].append(config["pools"][0] | {"name": "npu-text", "models": ["minilm"]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", with_path(installed))
        with start_fleet(yaml.safe_dump(config), tmp_path_factory.mktemp("acme")) as running:
            yield running


def ask(fleet: Fleet, tenant: str, body: dict[str, object] | bytes, **headers: str) -> httpx.Response:
    """A request for the MLP."""
    given = {"content": body} if isinstance(body, bytes) else {"json": body}
    return httpx.post(fleet.http_url + MLP_INFER, headers=fleet.headers(tenant, **headers), timeout=30, **given)


@pytest.mark.cluster
def test_a_request_is_answered_by_the_package_as_by_the_cpu(fleet: Fleet) -> None:
    """Reference, one row and a full batch; the answer names class and pool and says that it is emulated."""
    for body in (reference_body("mlp"), mlp(1, seed=3), mlp(32, seed=4)):
        theirs, ours = ask(fleet, "acme-only", body), ask(fleet, "any", body)
        assert (theirs.status_code, ours.status_code) == (200, 200), theirs.text + ours.text
        told = [
            reply.headers.get(f"x-pointsman-{name}") for reply in (theirs, ours) for name in ("pool", "accelerator")
        ]
        assert told == ["npu", "acme-npu", "cpu", "x86-cpu"]
        assert (theirs.headers["x-pointsman-emulated"], "x-pointsman-emulated" in ours.headers) == ("true", False)
        np.testing.assert_allclose(output(theirs.json()), output(ours.json()), atol=1e-4, rtol=0)
    reference = output(ask(fleet, "acme-only", reference_body("mlp")).json())
    np.testing.assert_allclose(reference, expected("mlp"), atol=1e-4, rtol=0)


@pytest.mark.cluster
def test_what_the_package_calls_the_sender_s_fault_is_a_400(fleet: Fleet) -> None:
    """Its chip has no NaN: an InputError of its own."""
    head = b'{"inputs":[{"name":"x","shape":[1,256],"datatype":"FP32","parameters":{"binary_data_size":1024}}]}'
    body = head + np.full(256, np.nan, np.float32).tobytes()
    sent = {"inference_header_content_length": str(len(head))}
    theirs = ask(fleet, "acme-only", body, **sent)
    assert (theirs.status_code, theirs.json()["reason"]) == (400, "malformed")
    assert ask(fleet, "acme-only", mlp()).status_code == 200


@pytest.mark.cluster
def test_the_pool_is_shown_under_its_class_type_and_marking(fleet: Fleet) -> None:
    """Metrics, the operator's view and the start table; rules saw the type as `pool.provider`."""
    info = fleet.samples("pointsman_pool_info", pool="npu")
    assert [dict(labels) for labels in info] == [
        {"pool": "npu", "accelerator": "acme-npu", "provider": "acme", "emulated": "true"}
    ]
    assert ask(fleet, "acme-only", mlp()).status_code == 200
    fleet.flushed()
    assert fleet.metric("pointsman_pool_requests_total", pool="npu", outcome="answered") > 0
    status = httpx.get(f"{fleet.admin_url}/v1/status", headers=fleet.admin_headers()).json()
    (npu,) = (pool for pool in status["pools"] if pool["name"] == "npu")
    assert (npu["providers"], npu["emulated"], npu["ready_replicas"]) == (["acme"], True, 1)
    assert re.search(r"^npu +acme-npu +yes +unknown x1 +acme +mlp fp32 +up$", fleet.stdout(), re.MULTILINE)


@pytest.mark.cluster
def test_a_pool_that_its_runtime_refuses_holds_up_no_other(fleet: Fleet) -> None:
    """`serve` tells the vendor's words."""
    assert re.search(
        r"pool-npu-text: deploy_failed: .*minilm: Acme's compiler refuses .*no kernel for ", fleet.stderr()
    )
    assert re.search(r"^npu-text .* down$", fleet.stdout(), re.MULTILINE)
