"""Totals of several router processes in one folder: each process writes its own file, one reader merges them.

A live process holds a lock on `<id>.lock`, which the kernel drops when it dies however it dies; no process id is ever
compared. Files change by write and rename only. What dead processes left is folded into `archive.json`, exactly once.
"""

from __future__ import annotations

import fcntl
import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from router.telemetry.table import AGE, METRICS, ROUTERS, Merge

_LOG = logging.getLogger("pointsman.telemetry")
_MERGES = {metric.key: metric.merge for metric in METRICS}


Series = tuple[tuple[str, ...], list[int | float]]
"""Label values (shown, then source labels) and the numbers of the series, as Metric.width says."""

Merged = dict[str, dict[tuple[str, ...], list[int | float]]]
"""Series by metric key and label values."""


class Snapshot(msgspec.Struct):
    """Content of one file: all that a process has counted since its start. Keys are Metric.key."""

    totals: dict[str, list[Series]]
    gauges: dict[str, list[Series]]
    folded: list[str] = []
    """Archive only: processes already inside it whose files may still be there."""


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Snapshot)


class SnapshotFile:
    """The file of this process. Nothing is created before the first write. One writer at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = self._lock = folder
        self._lock_fd = -1
        self._written = b""

    def write(self, snapshot: Snapshot) -> None:
        """Replace the file. Raises OSError where that fails; the last content then stays, and the next call retries."""
        payload = _ENCODER.encode(snapshot)
        try:
            if self._lock_fd < 0:
                self._claim()
            if payload != self._written:
                temporary = self._data.with_suffix(".tmp")
                temporary.write_bytes(payload)
                temporary.replace(self._data)
                self._written = payload
            os.utime(self._lock)  # the age of a snapshot, though it did not change
        except FileNotFoundError:
            self.close()  # someone swept the folder: claim a new name next time
            raise

    def close(self) -> None:
        """Give up the file: the next reader folds it into the archive."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
        self._lock_fd, self._written = -1, b""

    def _claim(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"router-{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self._data, self._lock = self._folder / f"{name}.json", self._folder / f"{name}.lock"
        unseen = self._folder / f"{name}.claim"
        fd = os.open(unseen, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            unseen.rename(self._lock)  # only now visible to a reader: it never sees the lock of a live process free
        except OSError:
            os.close(fd)
            raise
        self._lock_fd = fd


def collect(folder: Path, now_s: float) -> tuple[Merged, Merged]:
    """(totals, gauges) over every process that ever wrote to `folder`, gauges of live ones only.

    `now_s` is Unix time. Folds the files of dead processes into the archive. Raises OSError where the folder cannot
    be read or created; an archive that cannot be written is only warned of, and tried again at the next call.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _only_reader(folder):
        live, dead = _by_life(folder)
        totals = _fold(folder, dead)
        gauges: Merged = {}
        age_s = 0.0
        for name in live:
            snapshot = _load(folder / f"{name}.json") or Snapshot({}, {})
            _add(totals, snapshot.totals)
            _add(gauges, snapshot.gauges)
            age_s = max(age_s, now_s - (folder / f"{name}.lock").stat().st_mtime)
        gauges[ROUTERS.key] = {(): [len(live)]}
        gauges[AGE.key] = {(): [age_s]}
        return totals, gauges


def _fold(folder: Path, dead: list[str]) -> Merged:
    """Totals of all dead processes: the archive, and what is not yet in it.

    Order makes it exactly once: the archive names the processes it took in before their files go, so that a crash
    between the two leaves files that are known to be counted.
    """
    path = folder / "archive.json"
    archive = _load(path) or Snapshot({}, {})
    totals: Merged = {}
    _add(totals, archive.totals)
    new = [name for name in dead if name not in archive.folded]
    for name in new:
        _add(totals, (_load(folder / f"{name}.json") or Snapshot({}, {})).totals)
    if new:
        series = {key: list(by_labels.items()) for key, by_labels in totals.items()}
        if not _replaced(path, Snapshot(series, {}, dead)):
            return totals
    for name in dead:
        for suffix in ("json", "tmp", "lock"):  # the lock last: it is what leads a reader to the others
            (folder / f"{name}.{suffix}").unlink(missing_ok=True)
    return totals


@contextmanager
def _only_reader(folder: Path) -> Iterator[None]:
    fd = os.open(folder / "readers", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _by_life(folder: Path) -> tuple[list[str], list[str]]:
    live: list[str] = []
    dead: list[str] = []
    for path in sorted(folder.glob("*.lock")):
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            dead.append(path.stem)
        except BlockingIOError:
            live.append(path.stem)
        finally:
            os.close(fd)
    return live, dead


def _load(path: Path) -> Snapshot | None:
    """None where there is none, or where it cannot be read: such a file is set aside and warned of."""
    try:
        return _DECODER.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        _LOG.warning("%s is damaged and set aside; its counts are lost: %s", path, error)
        with suppress(OSError):
            path.replace(path.with_suffix(".damaged"))
        return None


def _replaced(path: Path, archive: Snapshot) -> bool:
    """Whether the archive is safely on disk."""
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(_ENCODER.encode(archive))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        _LOG.warning("cannot fold dead routers into %s, will retry: %s", path, error)
        return False
    return True


def _add(into: Merged, table: dict[str, list[Series]]) -> None:
    """Merge a table in. Keys not in this version's table of metrics are left out."""
    for key, series in table.items():
        merge = _MERGES.get(key)
        if merge is None:
            continue
        combine = max if merge is Merge.MAX else _plus
        merged = into.setdefault(key, {})
        for labels, values in series:
            have = merged.get(labels)
            merged[labels] = values if have is None else [combine(a, b) for a, b in zip(have, values, strict=True)]


def _plus(a: int | float, b: int | float) -> int | float:
    return a + b
