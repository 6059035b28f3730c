"""The one door to the clock of the router process."""

from __future__ import annotations

import time


class SystemClock:
    """Monotonic time for durations and deadlines; wall time only for rule dates and logs."""

    now_s = staticmethod(time.perf_counter)
    unix_s = staticmethod(time.time)
