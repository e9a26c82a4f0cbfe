"""One log line for each task that ended. Costs nothing when nobody reads it: ``enabled`` is asked once.

Arguments are never logged. A failure's traceback is, and what the exception says of itself; both are
cleaned of control characters, so that a message cannot forge lines.
"""

from __future__ import annotations

import logging

from engine.worker.job import Job
from engine.worker.logs import TASK_LOGGER, clean, clean_block

log = logging.getLogger(TASK_LOGGER)


class TaskLog:
    """The log of a child's tasks. Made after logging is configured."""

    def __init__(self, throws_are_expected: bool = True) -> None:
        self.enabled = log.isEnabledFor(logging.INFO)
        self._errors = log.isEnabledFor(logging.ERROR)
        self._throws_are_expected = throws_are_expected

    def ended(self, job: Job) -> None:
        """A job ran and has an outcome."""
        outcome, message = job.outcome, job.message
        state = outcome.state
        name, task_id = clean(message.task), clean(message.id)
        extra = {"task": name, "task_id": task_id, "state": state, "runtime_s": round(outcome.runtime_s, 6)}
        if state == "SUCCESS":
            log.info("Task %s[%s] succeeded in %.6fs", name, task_id, outcome.runtime_s, extra=extra)
        elif state == "FAILURE":
            if isinstance(outcome.result, self._throws(job)):
                log.info("Task %s[%s] raised expected: %s", name, task_id, _said(outcome.result), extra=extra)
                return
            log.error(
                "Task %s[%s] raised unexpected: %s\n%s",
                name,
                task_id,
                _said(outcome.result),
                clean_block(outcome.traceback or ""),
                extra=extra,
            )
        elif state == "RETRY":
            log.info("Task %s[%s] retry: %s", name, task_id, clean(str(outcome.result)), extra=extra)
        else:
            log.info("Task %s[%s] %s", name, task_id, state.lower(), extra=extra)

    @staticmethod
    def _throws(job: Job) -> tuple[type[BaseException], ...]:
        throws = getattr(job.known.task, "throws", ()) if job.known is not None else ()
        return tuple(throws) if isinstance(throws, (list, tuple)) else (throws,)


def _said(error: object) -> str:
    try:
        return clean(repr(error), 500)
    except Exception:  # noqa: BLE001 - a user's __repr__ may do anything
        return type(error).__name__
