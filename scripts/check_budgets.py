"""The budget gate of `make check`: sizes, documentation, annotations and the doors of foreign libraries.

Reads every Python file that git tracks or would track and prints `path:line: words` for each breach; exit 1 on any.
Usage: python scripts/check_budgets.py [root]
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60

PRODUCT = ("router/", "models/", "deployments/")
"""Where public things carry a docstring and full annotations, and each file opens with its law."""

DOORS: dict[str, tuple[str, ...]] = {
    "ray": tuple(
        f"deployments/{name}.py"
        for name in ("app", "chart", "cli", "pool", "membership", "control", "cluster", "loopback", "machine")
    ),
    "aiohttp": ("deployments/upstream/client.py",),
    "onnxruntime": ("deployments/backends/onnx.py", "deployments/devices.py"),
}
"""Library -> the only product files that may import it."""

PURE = ("models/", "router/core/", "router/protocol/", "router/state/", "router/policy/", "router/service/cycle.py")
"""Files and folders without clock, log, I/O or global randomness."""

IMPURE_MODULES = ("time", "asyncio", "logging", "socket", "os", "random")
"""What pure files never import, except under `if TYPE_CHECKING:` (the type of an argument such as rng)."""

PURE_BUT: dict[str, tuple[str, ...]] = {
    "models/repository.py": ("os",),
    "models/pipeline.py": ("os",),
    "models/zoo/": ("os",),
}
"""Pure files and folders that read files all the same -> the modules they may import."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Breach = tuple[int, str]


def breaches(path: str, text: str) -> list[Breach]:
    """Every breach of one file as (line, words). `path` is relative to the root, with forward slashes."""
    tree = ast.parse(text, path)
    found = [*_too_long(text, tree), *_imports(path, tree)]
    if path.startswith(PRODUCT):
        if ast.get_docstring(tree) is None:
            found.append((1, "no docstring: the first lines say what this file owns and what it never does"))
        for definition in _public(tree):
            found.extend(_undocumented(definition))
    return sorted(found)


def _too_long(text: str, tree: ast.Module) -> Iterator[Breach]:
    lines = len(text.splitlines())
    if lines > MAX_FILE_LINES:
        yield 1, f"{lines} lines, at most {MAX_FILE_LINES}"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield node.lineno, f"{node.name} has {length} lines, at most {MAX_FUNCTION_LINES}"


def _imports(path: str, tree: ast.Module) -> Iterator[Breach]:
    allowed = {module for prefix, modules in PURE_BUT.items() if path.startswith(prefix) for module in modules}
    for line, module, at_run_time in _imported(tree):
        if path.startswith(PRODUCT) and path not in DOORS.get(module, (path,)):
            yield line, f"imports {module}, whose doors are {', '.join(DOORS[module])}"
        if path.startswith(PURE) and module in IMPURE_MODULES and at_run_time and module not in allowed:
            yield line, f"imports {module} in a pure layer: pass now_s, rng or the value in"


def _imported(node: ast.AST, at_run_time: bool = True) -> Iterator[tuple[int, str, bool]]:
    """Line and top-level name of every absolute import, also inside functions, and whether it happens at run time."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield child.lineno, alias.name.partition(".")[0], at_run_time
        elif isinstance(child, ast.ImportFrom) and child.level == 0 and child.module:
            yield child.lineno, child.module.partition(".")[0], at_run_time
        else:
            types_only = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            yield from _imported(child, at_run_time and not types_only)


def _public(node: ast.AST) -> Iterator[Definition]:
    """Public functions and classes and the public methods of those; nothing inside a function or a private class."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition):
            if not child.name.startswith("_"):
                yield child
                if isinstance(child, ast.ClassDef):
                    yield from _public(child)
        else:
            yield from _public(child)


def _undocumented(node: Definition) -> Iterator[Breach]:
    if ast.get_docstring(node) is None:
        yield node.lineno, f"{node.name} has no docstring"
    if isinstance(node, ast.ClassDef):
        return
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    if positional and positional[0].arg in ("self", "cls"):
        del positional[0]
    for argument in (*positional, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg):
        if argument is not None and argument.annotation is None:
            yield argument.lineno, f"{node.name} does not say the type of {argument.arg}"
    if node.returns is None:
        yield node.lineno, f"{node.name} does not say what it returns"


def python_files(root: Path) -> list[str]:
    """Paths relative to root of the Python files that git tracks or would track, as far as they exist."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.py"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return sorted({path for path in listed.split("\0") if path and (root / path).is_file()})


def main(root: Path) -> int:
    """Print every breach under root; 1 if there is any, 0 if not."""
    found = 0
    for path in python_files(root):
        for line, words in breaches(path, (root / path).read_text(encoding="utf-8")):
            print(f"{path}:{line}: {words}")
            found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent))
