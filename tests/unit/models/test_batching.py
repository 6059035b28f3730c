"""The order and the limits of one waiting line, by example."""

import itertools

import pytest

from models.batching import Batcher, WorkItem
from models.spec import BatchRule


def item(key, *, rows=1, deadline_s=10.0, priority=0, nbytes=4):
    """An item of the model "m", enqueued at 0."""
    return WorkItem(key, "m", rows, nbytes, deadline_s, priority, 0.0, None)


def line(*items, max_rows=8):
    """A batcher in which these items wait."""
    batcher = Batcher(BatchRule(max_rows=max_rows))
    for each in items:
        batcher.offer(each)
    return batcher


def keys(items):
    """The keys, in order."""
    return [each.key for each in items]


def test_the_earliest_deadline_leaves_first_and_ties_leave_in_order_of_arrival():
    """EDF, then first come first."""
    batcher = line(item("late", deadline_s=9), item("a", deadline_s=5), item("b", deadline_s=5), max_rows=2)
    assert keys(batcher.take(0).batch) == ["a", "b"]
    assert keys(batcher.take(0).batch) == ["late"]


def test_a_lower_priority_number_leaves_before_any_deadline_of_a_higher_one():
    """Priority stands over deadlines."""
    batcher = line(item("bulk", priority=2, deadline_s=1), item("urgent", priority=0, deadline_s=9))
    assert keys(batcher.take(0).batch) == ["urgent", "bulk"]


def test_a_batch_ends_at_the_first_item_that_does_not_fit():
    """The gap is not filled with what comes later, not even from another priority."""
    batcher = line(item("a", rows=5), item("big", rows=6), item("small", rows=1), item("bulk", priority=1))
    assert keys(batcher.take(0).batch) == ["a"]
    assert keys(batcher.take(0).batch) == ["big", "small", "bulk"]


def test_an_item_expires_at_its_deadline_and_not_before():
    """The deadline itself is too late."""
    batcher = line(item("a", deadline_s=5))
    assert batcher.expire(4.999) == []
    assert keys(batcher.expire(5)) == ["a"]
    assert batcher.waiting_items == 0


def test_take_gives_expired_items_apart_from_the_batch():
    """What is too late does not run, whatever its priority."""
    batcher = line(item("gone", deadline_s=1), item("runs", deadline_s=9), item("gone too", deadline_s=2, priority=3))
    taken = batcher.take(2)
    assert keys(taken.batch) == ["runs"]
    assert keys(taken.expired) == ["gone", "gone too"]


def test_a_cancelled_item_leaves_at_once_and_only_once():
    """Its rows and bytes stop counting; a second cancel finds nothing."""
    batcher = line(item("a", rows=3, nbytes=10), item("b", rows=2, nbytes=20))
    assert batcher.cancel("a").key == "a"
    assert (batcher.waiting_items, batcher.waiting_rows, batcher.waiting_bytes) == (1, 2, 20)
    assert batcher.cancel("a") is None
    assert keys(batcher.take(0).batch) == ["b"]
    assert batcher.cancel("b") is None


def test_a_key_may_return_after_it_was_cancelled_and_stands_where_its_new_deadline_says():
    """The dead entry of the first stay does not stand for the second."""
    batcher = line(item("a", deadline_s=1), item("b", deadline_s=2))
    batcher.cancel("a")
    batcher.offer(item("a", deadline_s=3))
    assert keys(batcher.take(0).batch) == ["b", "a"]


def test_what_can_never_run_or_waits_already_is_not_taken_in():
    """Zero rows, more than a batch, a key twice."""
    batcher = line(item("a"), max_rows=4)
    for bad in (item("none", rows=0), item("huge", rows=5), item("a")):
        with pytest.raises(ValueError, match=r"never fit|waiting already"):
            batcher.offer(bad)
    assert batcher.waiting_items == 1


def test_a_free_lane_is_due_now_and_a_busy_one_at_the_earliest_deadline():
    """No batching window; a cancelled item wakes nobody."""
    batcher = line(item("a", deadline_s=7), item("b", deadline_s=5, priority=1), item("c", deadline_s=3))
    batcher.cancel("c")
    assert batcher.due_s(1, lane_free=True) == 1
    assert batcher.due_s(1, lane_free=False) == 5
    assert batcher.due_s(6, lane_free=False) == 6
    assert line().due_s(1, lane_free=True) is None
    assert line().due_s(1, lane_free=False) is None


def test_cancelled_items_do_not_pile_up_behind_a_lane_that_never_frees():
    """Offer and cancel for ever: what is kept stays in proportion to what waits."""
    batcher = line(item("b", deadline_s=2), item("a", deadline_s=1))
    for n in range(1000):
        batcher.offer(item(n, priority=n % 7))
        batcher.cancel(n)
        assert sum(len(heap) for heap in batcher._heaps.values()) <= 2 * batcher.waiting_items
    assert keys(batcher.take(0).batch) == ["a", "b"]


def test_every_priority_that_has_emptied_is_forgotten():
    """A peer that invents priorities leaves nothing behind."""
    batcher = line(*(item(n, priority=n) for n in range(50)), max_rows=50)
    batcher.take(0)
    assert batcher._heaps == {}


def test_equal_priority_is_served_completely_while_better_deadlines_keep_coming():
    """A large item waits only for those with an earlier deadline, then leads its batch."""
    batcher = line(item("large", rows=8, deadline_s=5.0))
    arrivals = itertools.count()
    for now_s in range(20):
        batcher.offer(item(next(arrivals), rows=3, deadline_s=now_s + 2.5))
        if "large" in keys(batcher.take(now_s).batch):
            break
    assert now_s == 3  # the arrival of 3 s has deadline 5.5 s, the first after that of the large one
