"""A plain Celery app for a real Celery worker; imports Celery alone, never engine."""

import os
import time

from celery import Celery

app = Celery("interop", broker=os.environ["INTEROP_BROKER"], backend=os.environ["INTEROP_BACKEND"])
app.conf.update(
    accept_content=["json", "yaml", "msgpack", "pickle"],
    task_default_queue=os.environ["INTEROP_QUEUE"],
    broker_connection_retry_on_startup=True,
    worker_send_task_events=True,
)


@app.task(name="interop.add")
def add(*numbers):
    return sum(numbers)


@app.task(name="interop.echo")
def echo(*args, **kwargs):
    return {"args": list(args), "kwargs": kwargs}


@app.task(name="interop.sleep")
def sleep(seconds):
    time.sleep(seconds)
    return "slept"


@app.task(name="interop.length")
def length(text):
    return len(text)


@app.task(name="interop.fail")
def fail(reason):
    raise ValueError(reason)


@app.task(name="interop.flaky", bind=True, max_retries=5)
def flaky(self, key, failures):
    if self.request.retries < failures:
        raise self.retry(countdown=0.1)
    return self.request.retries


@app.task(name="interop.headers", bind=True)
def headers(self):
    return (self.request.headers or {}).get("x-tenant")
