"""Facts of this machine: its processor as Linux tells it, and what Ray would detect. Starts nothing."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8", "asimd", "sve")
"""Instruction sets by which inference on a CPU differs most."""


class Processor(msgspec.Struct, frozen=True):
    """The CPU."""

    model: str
    """As the processor names itself, "" where Linux does not say."""
    cores: int
    """Logical ones that this process may use."""
    flags: tuple[str, ...]


class Detected(msgspec.Struct, frozen=True):
    """Accelerators of one kind as a Ray node started here would offer them."""

    resource: str
    """Ray's resource: GPU, NPU, TPU, ..."""
    count: int
    type: str
    """Ray's accelerator type, "" where it sees none."""


def processor() -> Processor:
    """The CPU of this machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    has = set((facts.get("flags") or facts.get("Features", "")).split())
    flags = tuple(flag for flag in _FLAGS if flag in has)
    return Processor(facts.get("model name", ""), len(os.sched_getaffinity(0)), flags)


def detected() -> list[Detected]:
    """What Ray's detection finds here, without a cluster. Takes about a second: it imports Ray."""
    from ray._private import accelerators

    found = []
    with _quiet():
        for name in sorted(accelerators.get_all_accelerator_resource_names()):
            manager = accelerators.get_accelerator_manager_for_resource(name)
            count = manager.get_current_node_num_accelerators() if manager is not None else 0
            if manager is not None and count:
                found.append(Detected(name, count, manager.get_current_node_accelerator_type() or ""))
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what Ray prints and logs of devices that are not there."""
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
