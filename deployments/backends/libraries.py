"""Which shared libraries a library of ONNX Runtime lacks on this machine: read from the file, asked of the loader.

Knows no provider: providers.py says what each library belongs to.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from deployments.providers import Part

_LOAD, _DYNAMIC = 1, 2
_END, _NEEDED, _STRINGS = 0, 1, 5
"""Kinds of program headers and of entries of the dynamic section, as the ELF specification numbers them."""


def needed(library: Path) -> list[str]:
    """Names of the libraries that a 64-bit little-endian ELF file is linked against. Raises OSError, ValueError."""
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:6] != b"\x7fELF\x02\x01":
            raise ValueError(f"{library} is no 64-bit ELF file")
        return list(_needed(data))


def absent(library: Path, opens: Iterable[str]) -> list[str]:
    """Of what `library` is linked against or `opens`, the libraries that this process cannot load."""
    lost = {}
    for name in (*needed(library), *opens):
        beside = library.parent / name
        try:
            ctypes.CDLL(str(beside) if beside.exists() else name)
        except OSError as error:
            # The loader names the first library that it does not find, which may be one that `name` needs.
            first = str(error).partition(":")[0]
            lost[first if ".so" in first else name] = None
    return list(lost)


def words(absent_names: Sequence[str], parts: Sequence[Part]) -> str:
    """What is missing and what to do, one clause a part: the libraries, what they belong to, the remedy."""
    rest = list(absent_names)
    clauses = []
    for part in parts:
        of_part = [name for name in rest if name.startswith(part.libraries)]
        if of_part:
            rest = [name for name in rest if name not in of_part]
            clauses.append(f"{', '.join(of_part)} of {part.what} ({part.remedy})")
    if rest:
        clauses.append(f"{', '.join(rest)} (a system library: install its package)")
    return "; ".join(clauses)


def _needed(data: mmap.mmap) -> Iterator[str]:
    headers = list(_program_headers(data))
    segments = [(at, address, size) for kind, at, address, size in headers if kind == _LOAD]
    entries = [
        entry
        for kind, at, _, size in headers
        if kind == _DYNAMIC
        for entry in struct.iter_unpack("<qQ", data[at : at + size - size % 16])
    ]
    strings = next((_offset(value, segments) for tag, value in entries if tag == _STRINGS), 0)
    for tag, value in entries:
        if tag == _NEEDED:
            yield data[strings + value : data.find(b"\0", strings + value)].decode()


def _program_headers(data: mmap.mmap) -> Iterator[tuple[int, int, int, int]]:
    """(kind, offset in the file, address, size in the file) of every segment."""
    table, size, count = (*struct.unpack_from("<Q", data, 32), *struct.unpack_from("<HH", data, 54))
    for index in range(count):
        kind, _, at, address, _, length = struct.unpack_from("<IIQQQQ", data, table + index * size)
        yield kind, at, address, length


def _offset(address: int, segments: Sequence[tuple[int, int, int]]) -> int:
    """Place in the file of an address in memory."""
    return next(at + address - start for at, start, size in segments if start <= address < start + size)
