"""The app that ``engine run`` serves to real Celery clients, and that sends to real Celery workers."""

import os
import time
from pathlib import Path

from engine import Engine

app = Engine(
    "interop",
    broker=os.environ["INTEROP_BROKER"],
    backend=os.environ["INTEROP_BACKEND"],
    accept_content=["json", "yaml", "msgpack", "pickle"],
    task_default_queue=os.environ.get("INTEROP_QUEUE", "celery"),
    worker_unknown_task_grace=0.4,  # not 1: Celery 5.6's rpc client drops a reply that meets its 1 s poll
)
FOLDER = Path(os.environ.get("INTEROP_FOLDER", "."))


@app.task(name="interop.add")
def add(*numbers):
    return sum(numbers)


@app.task(name="interop.echo")
def echo(*args, **kwargs):
    return {"args": list(args), "kwargs": kwargs}


@app.task(name="interop.sleep", track_started=True)
def sleep(seconds):
    time.sleep(seconds)
    return "slept"


@app.task(name="interop.length")
def length(text):
    return len(text)


@app.task(name="interop.clock")
def clock():
    return time.time()


@app.task(name="interop.fail")
def fail(reason):
    raise ValueError(reason)


@app.task(name="interop.flaky", bind=True, max_retries=5)
def flaky(self, key, failures):
    """Fails the given number of times, then returns how often it ran."""
    if self.request.retries < failures:
        raise self.retry(countdown=0.1)
    return self.request.retries


@app.task(name="interop.progress", bind=True)
def progress(self):
    self.update_state(state="PROGRESS", meta={"done": 1})
    return "done"


@app.task(name="interop.headers", bind=True)
def headers(self):
    return (self.request.headers or {}).get("x-tenant")


@app.task(name="interop.remember")
def remember(marker):
    (FOLDER / marker).touch()


@app.task(name="interop.remembered")
def remembered(marker):
    return (FOLDER / marker).exists()
