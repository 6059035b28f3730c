"""The waiting line against a sorted list: whatever happens, it gives the same items in the same order."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.batching import Batcher, WorkItem
from models.spec import BatchRule

MAX_ROWS = 8
OFFER = st.tuples(st.just("offer"), st.integers(1, MAX_ROWS), st.integers(0, 30), st.integers(0, 2))
CANCEL = st.tuples(st.just("cancel"), st.integers(0, 20))
EXPIRE = st.tuples(st.just("expire"), st.integers(0, 10))
TAKE = st.tuples(st.just("take"), st.integers(0, 10))
STEPS = st.lists(st.one_of(OFFER, OFFER, OFFER, OFFER, CANCEL, CANCEL, EXPIRE, TAKE), min_size=25, max_size=80)
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no failure."""


def prefix_that_fits(line):
    """The longest prefix of at most MAX_ROWS rows."""
    batch, room = [], MAX_ROWS
    for item in line:
        if item.rows > room:
            break
        room -= item.rows
        batch.append(item)
    return batch


@UNHURRIED
@given(STEPS)
def test_the_line_is_a_list_sorted_by_priority_deadline_and_arrival(steps):
    """Every batch is the longest prefix that fits: nothing is overtaken by what stands behind it."""
    batcher, line, keys = Batcher(BatchRule(MAX_ROWS)), [], iter(range(1000))
    for step in steps:
        match step:
            case ("offer", rows, deadline_s, priority):
                item = WorkItem(next(keys), "m", rows, 3 * rows, deadline_s, priority, 0.0, None)
                batcher.offer(item)
                line.append(item)
                line.sort(key=lambda each: (each.priority, each.deadline_s, each.key))
            case ("cancel", place):
                expected = line.pop(place % len(line)) if line else None
                assert batcher.cancel(expected.key if expected else "gone") is expected
            case ("expire", now_s):
                assert batcher.expire(now_s) == [each for each in line if each.deadline_s <= now_s]
                line = [each for each in line if each.deadline_s > now_s]
            case ("take", now_s):
                taken = batcher.take(now_s)
                assert taken.expired == [each for each in line if each.deadline_s <= now_s]
                line = [each for each in line if each.deadline_s > now_s]
                assert taken.batch == prefix_that_fits(line)
                line = line[len(taken.batch) :]
        assert batcher.waiting_items == len(line)
        assert batcher.waiting_rows == sum(each.rows for each in line)
        assert batcher.waiting_bytes == sum(each.nbytes for each in line)
        assert batcher.due_s(-1, lane_free=False) == min((each.deadline_s for each in line), default=None)


@UNHURRIED
@given(
    victim_rows=st.integers(1, MAX_ROWS),
    arrivals=st.lists(st.lists(st.tuples(st.integers(1, MAX_ROWS), st.integers(0, 50)), max_size=6), max_size=30),
)
def test_inside_a_priority_an_item_waits_only_for_earlier_deadlines(victim_rows, arrivals):
    """However large it is and whatever keeps arriving: it leaves, and no later deadline leaves before it."""
    batcher = Batcher(BatchRule(MAX_ROWS))
    victim = WorkItem("victim", "m", victim_rows, 1, 25.0, 0, 0.0, None)
    batcher.offer(victim)
    left = []
    for number, wave in enumerate([*arrivals, *[[]] * 200]):
        for place, (rows, deadline_s) in enumerate(wave):
            batcher.offer(WorkItem((number, place), "m", rows, 1, float(deadline_s), 0, 0.0, None))
        left += batcher.take(-1.0).batch
        if victim in left:
            break
    assert all(each.deadline_s < 25.0 for each in left[: left.index(victim)])
