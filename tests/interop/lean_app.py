"""The app of a real Celery worker that is sent lean messages. It imports Celery alone, never engine."""

import os

from celery import Celery

app = Celery("lean", broker=os.environ["INTEROP_BROKER"], backend=os.environ["INTEROP_BACKEND"])
app.conf.update(
    task_default_queue=os.environ["INTEROP_QUEUE"],
    broker_connection_retry_on_startup=True,
    worker_send_task_events=True,
    worker_prefetch_multiplier=1,
    result_extended=True,
)


@app.task(name="lean.add")
def add(*numbers):
    return sum(numbers)


@app.task(name="lean.total")
def total(numbers):
    return sum(numbers)


@app.task(name="lean.fail")
def fail(reason):
    raise ValueError(reason)


@app.task(name="lean.flaky", bind=True, max_retries=5)
def flaky(self, failures):
    """Fails the given number of times, then tells what its request looked like."""
    if self.request.retries < failures:
        raise self.retry(countdown=0)
    return [self.request.retries, self.request.root_id, (self.request.headers or {}).get("tenant")]


@app.task(name="lean.on_error")
def on_error(failed_id):
    return failed_id


@app.task(name="lean.family", bind=True)
def family(self, depth):
    """The roots and parents seen by this task and its descendants."""
    mine = [self.request.id, self.request.root_id or self.request.id, self.request.parent_id]
    if depth == 0:
        return [mine]
    return self.replace(family.si(0)) if depth < 0 else family.apply_async((depth - 1,)).id


@app.task(name="lean.silent", ignore_result=True)
def silent():
    return "nobody asks"


@app.task(name="lean.limits", bind=True)
def limits(self):
    return [self.request.timelimit, self.request.stamps, self.request.group, self.request.origin]
