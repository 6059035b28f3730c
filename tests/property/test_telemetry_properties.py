"""Whatever the order of counting, flushing, dying and reading, nothing flushed is lost or counted twice."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.record import RequestRecord
from router.telemetry.metrics import Metrics
from router.telemetry.store import collect
from router.telemetry.table import REQUESTS, STAGE

STEPS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["observe", "flush", "die", "read"])), max_size=40)
RECORD = RequestRecord("r", "t", "m", "answered", 200, total_s=0.25)


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_a_reading_is_the_sum_of_all_that_was_flushed(steps):
    """Three routers in one folder; each dies and restarts at will."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        routers = [Metrics(folder) for _ in range(3)]
        counted, flushed, buried = [0] * 3, [0] * 3, 0
        for i, step in steps:
            if step == "observe":
                routers[i].observe(RECORD)
                counted[i] += 1
            elif step == "die":
                routers[i].close()
                buried, counted[i], flushed[i] = buried + counted[i], 0, 0
                routers[i] = Metrics(folder)
            elif step == "flush":
                assert routers[i].flush()
                flushed[i] = counted[i]
            else:
                totals, _ = collect(folder, 0.0)
                expected = buried + sum(flushed)
                requests = totals.get(REQUESTS.key, {}).values()
                stages = totals.get(STAGE.key, {}).values()
                assert sum(values[0] for values in requests) == expected
                assert sum(sum(values[:-1]) for values in stages) == expected
                assert sum(values[-1] for values in stages) == expected * 0.25
        for router in routers:
            router.close()
