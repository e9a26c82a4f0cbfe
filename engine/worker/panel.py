"""What a worker answers to control commands: one function a method, and the table of them.

A function takes the `Node` and the command's arguments by name, and returns the answer in Celery's shape
(celery/worker/control.py). Arguments it does not know are passed over, as newer callers may send more.
To add a command, write its function and enter it in `METHODS`.
"""

from __future__ import annotations

import logging
import signal as signals
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.control import signal_name
from engine.errors import ConfigurationError
from engine.mailbox import LamportClock
from engine.worker import scoreboard
from engine.worker.logs import clean
from engine.worker.revoked import RevokedIds
from engine.worker.scoreboard import Scoreboard, slot_id

log = logging.getLogger("engine.worker")

#: bytes of ids in one message to the supervisor: half of what its channel carries
_CHUNK_BYTES = 32 * 1024
_MOST_ID_BYTES = 1024
_FLAGGED_WAIT_S = 1.0
_STEP_S = 0.002

#: signals a task may be ended with; one that lets a stopped process go on is none
_ENDING = frozenset({"SIGTERM", "SIGKILL", "SIGINT", "SIGQUIT", "SIGHUP", "SIGABRT", "SIGUSR1", "SIGUSR2"})

Method = Callable[..., Any]


@dataclass(slots=True)
class Node:
    """What commands act on. ``tell`` sends a message to the supervisor."""

    name: str
    board: Scoreboard
    revoked: RevokedIds
    tell: Callable[[dict[str, Any]], Any]
    clock: LamportClock = field(default_factory=LamportClock)

    def flag(self, ids: Sequence[str], signum: int | None = None) -> None:
        """Have the supervisor revoke them; returns once all children can see it, or after a second."""
        for part in _chunks(ids):
            self.tell({"op": "revoke", "ids": part, "signum": signum})
        deadline = time.monotonic() + _FLAGGED_WAIT_S
        while time.monotonic() < deadline:
            self.revoked.refresh()
            if all(task_id in self.revoked for task_id in ids):
                return
            time.sleep(_STEP_S)
        log.warning("the supervisor has not answered to a revoke within %g s", _FLAGGED_WAIT_S)

    def running(self) -> set[str]:
        """The ids that run here now, as slots show them."""
        views = (self.board.slot(index).read() for index in range(self.board.child_slots))
        return {view.task_id for view in views if view is not None and scoreboard.is_running(view.phase)}


def ping(node: Node, **_ignored: Any) -> dict[str, str]:
    """Whether this worker is there."""
    return {"ok": "pong"}


def revoke(
    node: Node, task_id: Any = None, terminate: Any = False, signal: Any = None, **_ignored: Any
) -> dict[str, str]:
    """Do not run these; with ``terminate`` end the processes that do."""
    ids = _ids(task_id)
    if not terminate:
        node.flag(ids)
        return {"ok": f"tasks {set(ids)} flagged as revoked"}
    name = signal_name(signal)
    if name not in _ENDING:
        raise ConfigurationError(f"{name} does not end a process: use one of {', '.join(sorted(_ENDING))}")
    here = node.running()
    node.flag(ids, signals.Signals[name])
    found = [task_id for task_id in ids if slot_id(task_id) in here]
    return {"ok": f"terminate: {', '.join(found) if found else 'tasks unknown'}"}


def terminate(node: Node, task_id: Any = None, signal: Any = None, **_ignored: Any) -> dict[str, str]:
    """`revoke` with ``terminate``."""
    return revoke(node, task_id, True, signal)


def hello(node: Node, from_node: Any = None, revoked: Any = None, **_ignored: Any) -> dict[str, Any] | None:
    """A worker that starts tells what it knows as revoked, and hears what is known here (Celery's mingle)."""
    if from_node == node.name:
        return None
    if revoked:  # a list since Celery 5.7, a mapping of ids to times before
        node.flag(_ids(list(revoked)))
    node.revoked.refresh()
    return {"revoked": list(node.revoked.keys), "clock": node.clock.forward()}


METHODS: Mapping[str, Method] = {
    "ping": ping,
    "revoke": revoke,
    "terminate": terminate,
    "hello": hello,
}


def call(node: Node, method: str, arguments: Mapping[str, Any]) -> Any:
    """The answer to a command; ``{"error": ...}`` for one that is unknown or fails. Raises nothing."""
    function = METHODS.get(method)
    if function is None:
        log.warning("a control command that is not known here: %s", clean(method))
        return {"error": f"No such control command: {method}"}
    try:
        return function(node, **arguments)
    except ConfigurationError as error:
        return {"error": str(error)}
    except Exception as error:
        log.exception("the control command %s failed", method)
        return {"error": repr(error)}


def _ids(task_id: Any) -> list[str]:
    ids = [task_id] if isinstance(task_id, str) else list(task_id or ())
    for one in ids:
        if not isinstance(one, str) or not one or len(one.encode("utf-8", "replace")) > _MOST_ID_BYTES:
            raise ConfigurationError(f"not a task id: {clean(repr(one))}")
    return ids


def _chunks(ids: Sequence[str]) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for task_id in ids:
        length = 6 * len(task_id) + 3  # as JSON writes it at worst
        if part and size + length > _CHUNK_BYTES:
            yield part
            part, size = [], 0
        part.append(task_id)
        size += length
    if part:
        yield part
