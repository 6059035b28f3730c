"""A replica under any order of events: every admitted item leaves exactly once, bounds and order hold, drain ends."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from models.batching import WorkItem
from models.replica import Refusal, ReplicaCore
from models.spec import BatchRule

RULES = {"small": BatchRule(1), "middle": BatchRule(4), "large": BatchRule(16)}
MODELS = st.sampled_from(sorted(RULES))
MAX_ITEMS, MAX_BYTES = 6, 60


def order(item):
    """Where an item stands in its line; keys count up in order of arrival."""
    return (item.priority, item.deadline_s, item.key)


class ReplicaMachine(RuleBasedStateMachine):
    """Drives a ReplicaCore with a virtual clock beside a plain book of what it should hold."""

    def __init__(self):
        super().__init__()
        self.core = ReplicaCore(RULES, MAX_ITEMS, MAX_BYTES)
        self.now_s = 0.0
        self.keys = 0
        self.waiting = {model: {} for model in RULES}
        self.running = {model: [] for model in RULES}
        self.cancelled = set()
        self.draining = False
        self.admitted = 0
        self.left = []

    def expected_refusal(self, item):
        """The reason by the book, in the order of precedence."""
        held = [*self.waiting[item.model].values(), *self.running[item.model]]
        if item.rows > RULES[item.model].max_rows or item.nbytes > MAX_BYTES:
            return Refusal.TOO_LARGE
        if self.draining:
            return Refusal.DRAINING
        if item.deadline_s <= self.now_s:
            return Refusal.EXPIRED
        if len(held) == MAX_ITEMS or sum(each.nbytes for each in held) + item.nbytes > MAX_BYTES:
            return Refusal.QUEUE_FULL
        return None

    def leave_expired(self, items):
        """These have ended without running: each was waiting and its deadline has passed."""
        for item in items:
            assert item.deadline_s <= self.now_s
            assert self.waiting[item.model].pop(item.key) is item
            self.left.append(item.key)

    @rule(seconds=st.floats(0, 3))
    def pass_time(self, seconds):
        """The clock moves."""
        self.now_s += seconds

    @rule(
        model=MODELS,
        share=st.integers(1, 16),
        nbytes=st.integers(0, 20),
        budget_s=st.floats(1, 8),
        priority=st.integers(0, 2),
    )
    def admit(self, model, share, nbytes, budget_s, priority):
        """A sound request arrives: it fits its lane, which may be full."""
        self.arrive(model, -(-share * RULES[model].max_rows // 16), nbytes, budget_s, priority)

    @rule(model=MODELS, rows=st.integers(1, 17), nbytes=st.integers(0, 70), budget_s=st.floats(-1, 1))
    def admit_odd(self, model, rows, nbytes, budget_s):
        """Any request arrives: too many rows, too many bytes, too late."""
        self.arrive(model, rows, nbytes, budget_s, 0)

    def arrive(self, model, rows, nbytes, budget_s, priority):
        """It is admitted or refused as the book says."""
        item = WorkItem(self.keys, model, rows, nbytes, self.now_s + budget_s, priority, self.now_s, None)
        self.keys += 1
        expected = self.expected_refusal(item)
        assert self.core.admit(item, self.now_s) is expected
        if expected is None:
            self.waiting[model][item.key] = item
            self.admitted += 1

    def keys_held(self):
        """Keys waiting or running."""
        lines = [*(line.values() for line in self.waiting.values()), *self.running.values()]
        return sorted(item.key for line in lines for item in line)

    @precondition(lambda self: self.keys_held())
    @rule(data=st.data())
    def cancel(self, data):
        """A client hangs up: on something waiting, running or (key 0, later) long gone."""
        key = data.draw(st.sampled_from([*self.keys_held(), 0]))
        line = next((line for line in self.waiting.values() if key in line), None)
        assert self.core.cancel(key) is (line is not None)
        if line is not None:
            del line[key]
            self.left.append(key)
        elif any(item.key == key for batch in self.running.values() for item in batch):
            self.cancelled.add(key)

    @rule()
    def expire(self):
        """The driver woke up for a deadline."""
        self.leave_expired(self.core.expire(self.now_s))
        assert all(item.deadline_s > self.now_s for line in self.waiting.values() for item in line.values())

    @rule(model=MODELS)
    def take(self, model):
        """A lane looks for work: what it gets is a prefix of its line, and no longer prefix would fit."""
        line, max_rows = self.waiting[model], RULES[model].max_rows
        taken = self.core.take(model, self.now_s)
        if taken is None:
            assert self.running[model] or not line
            return
        assert not self.running[model]
        self.leave_expired(taken.expired)
        in_order = sorted(line.values(), key=order)
        assert taken.batch == in_order[: len(taken.batch)]
        rows = sum(item.rows for item in taken.batch)
        assert rows <= max_rows
        assert len(taken.batch) == len(in_order) or rows + in_order[len(taken.batch)].rows > max_rows
        assert all(item.deadline_s > self.now_s for item in taken.batch)
        for item in taken.batch:
            del line[item.key]
        self.running[model] = taken.batch

    @precondition(lambda self: any(self.running.values()))
    @rule(data=st.data())
    def done(self, data):
        """A batch comes back."""
        model = data.draw(st.sampled_from(sorted(m for m, batch in self.running.items() if batch)))
        ended = self.core.done(model, self.now_s)
        assert [each.item for each in ended] == self.running[model]
        assert [each.cancelled for each in ended] == [each.item.key in self.cancelled for each in ended]
        assert [each.late for each in ended] == [each.item.deadline_s <= self.now_s for each in ended]
        self.left += [each.item.key for each in ended]
        self.running[model] = []

    @rule()
    @precondition(lambda self: self.admitted > 5)
    def drain(self):
        """The replica is told to leave."""
        self.core.drain()
        self.draining = True

    @invariant()
    def what_it_says_is_what_it_holds(self):
        """Counts, rows, readiness, due time and drained agree with the book."""
        waiting = {model: list(line.values()) for model, line in self.waiting.items()}
        held = {model: waiting[model] + self.running[model] for model in RULES}
        assert sorted(self.core.held_keys()) == self.keys_held()
        assert self.core.held_items == sum(map(len, held.values())) == self.admitted - len(self.left)
        assert all(len(items) <= MAX_ITEMS for items in held.values())
        assert all(sum(item.nbytes for item in items) <= MAX_BYTES for items in held.values())
        assert self.core.waiting_rows() == {m: sum(item.rows for item in items) for m, items in held.items()}
        ready = [model for model in RULES if waiting[model] and not self.running[model]]
        assert self.core.ready_lanes() == ready
        deadlines_s = [item.deadline_s for items in waiting.values() for item in items]
        due_s = self.now_s if ready else max(self.now_s, min(deadlines_s)) if deadlines_s else None
        assert self.core.due_s(self.now_s) == due_s
        assert self.core.drained is (self.draining and not any(held.values()))

    def teardown(self):
        """Drain to the end: every admitted item has left, once."""
        self.core.drain()
        for _ in range(self.admitted + 1):
            for model in RULES:
                if self.running[model]:
                    self.left += [each.item.key for each in self.core.done(model, self.now_s)]
                taken = self.core.take(model, self.now_s)
                self.leave_expired(taken.expired if taken else [])
                self.running[model] = taken.batch if taken else []
        assert self.core.drained
        assert len(self.left) == len(set(self.left)) == self.admitted


TestReplicaMachine = ReplicaMachine.TestCase
TestReplicaMachine.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
