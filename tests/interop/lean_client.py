"""A real Celery worker, and a Celery client whose messages all go out lean.

The client's headers are replaced just before they are published.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from celery import Celery

from engine.codec import (
    Delivery,
    TaskMessage,
    decode_task,
    encode_task_body,
    encode_task_headers,
    json_encode,
)
from tests.interop.processes import ROOT, wait_for


@contextlib.contextmanager
def celery_worker(python: str, log: Path, queue: str, environment: Mapping[str, str]) -> Iterator[None]:
    """A prefork worker of `lean_app` with events on, killed in the end: Celery's warm stop can hang."""
    command = [python, "-m", "celery", "-A", "tests.interop.lean_app", "worker", "-P", "prefork", "-c", "2"]
    command += ["-E", "-l", "info", "-Q", queue, "--without-gossip", "--without-mingle"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(
            lambda: process.poll() is not None or " ready." in log.read_text(errors="replace"),
            40,
            log.read_text,
        )
        assert process.poll() is None, log.read_text(errors="replace")
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class LeanClient:
    """``app`` is a Celery app; ``sent`` holds the headers of each message as they were published."""

    def __init__(self, broker: str, backend: str, queue: str) -> None:
        self.app = Celery("lean", broker=broker, backend=backend, set_as_current=False)
        self.app.conf.update(task_default_queue=queue, task_publish_retry=False)
        self.sent: list[dict[str, Any]] = []

    def make_lean(self, headers: dict[str, Any], body: Any, **_: Any) -> None:
        """A receiver of `before_task_publish`: what it does to the headers is what goes out."""
        full = dict(headers)
        task = decode_task(
            Delivery(
                json_encode(body), content_type="application/json", content_encoding="utf-8", headers=full
            )
        )
        task.argsrepr = task.kwargsrepr = task.origin = None
        headers.clear()
        headers.update(encode_task_headers(task, lean=True))
        self.sent.append(dict(headers))

    def publish(self, headers: dict[str, Any], args: Any, task_id: str | None = None) -> str:
        """A message of exactly these headers and an `id`, which is given back."""
        task_id = task_id or str(uuid.uuid4())
        body = encode_task_body(TaskMessage(headers["task"], task_id, args))
        with self.app.producer_or_acquire() as producer:
            producer.publish(
                body,
                routing_key=self.app.conf.task_default_queue,
                exchange="",
                content_type="application/json",
                content_encoding="utf-8",
                headers=headers | {"id": task_id},
                delivery_mode=2,
            )
        return task_id

    @contextlib.contextmanager
    def events(self) -> Iterator[Events]:
        """What the worker tells of its tasks, for as long as the block runs."""
        with self.app.connection() as connection:
            events = Events(self.app, connection)
            thread = threading.Thread(target=events.run, daemon=True)
            thread.start()
            assert events.ready.wait(20)
            yield events
            events.receiver.should_stop = True
            thread.join(20)
            assert not thread.is_alive()


class Events:
    """The events of a worker by task id, and celery's own picture of them (``state``), as Flower keeps it."""

    def __init__(self, app: Celery, connection: Any) -> None:
        self.state = app.events.State()
        self.of_task: dict[str, dict[str, dict[str, Any]]] = {}
        self.ready = threading.Event()
        self.receiver = app.events.Receiver(connection, handlers={"*": self.on_event})

    def on_event(self, event: dict[str, Any]) -> None:
        self.ready.set()  # the worker beats every two seconds: only now is the subscription sure to stand
        self.state.event(dict(event))
        if event["type"].startswith("task-"):
            self.of_task.setdefault(event["uuid"], {})[event["type"]] = event

    def run(self) -> None:
        for _ in self.receiver.consume(limit=None, wakeup=False):
            pass
