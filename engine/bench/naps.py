"""The queues of the workload `sharing`, and how fast they could be worked off at best. Pure.

A task sleeps, so that a machine of few CPUs can run many at once.

===  ====================================================================================
a    many of 1 ms: the cost of handing out
b    64 equally long ones
c    500, 5 % of them long, the others of 5 ms; also when the last short one ended
d    one long one, then many of 10 ms: when the last short one ended
e    bursts of 1 ms in turn with long ones: a prefetch that grew meanwhile hoards
===  ====================================================================================

``scale`` shortens the long ones (1 s in b, 2 s in c, 5 s in d, 0.5 s in e at scale 1) and the number of short
ones in a (10,000), d (400) and e (200 a burst).
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Nap(NamedTuple):
    """One task: how long it sleeps, and whether it is one of the short ones whose end is looked at."""

    seconds: float
    short: bool = False


def _equal_short(scale: float) -> list[Nap]:
    return [Nap(0.001)] * _many(10_000, scale)


def _equal_long(scale: float) -> list[Nap]:
    return [Nap(1.0 * scale)] * 64


def _few_long_among_short(scale: float) -> list[Nap]:
    naps = [Nap(2.0 * scale)] * 25 + [Nap(0.005, short=True)] * 475
    random.Random(1).shuffle(naps)  # noqa: S311 - the same order every time
    return naps


def _long_one_first(scale: float) -> list[Nap]:
    return [Nap(5.0 * scale)] + [Nap(0.01, short=True)] * _many(400, scale)


def _bursts(scale: float) -> list[Nap]:
    return ([Nap(0.001)] * _many(200, scale) + [Nap(0.5 * scale)] * 8) * 5


def _many(count: int, scale: float) -> int:
    return max(round(count * scale), 1)


SCENARIOS: dict[str, Callable[[float], list[Nap]]] = {
    "a": _equal_short,
    "b": _equal_long,
    "c": _few_long_among_short,
    "d": _long_one_first,
    "e": _bursts,
}


def naps_of(workload: str, scale: float) -> list[Nap]:
    """The tasks of ``sharing-<letter>``, in the order they stand in the queue."""
    return SCENARIOS[workload.rpartition("-")[2]](scale)


def ideal_s(naps: Sequence[Nap], processes: int) -> tuple[float, float]:
    """When the last task ends, and the last short one: each process takes the next task the moment it is
    free, and nothing else costs time. 0.0 where there is none."""
    free = [0.0] * processes
    ends, short_ends = [0.0], [0.0]
    for nap in naps:
        end = heapq.heappop(free) + nap.seconds
        heapq.heappush(free, end)
        (short_ends if nap.short else ends).append(end)
    return max(*ends, *short_ends), max(short_ends)
