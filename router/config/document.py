"""YAML text to plain values, with the line of each path. Takes the safe part of YAML only, read as YAML 1.2 reads it:
`no` is text, a date is text, a key stands once, and aliases cannot blow up.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
import yaml

from router.config.problems import ConfigError, Problem

MAX_BYTES = 1024 * 1024
MAX_NODES = 200_000
"""Values after aliases are followed."""
MAX_DEPTH = 32
_LAST_STEP = re.compile(r"(\.[^.\[]*|\[\d+\]|^[^.\[]*)$")
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
"""What escapes in quotes can make: NUL and halves of characters, which no file name and no JSON takes."""
_SCALARS: dict[str, Callable[[str], object]] = {
    "tag:yaml.org,2002:str": str,
    "tag:yaml.org,2002:int": int,
    "tag:yaml.org,2002:float": float,
    "tag:yaml.org,2002:bool": lambda text: text.lower() == "true",
    "tag:yaml.org,2002:null": lambda _: None,
}
_TAGS: dict[type[yaml.Node], set[str]] = {
    yaml.SequenceNode: {"tag:yaml.org,2002:seq"},
    yaml.MappingNode: {"tag:yaml.org,2002:map"},
}


class _Loader(yaml.SafeLoader):
    """Resolves only what YAML 1.2's core schema resolves."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


for _tag, _pattern, _first in (
    ("bool", r"true|false|True|False|TRUE|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), [c if c != "\0" else "" for c in _first]
    )


class Document(msgspec.Struct, frozen=True):
    """A parsed file. `lines` maps a path such as pools[1].accelerator to its line, counted from 1."""

    file: str
    data: object
    lines: dict[str, int]

    def problem(self, path: str, message: str) -> Problem:
        """A problem at `path`, or at the nearest path above it that the file has."""
        at = path
        while at and at not in self.lines:
            at = _LAST_STEP.sub("", at)
        return Problem(self.file, self.lines.get(at, 1), path, message)


def parse(text: str, file: str) -> Document:
    """Parse one YAML document. `file` is its name in errors. Raises ConfigError."""
    if len(text.encode()) > MAX_BYTES:
        raise ConfigError([Problem(file, 1, "", f"is larger than {MAX_BYTES} bytes")])
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        words = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError([Problem(file, line, "", f"is not YAML: {words}")]) from None
    except yaml.YAMLError as error:
        raise ConfigError([Problem(file, 1, "", f"is not YAML: {error}")]) from None
    except RecursionError:
        raise ConfigError([Problem(file, 1, "", "is nested too deep")]) from None
    reader = _Reader(file)
    data = reader.value(root, "", 0) if root is not None else {}
    if reader.problems:
        raise ConfigError(reader.problems)
    return Document(file, data, reader.lines)


class _Reader:
    """Walks the nodes of one document."""

    def __init__(self, file: str) -> None:
        self.lines: dict[str, int] = {}
        self.problems: list[Problem] = []
        self._file = file
        self._nodes = 0

    def value(self, node: yaml.Node, path: str, depth: int) -> object:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            raise ConfigError([Problem(self._file, line, path, "is nested too deep or repeats itself too often")])
        if node.tag not in _TAGS.get(type(node), _SCALARS.keys()):
            return self._refuse(node, path, f"has a tag that is not allowed: {node.tag}")
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode) or _NOT_TEXT.search(key.value):
                self._refuse(key, path, "has a key that is not text")
                continue
            name = key.value
            below = f"{path}.{name}" if path else name
            if name in found:
                self._refuse(key, below, f"is given twice, first at line {self.lines[below]}")
                continue
            self.lines[below] = key.start_mark.line + 1
            found[name] = self.value(item, below, depth + 1)
        return found

    def _scalar(self, node: yaml.Node, path: str) -> object:
        if _NOT_TEXT.search(node.value):
            return self._refuse(node, path, "holds a character that is not text")
        try:
            return _SCALARS[node.tag](node.value)
        except ValueError:
            return self._refuse(node, path, "does not match its tag")

    def _refuse(self, node: yaml.Node, path: str, message: str) -> object:
        self.problems.append(Problem(self._file, node.start_mark.line + 1, path, message))
        return None
