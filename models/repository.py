"""A folder of built models on disk: `<store>/<name>/<version>/model.yaml` and its files -> ModelSpec.

Owns the form of model.yaml and the checksums. The only file of models/, with the zoo's builds, that reads a disk.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from models.spec import BATCH_AXIS, BatchRule, ModelSpec, TensorSpec, TextInput, Variant
from models.tensors import DTYPES

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
    for place, fault in _faults(spec, folder):
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
    """Compare every file of the model with its checksum. Raises RepositoryError; about 0.2 s for 90 MB."""
    for variant in spec.variants:
        _verified(spec, variant.file, variant.sha256)
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


def _faults(spec: ModelSpec, folder: Path) -> Iterator[tuple[str, str]]:
    """(key path, what is wrong) for what the types alone do not say."""
    if (spec.name, spec.version) != (folder.parent.name, folder.name):
        yield "$.name", f"{spec.name}/{spec.version} lies in folder {folder.parent.name}/{folder.name}"
    if spec.batch.max_rows < 1:
        yield "$.batch.max_rows", f"at least 1 expected, got {spec.batch.max_rows}"
    for key, tensors in (("inputs", spec.inputs), ("outputs", spec.outputs)):
        yield from _tensor_faults(f"$.{key}", tensors)
    if not spec.variants:
        yield "$.variants", "at least one expected"
    for index, variant in enumerate(spec.variants):
        if variant.name in {other.name for other in spec.variants[:index]}:
            yield f"$.variants[{index}].name", f"{variant.name} twice"
        yield from _file_faults(f"$.variants[{index}].file", variant.file, variant.sha256)
    if spec.text is not None:
        yield from _tensor_faults("$.text.tensor", (spec.text.tensor,))
        yield from _file_faults("$.text.tokenizer", spec.text.tokenizer, spec.text.sha256)
        if (spec.text.tensor.datatype, spec.text.tensor.shape) != ("BYTES", (BATCH_AXIS,)):
            yield "$.text.tensor", "datatype BYTES and shape [batch] expected"
        if spec.text.tensor.name in {tensor.name for tensor in spec.inputs}:
            yield "$.text.tensor.name", f"{spec.text.tensor.name} is an input of the graph too"


def _tensor_faults(key: str, tensors: tuple[TensorSpec, ...]) -> Iterator[tuple[str, str]]:
    if not tensors:
        yield key, "at least one tensor expected"
    for index, tensor in enumerate(tensors):
        at = f"{key}[{index}]"
        if not tensor.name or tensor.name in {other.name for other in tensors[:index]}:
            yield f"{at}.name", f"{tensor.name!r} is empty or there twice"
        if tensor.datatype not in DTYPES:
            yield f"{at}.datatype", f"{tensor.datatype} is unknown; known: {', '.join(DTYPES)}"
        if tensor.shape[:1] != (BATCH_AXIS,) or BATCH_AXIS in tensor.shape[1:]:
            yield f"{at}.shape", f"the first axis and no other is {BATCH_AXIS}"
        for axis in tensor.shape:
            if axis == "" or (isinstance(axis, int) and axis < 1):
                yield f"{at}.shape", f"axes are names or whole numbers of at least 1, got {axis!r}"


def _file_faults(key: str, name: str, sha256: str) -> Iterator[tuple[str, str]]:
    if not name or Path(name).name != name:
        yield key, f"the name of a file beside {MODEL_FILE} expected, got {name!r}"
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        yield key, f"its sha256 is 64 hex digits, got {sha256!r}"
