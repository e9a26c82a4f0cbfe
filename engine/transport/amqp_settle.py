"""Which delivery tags of one channel are settled, and how to say so in the fewest frames.

Tags count up from 1, so what is outstanding is everything from ``_front`` on but for ``_early``: those
settled out of turn. A ``multiple`` acknowledgement is used only when it covers nothing that is still held,
and its own tag is one settled in this call: the broker closes the channel over a tag it does not know.
"""

from __future__ import annotations

from collections.abc import Iterable


class Tags:
    """The settled and outstanding tags of one channel."""

    def __init__(self) -> None:
        self._front = 1
        self._early: set[int] = set()

    def settle(self, tags: Iterable[int]) -> list[tuple[int, bool]]:
        """Mark them settled; ``(tag, multiple)`` to send, in order. One settled before is left out."""
        front, early = self._front, self._early
        covered = 0
        count = 0
        alone: list[int] = []
        for tag in tags:
            if tag == front:
                front += 1
                covered, count = tag, count + 1
                while early and front in early:
                    early.discard(front)
                    front += 1
            elif tag > front and tag not in early:
                early.add(tag)
                alone.append(tag)
        if not alone:
            self._front = front
            return [(covered, count > 1)] if count else []
        return self._with_stragglers(front, covered, count, alone)

    def _with_stragglers(
        self, front: int, covered: int, count: int, alone: list[int]
    ) -> list[tuple[int, bool]]:
        self._front = front
        below = [tag for tag in alone if tag < front]
        rest = sorted(tag for tag in alone if tag > front)
        count += len(below)
        covered = max(covered, *below) if below else covered
        settled = [(covered, count > 1)] if count else []
        return settled + [(tag, False) for tag in rest]
