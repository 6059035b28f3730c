"""The queue of a pool: who goes where, who waits for whom, and who is given back."""

from __future__ import annotations

import itertools

from router.protocol.link import Item, ModelGrant
from router.state.pool_queue import Entry, PoolQueue

NUMBERS = itertools.count(1)


def grants(items=1, nbytes=1000, model="m"):
    """What one replica grants."""
    return [ModelGrant(model, "1", 8, items, nbytes, [(1, 0.001)])]


def entry(*without, nbytes=10, deadline_s=9.0, priority=1, model="m"):
    """A request that has failed at the replicas `without`."""
    number = next(NUMBERS)
    item = Item(number, model, "1", 0, priority, "t", "", f"request-{number}", 1, [], [])
    return Entry(number, item, nbytes, deadline_s, None, without)


def pool(*replicas, items=1, nbytes=1000, waiting=100):
    """A queue with these replicas up."""
    queue = PoolQueue(waiting, 10_000)
    for replica in replicas:
        assert queue.replica_up(replica, grants(items, nbytes)) == []
    return queue


def offered(queue, each):
    """Where an entry goes: its replica, "" where it waits, None where it is refused."""
    return each.replica if queue.offer(each) else None


def test_a_retry_that_waits_for_its_replica_does_not_hold_the_others_up():
    """What failed at r1 waits for r2 alone: r1 serves whoever comes, and whoever waits behind it."""
    queue = pool("r1", "r2")
    first, second = entry(), entry()
    assert [offered(queue, first), offered(queue, second)] == ["r1", "r2"]
    retry, behind, late = entry("r1", deadline_s=1.0), entry(deadline_s=2.0), entry(deadline_s=3.0)
    assert [offered(queue, each) for each in (retry, behind, late)] == ["", "", ""]
    assert queue.finished(first) == [behind]
    assert behind.replica == "r1"
    queue.withdraw(late)
    assert queue.finished(behind) == []
    assert offered(queue, entry()) == "r1"
    assert queue.finished(second) == [retry]
    assert retry.replica == "r2"
    assert queue.waiting == 0


def test_nothing_overtakes_a_retry_at_the_replica_it_waits_for():
    """A large retry waits for the bytes of r2: small ones may pass it at r1 only, or it would wait for ever."""
    queue = pool("r1", "r2", items=10, nbytes=100)
    held = entry("r1", nbytes=60)
    assert offered(queue, held) == "r2"
    retry = entry("r1", nbytes=60)
    assert offered(queue, retry) == ""
    assert [offered(queue, entry(nbytes=50)) for _ in range(2)] == ["r1", "r1"]
    small = entry()
    assert offered(queue, small) == ""
    assert offered(queue, entry("r1")) == ""
    assert offered(queue, entry("r2")) == ""
    assert queue.finished(held)[0] is retry
    assert small.replica == "r2"


def test_two_retries_for_different_replicas_leave_none_free():
    """One waits for r2 and r3, one for r1 and r3: whoever comes would overtake one of them."""
    queue = pool("r1", "r2", "r3", items=2, nbytes=100)
    held = [entry(nbytes=90) for _ in range(3)]
    assert [offered(queue, each) for each in held] == ["r1", "r2", "r3"]
    assert [offered(queue, entry(without, nbytes=90)) for without in ("r1", "r2")] == ["", ""]
    assert offered(queue, entry()) == ""


def test_what_may_go_to_draining_replicas_only_is_given_back():
    """It would wait until its deadline; what has another replica goes on waiting."""
    queue = pool("r1", "r2")
    first, second = entry(), entry()
    assert [offered(queue, first), offered(queue, second)] == ["r1", "r2"]
    retry, other = entry("r1"), entry("r2")
    assert [offered(queue, each) for each in (retry, other)] == ["", ""]
    queue.replica_draining("r2")
    assert queue.withdraw_stranded() == [retry]
    assert retry.ended
    assert not queue.withdraw(retry)
    assert queue.waiting == 1
    assert offered(queue, entry("r1")) is None
    assert queue.finished(first) == [other]
    assert queue.finished(second) == []


def test_what_waited_for_a_lost_replica_is_given_back():
    """The same without a drain; in the order in which it would have gone."""
    queue = pool("r1", "r2")
    assert [offered(queue, entry()) for _ in range(2)] == ["r1", "r2"]
    late, soon = entry("r1", deadline_s=2.0), entry("r1", deadline_s=1.0)
    assert [offered(queue, late), offered(queue, soon)] == ["", ""]
    queue.replica_down("r2")
    assert queue.withdraw_stranded() == [soon, late]
    assert offered(queue, entry("r1")) is None
    queue.replica_down("r1")
    assert queue.withdraw_stranded() == []
    assert offered(queue, entry()) is None


def test_a_replica_without_the_model_keeps_nothing_waiting():
    """It will never have credit for it."""
    queue = pool("r1")
    queue.replica_up("r2", grants(model="other"))
    assert offered(queue, entry()) == "r1"
    waiting = entry()
    assert offered(queue, waiting) == ""
    assert offered(queue, entry("r1")) is None
    queue.replica_draining("r1")
    assert queue.withdraw_stranded() == [waiting]


def test_what_waits_goes_by_priority_then_deadline_over_all_retries():
    """Which replicas a request has failed at does not move it forward or back."""
    queue = pool("r1", items=3)
    held = [entry() for _ in range(3)]
    assert [offered(queue, each) for each in held] == ["r1"] * 3
    third, first, second = entry("x", priority=2), entry("y", deadline_s=8.0), entry(deadline_s=9.0)
    assert [offered(queue, each) for each in (third, first, second)] == [""] * 3
    assert [queue.finished(each) for each in held] == [[first], [second], [third]]


def test_the_bounds_hold_over_what_comes_and_goes():
    """Items and bytes that wait are counted down however they leave."""
    queue = pool("r1", waiting=2)
    held = entry()
    assert offered(queue, held) == "r1"
    for _ in range(3):
        one, two = entry(nbytes=5000), entry("x", nbytes=5000)
        assert [offered(queue, each) for each in (one, two, entry())] == ["", "", None]
        assert [queue.withdraw(each) for each in (one, two)] == [True, True]
        assert queue.waiting == 0
    one = entry(nbytes=9_999)
    assert [offered(queue, each) for each in (one, entry())] == ["", None]
    assert queue.finished(held) == [one]


def test_a_model_that_a_replica_has_closed_goes_to_the_others_and_nothing_waits_for_it():
    """What waited for it alone is given back; opened again, it takes what waits."""
    queue = pool("r1", "r2")
    assert [offered(queue, entry()) for _ in range(2)] == ["r1", "r2"]
    for_r1 = entry("r2")
    assert offered(queue, for_r1) == ""
    assert queue.replica_changed("r1", {"m"}, []) == []
    assert queue.withdraw_stranded() == [for_r1]
    waiting = entry()
    assert offered(queue, waiting) == ""
    assert queue.replica_changed("r1", (), grants(items=2)) == [waiting]
    assert waiting.replica == "r1"


def test_a_pool_whose_every_replica_has_closed_the_model_takes_none_of_it():
    """Another model is served."""
    queue = pool()
    queue.replica_up("r1", [*grants(), *grants(model="n")])
    queue.replica_changed("r1", {"m"}, [])
    assert offered(queue, entry()) is None
    assert offered(queue, entry(model="n")) == "r1"
