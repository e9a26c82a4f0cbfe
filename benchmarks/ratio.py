"""How the guards time: ours and a reference in turn, and a floor for how many times as fast ours is.

A ratio holds on slow machines and fast ones; turns of a few milliseconds, CPU time in place of the clock's
and best against best keep it still while others use the machine. Floors are about 70 % of the worst ratio
seen on two busy cores and three builds of Python, so they catch a loss of a third to a half; what is finer
`tools/instructions.py` catches. What was measured is printed at the end of the run.
"""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

Ours = TypeVar("Ours")
Theirs = TypeVar("Theirs")

ATTEMPTS = 3  #: what is below its floor is measured again: only what stays there fails
TURNS = 15
TURN_S = 0.005


@dataclass
class Ratio:
    """One comparison: microseconds a message, and what is wanted of them."""

    what: str
    reference: str
    ours_us: float
    theirs_us: float
    floor: float
    #: microseconds and times: the project's aims on an idle machine of today; told, not held
    aims: tuple[float, float] | None = None

    @property
    def times(self) -> float:
        return self.theirs_us / self.ours_us

    @property
    def holds(self) -> bool:
        return self.times >= self.floor

    def __str__(self) -> str:
        line = f"{self.what:<44} {self.ours_us:8.2f} µs  {self.theirs_us:8.2f} {self.reference:<9}"
        line += f" {self.times:7.2f} times, floor {self.floor:g}"
        if self.aims is not None:
            line += " (aim: {:g} µs, {:g} times)".format(*self.aims)
        return line


RATIOS: list[Ratio] = []  #: all that were taken in this run


def hold(*ratios: Ratio) -> None:
    """Note them for the summary; fails when one is below its floor."""
    RATIOS.extend(ratios)
    slower = [f"slower than it was: {ratio}" for ratio in ratios if not ratio.holds]
    assert not slower, "\n".join(slower)


def in_turn(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float]:
    """Microseconds of CPU a call of each, the best of all turns."""
    timers = [timeit.Timer(function, timer=time.process_time) for function in (ours, theirs)]
    loops = [max(1, int(TURN_S / max(min(timer.repeat(3, 1)), 1e-7))) for timer in timers]
    turns = [
        [timer.timeit(count) / count * 1e6 for timer, count in zip(timers, loops, strict=True)]
        for _ in range(TURNS)
    ]
    ours_us, theirs_us = map(min, zip(*turns, strict=True))
    return ours_us, theirs_us


def faster(
    benchmark: Any,
    what: str,
    ours: Callable[[], object],
    reference: str,
    theirs: Callable[[], object],
    floor: float,
    *,
    per: int = 1,
    aims: tuple[float, float] | None = None,
) -> None:
    """Ours, which handles ``per`` messages a call as theirs does, is ``floor`` times as fast."""
    benchmark(ours)  # for pytest-benchmark's own table; with --benchmark-disable it only calls it
    for _ in range(ATTEMPTS):
        ours_us, theirs_us = in_turn(ours, theirs)
        ratio = Ratio(what, reference, ours_us / per, theirs_us / per, floor, aims)
        if ratio.holds:
            break
    hold(ratio)


def pairs(both: tuple[Ours, Theirs], counts: tuple[int, int]) -> Iterator[tuple[Ours | Theirs, int]]:
    """Each client with its count."""
    ours, theirs = both
    yield ours, counts[0]
    yield theirs, counts[1]


class Clients:
    """Two clients of one broker, in turn: CPU of this process a message, and time on the clock.

    The clock's floor is loose: it is there for waits, which cost no CPU.
    """

    def __init__(
        self, what: str, ours: str, theirs: str, floor: float, wall_floor: float | None = None
    ) -> None:
        self._names = ours, theirs
        self._kinds: dict[str, float] = {what: floor}
        if wall_floor is not None:
            self._kinds[what + ", clock"] = wall_floor
        self._costs_us: dict[tuple[str, str], list[float]] = {}

    @contextmanager
    def measured(self, client: str, count: int) -> Iterator[None]:
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        yield
        spent_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
        for kind, seconds in zip(self._kinds, spent_s, strict=False):
            self._costs_us.setdefault((kind, client), []).append(seconds / count * 1e6)

    def rounds(self, count: int) -> Iterator[int]:
        """So many rounds, and more of them while a ratio is below its floor; then both are held."""
        for number in range(count * ATTEMPTS):
            yield number
            if number + 1 >= count and all(ratio.holds for ratio in self._ratios()):
                break
        hold(*self._ratios())

    def _ratios(self) -> list[Ratio]:
        """Best against best."""
        ours, theirs = self._names
        return [
            Ratio(kind, theirs, min(self._costs_us[kind, ours]), min(self._costs_us[kind, theirs]), floor)
            for kind, floor in self._kinds.items()
        ]
