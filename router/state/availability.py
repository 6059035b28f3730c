"""Whether a model of an upstream may be sent requests: what its answers, its silence and its own word say of it.

Closed until a real inference has proven it. Open, it closes on failures in a row, on mostly failures, on silence while
requests are under way and on its own word. Closed, one small inference at a time (a probe) opens it again, since a
server may say that it is ready and answer nothing. Refusals are no failures: several in a row close it for as long
as the server asks, and nothing has to be proven then.
"""

from __future__ import annotations

from collections import deque
from math import exp, inf

IN_A_ROW = 3
"""Failures, or refusals, without an answer between them."""
MOSTLY = 0.5
MOSTLY_OF = 8.0
"""Share of failures that closes it, once so many outcomes are remembered."""
FADE_S = 2.0
"""An outcome's weight fades with exp(-age / FADE_S)."""
PROBE_S = 0.25
"""Between two probes while it is closed."""
IDLE_S = 1.0
"""Open and without news for so long, it is probed too: traffic is not to be what finds out."""
HOLD_S, HOLD_MAX_S = 0.1, 1.0
"""How long refusals close it at least, whatever the server says: doubled each time until an answer comes."""
RETRY_AFTER_MAX_S = 10.0
RELAPSE_S, MAX_PROOFS = 10.0, 8
"""Closed again within RELAPSE_S, it needs twice as many probes to open, up to MAX_PROOFS."""
STEP_MAX_S = 0.25
"""Silence counted between two looks at most, so that a pause of this process is not taken for one of the upstream's."""
SLOWER = 4.0
"""Silence of so many usual answers is no hang, however short `hung_after_s`."""

DRIFT = 3.0
DRIFT_OF = 5
"""So many answers in a row, each DRIFT times slower or faster than expected, are no accident."""

Closed = tuple[str, str]
"""The reason a request would be refused with, and words."""


class Drift:
    """Whether a curve still says how long answers take."""

    def __init__(self) -> None:
        self._ratios: deque[float] = deque(maxlen=DRIFT_OF)

    def observe(self, took_s: float, expected_s: float) -> float | None:
        """One answer; the factor by which the curve is to be corrected, once it is, and then counting starts again."""
        if expected_s <= 0.0:
            return None
        self._ratios.append(took_s / expected_s)
        ratios = sorted(self._ratios)
        if len(ratios) < DRIFT_OF or not (ratios[0] > DRIFT or ratios[-1] * DRIFT < 1.0):
            return None
        self._ratios.clear()
        return ratios[DRIFT_OF // 2]


class Availability:
    """One model of one upstream. Each `sent` is ended by one of answered, heard, failed, refused and left."""

    def __init__(self, hung_after_s: float) -> None:
        self._hung_after_s = hung_after_s
        self._down = "not measured yet"
        self._told = ""
        self._hung = self._doubtful = False
        self._failures = self._refusals = self._holds = 0
        self._good = self._bad = 0.0
        self._faded_s = -inf
        self._full = ""
        self._full_until_s = -inf
        self._open = 0
        self._silent_s = 0.0
        self._looked_s = -inf
        self._heard_s = -inf
        self._probed_s = -inf
        self._opened_s = -inf
        self._proofs, self._needed = 0, 1
        self.usual_s = 0.0
        """How long an answer usually takes."""

    @property
    def hung(self) -> bool:
        """Silent for so long that what is under way will not be answered, whatever else has closed it before."""
        return self._hung

    def closed(self, now_s: float) -> Closed | None:
        """Why it may not be sent requests now; None where it may. To be asked several times in a second."""
        self._look(now_s)
        bound_s = max(self._hung_after_s, SLOWER * self.usual_s)
        if not self._hung and self._silent_s >= bound_s:
            self._hung = True
            self._close(f"no answer for {self._silent_s:.2g} s while {self._open} requests wait", now_s)
        if self._down:
            return "backend_lost", f"upstream: {self._down}"
        return ("queue_full", f"upstream: {self._full}") if now_s < self._full_until_s else None

    def sent(self, now_s: float) -> None:
        """A request is on its way there."""
        self._look(now_s)
        self._open += 1

    def answered(self, took_s: float, now_s: float) -> None:
        """It was answered, after so long."""
        self._ended(now_s)
        self._good += 1.0
        self._news(now_s)
        self._learn(took_s)

    def heard(self, now_s: float, *, doubtful: bool = False) -> None:
        """It ended with a word of the upstream's that says nothing of how it is; doubtful, it may be said to all."""
        self._ended(now_s)
        self._silent_s = 0.0
        self._doubtful = self._doubtful or doubtful

    def failed(self, why: str, now_s: float) -> None:
        """It failed for a reason of the upstream's."""
        self._ended(now_s)
        self._silent_s = 0.0
        self._fail(why, now_s)

    def refused(self, why: str, retry_after_s: float | None, now_s: float) -> None:
        """The upstream is too busy; it may have said when to come again."""
        self._ended(now_s)
        self._silent_s = 0.0
        self._refuse(why, retry_after_s, now_s)

    def left(self, now_s: float) -> None:
        """It ended without a word of the upstream's: cancelled, or out of time."""
        self._ended(now_s)

    def told(self, why: str, now_s: float) -> None:
        """What it says of its readiness: why it is not ready, or "". Ready, it still has to prove it."""
        if why and (why != self._told or not self._down):
            self._close(why, now_s)
        self._told = why

    def unheard(self, why: str, now_s: float) -> None:
        """It did not say in time whether it is ready: a failure, unless it answers requests or probes meanwhile."""
        heard_s = self._heard_s
        self._fail(why, now_s)
        self._heard_s = heard_s

    def probe_due(self, now_s: float) -> bool:
        """Whether a small inference is to find out more; the caller runs one at a time and tells its outcome."""
        if self._told:
            return False
        if self._down:
            return now_s - self._probed_s >= PROBE_S
        if now_s < self._full_until_s:
            return False
        if self._doubtful:
            return now_s - self._probed_s >= IDLE_S
        return not self._open and now_s - max(self._heard_s, self._probed_s) >= IDLE_S

    def probed(self, took_s: float, now_s: float) -> None:
        """A probe was answered, after so long."""
        self._probed_s = now_s
        self.usual_s = took_s if self._down else self.usual_s
        self._news(now_s)
        if self._down and not self._told:
            self._proofs += 1
            if self._proofs >= self._needed:
                self._down, self._hung, self._opened_s = "", False, now_s
                self._good = self._bad = self._silent_s = 0.0

    def probe_failed(self, why: str, now_s: float) -> None:
        """A probe failed, for whatever reason."""
        self._probed_s = now_s
        self._proofs = 0
        if self._down and not self._told:
            self._down = why
        elif not self._down:
            self._fail(why, now_s)

    def probe_refused(self, why: str, retry_after_s: float | None, now_s: float) -> None:
        """The upstream was too busy for a probe: that proves nothing."""
        self._probed_s = now_s
        if not self._down:
            self._refuse(why, retry_after_s, now_s)
        elif not self._told:
            self._down = why

    def _look(self, now_s: float) -> None:
        if self._open:
            self._silent_s += min(STEP_MAX_S, max(0.0, now_s - self._looked_s))
        self._looked_s = now_s

    def _ended(self, now_s: float) -> None:
        self._look(now_s)
        self._open -= 1

    def _news(self, now_s: float) -> None:
        self._heard_s = now_s
        self._failures = self._refusals = self._holds = 0
        self._silent_s = 0.0
        self._doubtful = False

    def _learn(self, took_s: float) -> None:
        self.usual_s += 0.2 * (took_s - self.usual_s)

    def _refuse(self, why: str, retry_after_s: float | None, now_s: float) -> None:
        self._heard_s = now_s
        self._refusals += 1
        if self._refusals < IN_A_ROW or now_s < self._full_until_s:
            return
        hold_s = max(retry_after_s or 0.0, min(HOLD_MAX_S, HOLD_S * 2.0 ** min(self._holds, 10)))
        self._holds += 1
        self._full, self._full_until_s = why, now_s + min(hold_s, RETRY_AFTER_MAX_S)

    def _fail(self, why: str, now_s: float) -> None:
        self._heard_s = now_s
        self._failures += 1
        keep = exp(-max(0.0, now_s - self._faded_s) / FADE_S)
        self._faded_s = now_s
        self._good *= keep
        self._bad = self._bad * keep + 1.0
        outcomes = self._good + self._bad
        if self._failures >= IN_A_ROW or (outcomes >= MOSTLY_OF and self._bad >= MOSTLY * outcomes):
            self._close(why, now_s)

    def _close(self, why: str, now_s: float) -> None:
        if not self._down:
            relapsed = now_s - self._opened_s < RELAPSE_S
            self._needed = min(2 * self._needed, MAX_PROOFS) if relapsed else 1
        self._down = why
        self._proofs = self._failures = 0
