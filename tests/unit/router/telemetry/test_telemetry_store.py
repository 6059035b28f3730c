"""Merging, death and the archive, on real files and real locks."""

import os
import shutil
from pathlib import Path

from router.telemetry.store import Snapshot, SnapshotFile, collect
from router.telemetry.table import AGE, INFLIGHT, OVERRUNS, REQUESTS, ROUTERS, STAGE

LABELS = ("search", "minilm", "answered")


def snapshot(requests: int, inflight: int = 0) -> Snapshot:
    return Snapshot({REQUESTS.key: [(LABELS, [requests])]}, {INFLIGHT.key: [(("cpu",), [inflight])]})


def requests(folder: Path) -> int | float:
    return collect(folder, 0.0)[0].get(REQUESTS.key, {}).get(LABELS, [0])[0]


def test_an_empty_folder_has_no_routers_and_no_counts(tmp_path):
    """The folder is made where it is missing."""
    totals, gauges = collect(tmp_path / "new", 0.0)
    assert (totals, gauges) == ({}, {ROUTERS.key: {(): [0]}, AGE.key: {(): [0.0]}})


def test_counters_of_live_processes_add_up_and_so_do_their_gauges(tmp_path):
    """Two writers, one answer."""
    files = [SnapshotFile(tmp_path), SnapshotFile(tmp_path)]
    for file, count in zip(files, (3, 4), strict=True):
        file.write(snapshot(count, inflight=count))
    totals, gauges = collect(tmp_path, 0.0)
    assert totals[REQUESTS.key][LABELS] == [7]
    assert gauges[INFLIGHT.key]["cpu",] == [7]
    assert gauges[ROUTERS.key][()] == [2]


def test_a_dead_process_leaves_its_counts_and_takes_its_gauges(tmp_path):
    """Its files are folded into the archive: the folder does not grow."""
    for count in range(1, 21):
        file = SnapshotFile(tmp_path)
        file.write(snapshot(count, inflight=count))
        file.close()
        collect(tmp_path, 0.0)
    assert requests(tmp_path) == sum(range(1, 21))
    assert INFLIGHT.key not in collect(tmp_path, 0.0)[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive.json", "readers"]


def test_a_reader_that_dies_after_the_archive_and_before_the_removal_counts_nothing_twice(tmp_path):
    """The files come back as if they had never been removed."""
    file = SnapshotFile(tmp_path / "now")
    file.write(snapshot(5))
    file.close()
    shutil.copytree(tmp_path / "now", tmp_path / "before")
    collect(tmp_path / "now", 0.0)
    shutil.copytree(tmp_path / "before", tmp_path / "now", dirs_exist_ok=True)
    assert [requests(tmp_path / "now"), requests(tmp_path / "now")] == [5, 5]
    assert not list((tmp_path / "now").glob("router-*"))


def test_an_archive_that_cannot_be_written_delays_the_folding_and_loses_nothing(tmp_path, caplog):
    """Each reading is right all the same."""
    file = SnapshotFile(tmp_path)
    file.write(snapshot(5))
    file.close()
    obstacle = tmp_path / "archive.tmp"
    obstacle.mkdir()
    assert [requests(tmp_path), requests(tmp_path)] == [5, 5]
    assert "will retry" in caplog.text
    obstacle.rmdir()
    assert [requests(tmp_path), requests(tmp_path)] == [5, 5]
    assert not list(tmp_path.glob("router-*"))


def test_a_damaged_file_is_set_aside_and_the_rest_still_counts(tmp_path, caplog):
    """What it held is lost, and said to be."""
    good, bad = SnapshotFile(tmp_path), SnapshotFile(tmp_path)
    bad.write(snapshot(5))
    next(tmp_path.glob("*.json")).write_bytes(b'{"totals": {')
    bad.close()
    good.write(snapshot(2))
    assert [requests(tmp_path), requests(tmp_path)] == [2, 2]
    assert caplog.text.count("its counts are lost") == 1


def test_a_router_that_did_not_flush_yet_is_alive_without_counts(tmp_path):
    """Between the lock and the first content there is a moment."""
    file = SnapshotFile(tmp_path)
    file.write(snapshot(5))
    next(tmp_path.glob("*.json")).unlink()
    totals, gauges = collect(tmp_path, 0.0)
    assert (totals, gauges[ROUTERS.key]) == ({}, {(): [1]})


def test_series_of_an_unlike_layout_are_never_added(tmp_path):
    """Another version's buckets have another key, so they are left out instead of shifted."""
    other = f"{STAGE.name}#00000000"
    file = SnapshotFile(tmp_path)
    file.write(Snapshot({other: [(("cpu", "mlp", "run"), [1, 2, 3])], REQUESTS.key: [(LABELS, [1])]}, {}))
    assert set(collect(tmp_path, 0.0)[0]) == {REQUESTS.key}


def test_what_all_routers_report_of_one_replica_is_counted_once(tmp_path):
    """Overruns are the replica's own total: the largest wins, also against the archive."""
    first, second = SnapshotFile(tmp_path), SnapshotFile(tmp_path)
    first.write(Snapshot({OVERRUNS.key: [(("a910", "replica-1"), [4])]}, {}))
    first.close()
    collect(tmp_path, 0.0)
    second.write(Snapshot({OVERRUNS.key: [(("a910", "replica-1"), [6]), (("a910", "replica-2"), [1])]}, {}))
    assert collect(tmp_path, 0.0)[0][OVERRUNS.key] == {("a910", "replica-1"): [6], ("a910", "replica-2"): [1]}


def test_the_age_is_that_of_the_router_silent_for_longest(tmp_path):
    """A flush renews it, also one that changes nothing."""
    files = [SnapshotFile(tmp_path), SnapshotFile(tmp_path)]
    for file in files:
        file.write(snapshot(1))
    for lock, flushed_s in zip(tmp_path.glob("*.lock"), (100.0, 120.0), strict=True):
        os.utime(lock, (flushed_s, flushed_s))
    assert collect(tmp_path, 130.0)[1][AGE.key] == {(): [30.0]}
    for file in files:
        file.write(snapshot(1))
    assert collect(tmp_path, 130.0)[1][AGE.key] == {(): [0.0]}
