"""The traceback of a task that failed, as it is stored and logged: the frames of user code."""

from __future__ import annotations

import os
import traceback

#: they call the task
_CALLERS = frozenset({"engine._work", "engine.runner", "engine.coroutines", "asyncio.base_events"})
#: it interrupts the task
_SOFT_LIMIT = os.path.join("engine", "worker", "limits.py")


def format_traceback(error: BaseException) -> str:
    """The traceback without the frames that called the task, and without the soft limit's that interrupted
    it: they tell a user nothing."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__") in _CALLERS:
        trace = trace.tb_next
    told = traceback.TracebackException(type(error), error, trace)
    if told.stack and told.stack[-1].filename.endswith(_SOFT_LIMIT):
        told.stack.pop()
    return "".join(told.format())
