"""A folder of built models on disk: `<store>/<name>/<version>/model.yaml` and its files -> ModelSpec.

Owns the form of model.yaml and the checksums. The only file of models/, with the zoo's builds, that reads a disk.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import yaml

from models.spec import BatchRule, ModelSpec, TensorSpec, TextInput, Variant
from models.spec_faults import faults

MODEL_FILE = "model.yaml"


class RepositoryError(ValueError):
    """A store that cannot be served. The text gives the file, the place in it and what is wrong."""


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """model.yaml of a built model, key by key."""

    name: str
    version: str
    description: str
    licence: str
    """SPDX identifier of the licence of the weights."""
    source: str
    """Where the weights come from."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    variants: tuple[Variant, ...]
    batch: BatchRule = BatchRule()
    platform: str = "onnxruntime_onnx"
    text: TextInput | None = None
    built_from: str = ""
    """Digest of everything the build read (models/zoo/build.py); "" for a model that was put here by hand."""


def load_store(folder: Path) -> dict[str, dict[str, ModelSpec]]:
    """Every model of the store by name and version. Raises RepositoryError at the first that is not well formed.

    Files are not read here: call verify() before loading one. Names that begin with a dot are passed over.
    """
    store: dict[str, dict[str, ModelSpec]] = {}
    for name in _folders(folder):
        store[name.name] = {version.name: load_model(version) for version in _folders(name)}
        if not store[name.name]:
            raise RepositoryError(f"{name}: holds no version of the model")
    if not store:
        raise RepositoryError(f"{folder}: holds no models; build the bundled ones: python -m models.zoo.build")
    return store


def load_model(folder: Path) -> ModelSpec:
    """The model of one version folder, `<name>/<version>`. Raises RepositoryError."""
    at = folder / MODEL_FILE
    file = read_model_file(at)
    spec = ModelSpec(
        name=file.name,
        version=file.version,
        inputs=file.inputs,
        outputs=file.outputs,
        batch=file.batch,
        variants=file.variants,
        platform=file.platform,
        text=file.text,
        folder=str(folder.resolve()),
    )
    for place, fault in faults(spec, folder.parent.name, folder.name):
        raise RepositoryError(f"{at}: {place}: {fault}")
    return spec


def read_model_file(path: Path) -> ModelFile:
    """model.yaml as written. Raises RepositoryError with the path of the key that is unknown, missing or wrong."""
    try:
        return msgspec.convert(read_yaml(path), ModelFile)
    except msgspec.ValidationError as error:
        raise RepositoryError(f"{path}: {error}") from None


def read_yaml(path: Path) -> Any:
    """The YAML document of a file; a key given twice is an error. Raises RepositoryError."""
    try:
        return yaml.load(path.read_bytes(), Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise RepositoryError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise RepositoryError(f"{path}: {' '.join(str(error).split())}") from None


def verify(spec: ModelSpec) -> None:
    """Compare every file of the model's variants with its checksum. Raises RepositoryError; 0.2 s for 90 MB."""
    for file, sha256 in dict.fromkeys((variant.file, variant.sha256) for variant in spec.variants):
        _verified(spec, file, sha256)
    if spec.text is not None:
        _verified(spec, spec.text.tokenizer, spec.text.sha256)


def read_tokenizer(spec: ModelSpec) -> bytes:
    """Content of the tokenizer file of a text model, compared with its checksum. Raises RepositoryError."""
    if spec.text is None:
        raise RepositoryError(f"{spec.name}: takes no text, so has no tokenizer")
    return _verified(spec, spec.text.tokenizer, spec.text.sha256).read_bytes()


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def latest(versions: Iterable[str]) -> str:
    """The highest version: runs of digits compare as numbers, so "10" is above "9". Raises ValueError if none."""
    return max(versions, key=_version_key)


def _version_key(version: str) -> list[tuple[int, int, str]]:
    parts = re.findall(r"\d+|[^\d.]+", version)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that takes a repeated key for the mistake it is."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            fault = "key is no plain word" if not isinstance(key, yaml.ScalarNode) else ""
            if fault or key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, fault or f"key {key.value} twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError as error:
        raise RepositoryError(f"{folder}: {error.strerror}; build the models: python -m models.zoo.build") from None


def _verified(spec: ModelSpec, name: str, expected: str) -> Path:
    path = Path(spec.folder, name)
    try:
        found = sha256_of(path)
    except OSError as error:
        raise RepositoryError(f"{path}: {error.strerror}") from None
    if found != expected:
        raise RepositoryError(f"{path}: sha256 {expected} expected, got {found}: build the model again")
    return path
