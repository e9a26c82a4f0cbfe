"""The Celery app that the codec is compared with."""

from __future__ import annotations

from celery import Celery

from benchmarks.operations import NAME

app = Celery("bench", set_as_current=False, broker="memory://")
app.finalize()


@app.task(name=NAME)  # type: ignore[untyped-decorator]
def add(*numbers: int) -> int:
    return sum(numbers)
