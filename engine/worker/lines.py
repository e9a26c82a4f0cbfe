"""The supervisor's lines to its children: one control channel and one flight recorder each.

What is for one child, whichever, waits until there is one that will surely read it.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from engine.worker import processes, recorder
from engine.worker.children import Child, State
from engine.worker.control import Channel

log = logging.getLogger("engine.worker")


@dataclass(slots=True)
class Line:
    """The supervisor's ends of one child's line."""

    channel: Channel
    recorder_fd: int

    def stacks(self, pid: int) -> str | None:
        """Where the child is, thread by thread; None when it does not answer."""
        return recorder.ask(pid, self.recorder_fd)


class Lines:
    """All lines, by slot, and the selector that the supervisor's loop waits in."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self._lines: dict[int, Line] = {}
        self._unread: list[dict[str, Any]] = []  # for one child, when there was none to read it

    def __getitem__(self, slot: int) -> Line:
        return self._lines[slot]

    def channels(self) -> Iterator[Channel]:
        return (line.channel for line in self._lines.values())

    # -- opening and closing ---------------------------------------------------------------------------

    def open(self, slot: int, on_readable: Callable[[Channel], None]) -> tuple[Line, Channel]:
        """A line for a child to come: our ends, and the channel's end that is the child's."""
        mine, theirs = Channel.pair()
        line = self._lines[slot] = Line(mine, recorder.create())
        self.listen(mine, lambda: on_readable(mine))
        return line, theirs

    def close(self, slot: int) -> None:
        line = self._lines.pop(slot)
        self.forget(line.channel)
        processes.close_fds([line.recorder_fd] if line.recorder_fd >= 0 else [])

    def listen(self, channel: Channel, on_readable: Callable[[], None]) -> None:
        """Have the loop call that when the channel is readable."""
        self.selector.register(channel, selectors.EVENT_READ, on_readable)

    def forget(self, channel: Channel) -> None:
        """Stop listening; doing it twice is no error (both may be due in one round of the loop)."""
        with contextlib.suppress(KeyError, ValueError):
            self.selector.unregister(channel)
        channel.close()

    # -- talking ---------------------------------------------------------------------------------------

    def to_all(self, children: Iterator[Child], message: dict[str, Any]) -> None:
        for child in children:
            line = self._lines.get(child.slot)
            if line is not None:
                line.channel.send(message)

    def to_one(self, children: Iterator[Child], message: dict[str, Any]) -> None:
        """To one that will surely read it; that may be the next to come."""
        for child in children:
            line = self._lines.get(child.slot)
            if child.state is State.READY and line is not None and line.channel.send(message):
                return
        self._unread.append(message)

    def is_ready(self, slot: int) -> None:
        """A child reads its line from now on: it gets what waited for one."""
        for message in self._unread:
            self._lines[slot].channel.send(message)
        self._unread.clear()

    def log_stacks(self, children: Iterator[Child]) -> None:
        for child in children:
            if child.pid:
                stacks = self._lines[child.slot].stacks(child.pid)
                log.warning("stacks of child %d:\n%s", child.pid, stacks or "(it does not answer)")

    def tell_unread(self) -> None:
        """At the very end: what nobody was there to do."""
        for message in self._unread:
            log.error("task %s ended (%s): no child was left to store that", message["id"], message["detail"])
