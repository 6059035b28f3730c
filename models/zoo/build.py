"""Build the bundled models into a store: `python -m models.zoo.build [--store DIR] [--force]`.

Owns when a model is built and how it gets into the store: whole or not at all. What is built is each model's build.py.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from models.repository import MODEL_FILE, RepositoryError, load_model, read_model_file, read_yaml, sha256_of
from models.zoo.minilm import build as minilm
from models.zoo.mlp import build as mlp
from models.zoo.ranker import build as ranker
from models.zoo.textline import build as textline

DEFAULT_STORE = Path("build/models")
_TEMPORARY = ".building-"


class Bundled(NamedTuple):
    """One bundled model: `sources` are files outside its folder that decide the result; `build` writes its files."""

    folder: Path
    sources: Callable[[], list[Path]]
    build: Callable[[Path], None]


_HERE = Path(__file__).parent
BUNDLED = (
    Bundled(_HERE / "mlp", mlp.sources, mlp.build),
    Bundled(_HERE / "minilm", minilm.sources, minilm.build),
    Bundled(_HERE / "ranker", ranker.sources, ranker.build),
    Bundled(_HERE / "textline", textline.sources, textline.build),
)


def build_all(store: Path, *, force: bool = False, say: Callable[[str], object] = lambda line: None) -> None:
    """Bring every bundled model in `store` up to date. `say` gets lines of progress.

    Raises FileNotFoundError if a source is not installed, RepositoryError if what was built is not well formed.
    Several builds of one store take turns.
    """
    store.mkdir(parents=True, exist_ok=True)
    with _alone(store):
        for model in BUNDLED:
            facts = read_yaml(model.folder / MODEL_FILE)
            folder = store / facts["name"] / facts["version"]
            digest = _digest(model)
            if not force and _built_from(folder) == digest:
                say(f"{facts['name']}/{facts['version']}: up to date")
                continue
            say(f"{facts['name']}/{facts['version']}: building")
            _build_one(model, facts | {"built_from": digest}, store, folder)
            size_mb = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
            say(f"{facts['name']}/{facts['version']}: built, {size_mb:.1f} MB")


def _build_one(model: Bundled, facts: dict[str, Any], store: Path, folder: Path) -> None:
    """Build beside the store's models, then rename: a reader sees the old files, the new ones or none, never half."""
    temporary = store / f"{_TEMPORARY}{facts['name']}"
    shutil.rmtree(temporary, ignore_errors=True)
    fresh = temporary / facts["name"] / facts["version"]
    fresh.mkdir(parents=True)
    model.build(fresh)
    for entry in facts["variants"]:
        entry["sha256"] = sha256_of(fresh / entry["file"])
    if "text" in facts:
        facts["text"]["sha256"] = sha256_of(fresh / facts["text"]["tokenizer"])
    (fresh / MODEL_FILE).write_text(yaml.safe_dump(facts, sort_keys=False, width=120))
    load_model(fresh)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        folder.rename(temporary / "replaced")
    fresh.rename(folder)
    shutil.rmtree(temporary)


def _digest(model: Bundled) -> str:
    """Digest of everything the result depends on: code, facts, sources and the libraries that write the file."""
    code = [
        _HERE / "graph.py",
        _HERE / "half.py",
        _HERE / "build.py",
        *sorted(model.folder.glob("*.py")),
        model.folder / MODEL_FILE,
    ]
    digest = hashlib.sha256()
    for path in [*code, *model.sources()]:
        digest.update(f"{path.name} {sha256_of(path)}\n".encode())
    for library in ("numpy", "onnx", "protobuf"):
        digest.update(f"{library} {version(library)}\n".encode())
    return digest.hexdigest()


def _built_from(folder: Path) -> str:
    """Digest of the build that stands in `folder`; "" if there is none, or it is not whole."""
    try:
        file = read_model_file(folder / MODEL_FILE)
    except RepositoryError:
        return ""
    names = [variant.file for variant in file.variants] + ([file.text.tokenizer] if file.text else [])
    return file.built_from if all((folder / name).is_file() for name in names) else ""


@contextmanager
def _alone(store: Path) -> Iterator[None]:
    with (store / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(prog="python -m models.zoo.build", description="Build the bundled models.")
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE, help="folder to build into (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="build again what is up to date")
    options = parser.parse_args()

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    build_all(options.store, force=options.force, say=say)


if __name__ == "__main__":
    main()
