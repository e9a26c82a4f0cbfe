"""The facade of the extension that does what is paid for every task: the only module that imports
`engine._work`, so that the layers stay checkable."""

from __future__ import annotations

from engine._work import (
    Executor,
    Job,
    Known,
    Outcome,
    Pace,
    Pending,
    Runner,
    Running,
    Sorter,
    TaskRecord,
    Turn,
    are_plain,
    deliveries_to,
    finished_keys,
    have_tombstones,
    keep_heap,
    publish_nothing,
    stack,
    to_store,
    trim_heap,
)

__all__ = [
    "Executor",
    "Job",
    "Known",
    "Outcome",
    "Pace",
    "Pending",
    "Runner",
    "Running",
    "Sorter",
    "TaskRecord",
    "Turn",
    "are_plain",
    "deliveries_to",
    "finished_keys",
    "have_tombstones",
    "keep_heap",
    "publish_nothing",
    "stack",
    "to_store",
    "trim_heap",
]
