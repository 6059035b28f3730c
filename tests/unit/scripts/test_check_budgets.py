"""Each rule of the budget gate fires on a breach and stays silent on its absence."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "check_budgets.py"
breaches = runpy.run_path(str(SCRIPT))["breaches"]

LAW = '"""Law."""\n'


def function(lines):
    """A function of so many lines."""
    return "def f():\n" + "    x = 1\n" * (lines - 1)


def words(path, text):
    """The breaches of one file, as one text."""
    return "\n".join(f"{line}: {what}" for line, what in breaches(path, text))


@pytest.mark.parametrize(
    ("path", "text", "breach"),
    [
        ("tests/test_x.py", "x = 1\n" * 301, "1: 301 lines, at most 300"),
        ("tests/test_x.py", function(61), "1: f has 61 lines, at most 60"),
        ("scripts/x.py", "class A:\n    async " + "def f(self): \n" + "        x = 1\n" * 60, "2: f has 61 lines"),
        ("models/zoo/mlp/__init__.py", "", "1: no docstring"),
        ("router/x.py", LAW + "def f() -> None: ...\n", "2: f has no docstring"),
        ("deployments/x.py", LAW + "if True:\n    class A: ...\n", "3: A has no docstring"),
        ("models/x.py", LAW + 'class A:\n    """A."""\n    def f(self) -> None: ...\n', "4: f has no docstring"),
        ("router/x.py", LAW + 'def f(a, /):\n    """F."""\n', "2: f does not say the type of a"),
        ("router/x.py", LAW + 'def f(*a, b: int) -> None:\n    """F."""\n', "2: f does not say the type of a"),
        ("router/x.py", LAW + 'def f(*, b) -> None:\n    """F."""\n', "2: f does not say the type of b"),
        ("router/x.py", LAW + 'async def f(**c) -> None:\n    """F."""\n', "2: f does not say the type of c"),
        ("router/x.py", LAW + 'def f():\n    """F."""\n', "2: f does not say what it returns"),
        ("router/x.py", LAW + "import ray\n", "2: imports ray, whose doors are deployments/app.py"),
        ("deployments/stream.py", LAW + "def _f():\n    from ray import serve\n", "3: imports ray"),
        ("deployments/pool.py", LAW + "import onnxruntime.capi as c\n", "2: imports onnxruntime"),
        ("models/spec.py", LAW + "import time\n", "2: imports time in a pure layer"),
        ("router/core/x.py", LAW + "from asyncio import sleep\n", "2: imports asyncio in a pure layer"),
        ("router/protocol/x.py", LAW + "import json, logging\n", "2: imports logging in a pure layer"),
        ("router/state/x.py", LAW + "import socket\n", "2: imports socket in a pure layer"),
        ("router/policy/x.py", LAW + "import os.path\n", "2: imports os in a pure layer"),
        ("router/service/cycle.py", LAW + "import random\n", "2: imports random in a pure layer"),
        ("models/repository.py", LAW + "import time\n", "2: imports time in a pure layer"),
        ("router/core/x.py", LAW + "if FAST:\n    import random\n", "3: imports random in a pure layer"),
        ("router/x.py", LAW + "if TYPE_CHECKING:\n    import ray\n", "3: imports ray"),
    ],
)
def test_a_breach_is_named_with_its_line(path, text, breach):
    """One rule per row."""
    assert breach in words(path, text)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("tests/test_x.py", "x = 1\n" * 300),
        ("benchmarks/x.py", function(60)),
        ("scripts/x.py", "import ray, onnxruntime, time\ndef f(a): ...\n"),
        ("router/x.py", LAW + "def _f(a): ...\nclass _A:\n    def f(self): ...\n"),
        ("router/x.py", LAW + 'def f(a: int, *b: int, c: int, **d: int) -> None:\n    """F."""\n    def g(x): ...\n'),
        ("models/x.py", LAW + 'class A:\n    """A."""\n    def f(self) -> None:\n        """F."""\n'),
        ("deployments/app.py", LAW + "from ray import serve\n"),
        ("deployments/backends/onnx.py", LAW + "import onnxruntime\n"),
        ("deployments/pool.py", LAW + "from rayon import x\nfrom .ray import y\n"),
        ("models/repository.py", LAW + "import os\n"),
        ("models/zoo/minilm/build.py", LAW + "import os\n"),
        ("router/service/handler.py", LAW + "import asyncio\n"),
        ("router/service/clock.py", LAW + "import time\n"),
        ("router/core/x.py", LAW + "if TYPE_CHECKING:\n    from random import Random\n"),
        ("router/core/x.py", LAW + "from random_words import x\nfrom .time import y\n"),
    ],
)
def test_what_is_within_the_rules_is_not_named(path, text):
    """Neighbours of each breach."""
    assert words(path, text) == ""


def run(root):
    """The gate on a folder, as make runs it."""
    return subprocess.run([sys.executable, SCRIPT, root], capture_output=True, text=True, check=False)


def test_the_gate_prints_path_and_line_and_fails_until_the_tree_is_clean(tmp_path):
    """Tracked and not yet tracked files count, ignored and deleted ones do not."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "router").mkdir()
    (tmp_path / "router" / "tracked.py").write_text("import ray\n")
    (tmp_path / "deleted.py").write_text(function(61))
    subprocess.run(["git", "-C", tmp_path, "add", "."], check=True)
    (tmp_path / "deleted.py").unlink()
    (tmp_path / "new.py").write_text(function(61))
    (tmp_path / ".gitignore").write_text("ignored.py\n")
    (tmp_path / "ignored.py").write_text(function(61))

    done = run(tmp_path)
    assert done.returncode == 1, done.stderr
    assert [line.split(": ")[0] for line in done.stdout.splitlines()] == [
        "new.py:1",
        "router/tracked.py:1",
        "router/tracked.py:1",
    ]

    (tmp_path / "router" / "tracked.py").write_text(LAW)
    (tmp_path / "new.py").write_text(function(60))
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
