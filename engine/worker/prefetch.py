"""How many messages a child holds ahead: enough to hide the broker's round trip, never enough to hoard.

`engine.work.Pace` knows how long one task usually takes. `Prefetch` aims at a few tens of milliseconds of
buffered work, and no more than some megabytes of it: hundreds of messages for tasks of microseconds, one for
long ones, three of ten megabytes each. Brokers apply a new prefetch only to a new consumer, so it changes
seldom: upwards at a factor of two or more, downwards at a quarter or less, and at once to 1 when a task turns
out long. Pure: the clock is passed in.
"""

from __future__ import annotations

from collections.abc import Callable

#: buffered work to aim at
TARGET_S = 0.030
#: a task longer than this makes prefetching pointless: its round trip is hidden behind nothing
LONG_S = 0.050
#: a task that takes less than this on average does not make a finished neighbour wait noticeably; a spike
#: (this process lost its CPU for a while) must not count for long, or a loaded machine gets slower still
SHORT_S = 0.002
MOST = 500
#: of bodies, as far as the size of some tells that of the others: more do not come faster, and are out of the
#: processor's cache by the time they are run
MOST_BYTES = 8 * 2**20
#: but a few large ones may be held within this, so that the next is here or on its way; two may always be
FEW, MOST_BYTES_OF_FEW = 4, 32 * 2**20
_FIRST = 4
_GROWTH = 8
_EASE = 0.2
_SETTLE_S = 0.05  #: between two changes


class Prefetch:
    """The prefetch of one child.

    Args:
        fixed: switches the adapting off.
        body_bytes: the size of a body that came lately; 0 when none is known.
    """

    def __init__(
        self,
        fixed: int | None = None,
        *,
        body_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        self._body_bytes = body_bytes
        self._fixed = max(1, fixed) if fixed else None
        self._cautious_for = 0  # tasks until the crash before us is forgotten
        self.value = self._fixed or _FIRST
        self._mean_s = 0.0
        self._seen = 0
        self._changed_mono_s = 0.0

    def be_cautious(self, tasks: int) -> None:
        """One message at a time for so many tasks."""
        self._cautious_for = tasks
        self.value = 1

    def observe(self, tasks: int, busy_s: float, longest_s: float, now: float) -> bool:
        """A batch was settled. True when ``value`` changed: consume anew."""
        self._seen += tasks
        if self._cautious_for:
            if self._seen < self._cautious_for:
                return False
            self._cautious_for = 0
            if self._fixed:
                self.value = self._fixed
                return True
        if self._fixed:
            return False
        average = busy_s / tasks
        weight = 1.0 if self._seen == tasks else min(1.0, _EASE * tasks)
        self._mean_s += (average - self._mean_s) * weight
        if longest_s > LONG_S:
            self._mean_s = max(self._mean_s, longest_s / 4)
        return self._adapt(now)

    def _adapt(self, now: float) -> bool:
        size = max(self._body_bytes(), 1)
        most = max(2, min(FEW, MOST_BYTES_OF_FEW // size), min(MOST, MOST_BYTES // size))
        wanted = most if self._mean_s <= 0 else max(1, min(most, int(TARGET_S / self._mean_s)))
        value = self.value
        if (wanted >= 2 * value or wanted == MOST > value) and now - self._changed_mono_s >= _SETTLE_S:
            value = min(wanted, value * _GROWTH)
        elif wanted * 4 <= value or (wanted == 1 and value > 1 and self._mean_s > LONG_S):
            value = wanted
        if value == self.value:
            return False
        self.value = value
        self._changed_mono_s = now
        return True
