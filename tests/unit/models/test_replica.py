"""What a replica admits, runs, cancels and lets go, by example."""

import math

import pytest

from models.batching import WorkItem
from models.replica import Refusal, ReplicaCore
from models.spec import BatchRule


def item(key, model="fast", *, rows=1, nbytes=10, deadline_s=10.0, priority=0):
    """An item enqueued at 0."""
    return WorkItem(key, model, rows, nbytes, deadline_s, priority, 0.0, None)


def replica(*items, max_items=4, max_bytes=100):
    """A replica of a fast and a slow model, at most 8 rows a batch, that holds these items."""
    core = ReplicaCore({"fast": BatchRule(8), "slow": BatchRule(8)}, max_items, max_bytes)
    for each in items:
        assert core.admit(each, 0) is None
    return core


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        (item("x", "unknown"), Refusal.MODEL_NOT_FOUND),
        (item("x", rows=9), Refusal.TOO_LARGE),
        (item("x", nbytes=101), Refusal.TOO_LARGE),
        (item("x", deadline_s=1), Refusal.EXPIRED),
        (item("x", deadline_s=math.nan), Refusal.EXPIRED),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_reason(refused, why):
    """Nothing of it stays."""
    core = replica()
    assert core.admit(refused, 1) is why
    assert core.held_items == 0


def test_a_full_lane_refuses_by_items_and_by_bytes_until_its_batch_is_done():
    """Running items count: their tensors are still in memory."""
    core = replica(item("a"), item("b"), max_items=2)
    assert core.admit(item("c"), 0) is Refusal.QUEUE_FULL
    core.take("fast", 0)
    assert core.admit(item("c"), 0) is Refusal.QUEUE_FULL
    core.done("fast", 1)
    assert core.admit(item("c", nbytes=60), 1) is None
    assert core.admit(item("d", nbytes=41), 1) is Refusal.QUEUE_FULL
    assert core.admit(item("d", nbytes=40), 1) is None


def test_a_full_and_busy_lane_leaves_the_other_model_alone():
    """A slow model never blocks a fast one, neither at the door nor in its lane."""
    core = replica(item("a", "slow"), item("b", "slow"), max_items=2)
    core.take("slow", 0)
    assert core.admit(item("c", "slow"), 0) is Refusal.QUEUE_FULL
    assert core.admit(item("d", "fast"), 0) is None
    assert core.ready_lanes() == ["fast"]
    assert [each.key for each in core.take("fast", 0).batch] == ["d"]


def test_a_lane_runs_one_batch_at_a_time():
    """take() gives nothing while it is busy, and nothing where nothing waits."""
    core = replica(item("a"))
    assert core.take("slow", 0) is None
    core.take("fast", 0)
    core.admit(item("b"), 0)
    assert core.ready_lanes() == []
    assert core.take("fast", 0) is None
    core.done("fast", 1)
    assert [each.key for each in core.take("fast", 1).batch] == ["b"]


def test_a_key_that_is_held_is_an_error_of_the_caller_even_while_it_runs():
    """Two items under one key could not be told apart by cancel."""
    core = replica(item("a"))
    core.take("fast", 0)
    for model in ("fast", "slow"):
        with pytest.raises(ValueError, match="held already"):
            core.admit(item("a", model), 0)


def test_done_without_a_running_batch_is_an_error_of_the_caller():
    """Also after a take that found only expired items."""
    core = replica(item("a", deadline_s=1))
    taken = core.take("fast", 1)
    assert (taken.batch, [each.key for each in taken.expired]) == ([], ["a"])
    with pytest.raises(ValueError, match="no batch"):
        core.done("fast", 1)


def test_cancelling_a_waiting_item_ends_it_and_a_running_one_is_told_by_done():
    """True only where it will not run."""
    core = replica(item("runs"), item("kept"))
    core.take("fast", 0)
    core.admit(item("waits"), 0)
    assert core.cancel("waits") is True
    assert core.cancel("runs") is False
    assert core.cancel("never seen") is False
    assert [(e.item.key, e.cancelled) for e in core.done("fast", 1)] == [("runs", True), ("kept", False)]
    assert core.cancel("runs") is False
    assert core.held_items == 0


def test_a_cancel_does_not_stick_to_the_next_item_of_the_same_key():
    """done() forgets what was cancelled."""
    core = replica(item("a"))
    core.take("fast", 0)
    core.cancel("a")
    core.done("fast", 1)
    core.admit(item("a"), 1)
    core.take("fast", 1)
    assert [e.cancelled for e in core.done("fast", 2)] == [False]


def test_done_says_which_answers_came_too_late():
    """At the deadline an answer is of no use."""
    core = replica(item("a", deadline_s=5), item("b", deadline_s=5.1))
    core.take("fast", 0)
    assert [(e.item.key, e.late) for e in core.done("fast", 5)] == [("a", True), ("b", False)]


def test_waiting_items_expire_behind_a_busy_lane_and_running_ones_do_not():
    """expire() looks at every lane."""
    core = replica(item("runs", deadline_s=2))
    core.take("fast", 0)
    core.admit(item("waits", deadline_s=2), 0)
    core.admit(item("other", "slow", deadline_s=3), 0)
    assert [each.key for each in core.expire(3)] == ["waits", "other"]
    assert core.held_items == 1


def test_due_is_now_for_a_ready_lane_else_the_earliest_deadline_else_never():
    """What a driver sleeps until."""
    core = replica(item("a"))
    assert core.due_s(1) == 1
    core.take("fast", 1)
    assert core.due_s(1) is None
    core.admit(item("b", deadline_s=7), 1)
    assert core.due_s(1) == 7


def test_waiting_rows_counts_what_waits_and_what_runs_of_every_model():
    """A model without work is there with 0: absent would read as unknown."""
    core = replica(item("a", rows=3))
    core.take("fast", 0)
    core.admit(item("b", rows=2), 0)
    assert core.waiting_rows() == {"fast": 5, "slow": 0}


def test_a_draining_replica_admits_nothing_and_is_drained_once_the_last_item_has_left():
    """What is held still runs."""
    core = replica(item("a"))
    core.drain()
    assert core.admit(item("b"), 0) is Refusal.DRAINING
    assert not core.drained
    core.take("fast", 0)
    assert not core.drained
    core.done("fast", 1)
    assert core.drained


def alone(*items, at_once=2):
    """A replica that runs items each by itself, so many at once, and holds these."""
    core = ReplicaCore({"fast": BatchRule(8)}, 8, 100, alone=at_once)
    for each in items:
        assert core.admit(each, 0) is None
    return core


def test_items_that_run_alone_run_several_at_once_and_end_one_by_one():
    """In any order; each that ends makes room for the next."""
    core = alone(item("a"), item("b"), item("c"))
    assert [core.take("fast", 0).batch[0].key for _ in range(2)] == ["a", "b"]
    assert core.take("fast", 0) is None
    assert core.ready_lanes() == []
    assert core.waiting_rows() == {"fast": 3}
    (ended,) = core.done("fast", 1, "b")
    assert ended.item.key == "b"
    assert core.ready_lanes() == ["fast"]
    assert core.take("fast", 1).batch[0].key == "c"
    assert core.waiting_rows() == {"fast": 2}
    with pytest.raises(ValueError, match="no batch"):
        core.done("fast", 1, "b")
    assert {each.item.key for key in ("c", "a") for each in core.done("fast", 2, key)} == {"a", "c"}
    assert core.held_items == 0


def test_cancelling_one_that_runs_alone_leaves_the_others():
    """Its end says so."""
    core = alone(item("a"), item("b"))
    for _ in range(2):
        core.take("fast", 0)
    assert core.cancel("a") is False
    assert [core.done("fast", 1, key)[0].cancelled for key in ("b", "a")] == [False, True]


def test_what_waits_can_be_taken_back_while_what_runs_goes_on():
    """In the order in which it would have run."""
    core = alone(item("a"), item("late", deadline_s=20), item("b", deadline_s=5), at_once=1)
    taken = core.take("fast", 0).batch[0].key
    withdrawn = [each.key for each in core.withdraw("fast")]
    assert (taken, withdrawn) == ("b", ["a", "late"])
    assert core.held_keys() == ["b"]
