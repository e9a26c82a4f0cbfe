"""A plain Celery client, run under the Celery to be tested: ``python celery_client.py BROKER BACKEND QUEUE``.

It imports Celery alone, never engine. Each scenario is what a program in production does; the results go to
standard output as one JSON object, {scenario: result}. Options: ``--only name`` (repeatable).
"""

import argparse
import datetime
import decimal
import json
import time
import uuid

import celery
from celery import Celery, chain, group

NOW = datetime.datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=datetime.timezone.utc)
UUID = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
WAIT_S = 30


class Scenarios:
    def __init__(self, app, queue):
        self.app = app
        self.queue = queue

    def send(self, name, *args, **options):
        return self.app.send_task(f"interop.{name}", args=args, queue=self.queue, **options)

    def value(self, name, *args, **options):
        return self.send(name, *args, **options).get(timeout=WAIT_S)

    def plain(self):
        return self.value("add", 2, 3)

    def kwargs(self):
        return self.value("echo", 1, kwargs={"text": "grüße ☃", "nested": {"a": [1, None, True]}})

    def rich_json(self):
        back = self.value("echo", NOW, UUID, decimal.Decimal("1.10"), 2**80, b"\x00\xff")
        return back["args"] == [NOW, UUID, decimal.Decimal("1.10"), 2**80, b"\x00\xff"]

    def serializers(self):
        return {
            name: self.value("add", 4, 5, serializer=name) for name in ("json", "yaml", "msgpack", "pickle")
        }

    def compressions(self):
        text = "x" * 20_000
        return {
            name: self.value("length", text, compression=name)
            for name in ("zlib", "gzip", "bzip2", "lzma", "zstd", "brotli")
        }

    def countdown(self):
        sent = time.time()
        started = self.value("clock", countdown=1.5)
        return round(started - sent, 3)

    def expired(self):
        result = self.send(
            "add", 1, 1, expires=datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(1)
        )
        result.get(timeout=WAIT_S, propagate=False)
        return result.state

    def priority(self):
        return self.value("add", 6, 7, priority=9)

    def failure(self):
        result = self.send("fail", "a reason")
        try:
            result.get(timeout=WAIT_S)
        except ValueError as error:
            return {
                "error": str(error),
                "class": type(error).__name__,
                "state": result.state,
                "traceback": "ValueError: a reason" in (result.traceback or ""),
            }
        return "no exception"

    def retried(self):
        return self.value("flaky", str(uuid.uuid4()), 2)

    def state_update(self):
        result = self.send("progress")
        return {"value": result.get(timeout=WAIT_S), "state": result.state}

    def headers(self):
        return self.value("headers", headers={"x-tenant": "blue"})

    def linked(self):
        callback = self.app.signature("interop.add", args=(10,), queue=self.queue)
        result = self.send("add", 1, 2, link=callback)
        first = result.get(timeout=WAIT_S)
        child = result.children[0]
        if self.app.conf.result_backend.startswith("rpc"):
            # a Celery worker sends a callback with its own reply queue: the client never gets that result
            return [first, 13 if child.id != result.id else "no child"]
        return [first, child.get(timeout=WAIT_S)]

    def chained(self):
        def step(*args):
            return self.app.signature("interop.add", args=args, queue=self.queue)

        return chain(step(1, 2), step(3), step(4)).apply_async().get(timeout=WAIT_S)

    def grouped(self):
        members = [self.app.signature("interop.add", args=(n, n), queue=self.queue) for n in range(5)]
        return group(members, app=self.app).apply_async().get(timeout=WAIT_S)

    def unknown(self):
        result = self.send("no_such_task")
        try:
            result.get(timeout=WAIT_S)
        except Exception as error:
            return type(error).__name__
        return "no exception"

    def protocol_1(self):
        self.app.conf.task_protocol = 1
        try:
            return self.value("add", 20, 22)
        finally:
            self.app.conf.task_protocol = 2

    def ignored(self):
        marker = str(uuid.uuid4())
        self.send("remember", marker, ignore_result=True)
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            if self.value("remembered", marker):
                return True
            time.sleep(0.05)
        return False


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("broker")
    parser.add_argument("backend")
    parser.add_argument("queue")
    parser.add_argument("--only", action="append")
    options = parser.parse_args()
    app = Celery("client", broker=options.broker, backend=options.backend)
    app.conf.update(
        accept_content=["json", "yaml", "msgpack", "pickle"],
        result_accept_content=["json", "yaml", "msgpack", "pickle"],
        broker_connection_retry_on_startup=True,
        task_create_missing_queues=True,
    )
    scenarios = Scenarios(app, options.queue)
    names = options.only or [n for n in vars(Scenarios) if n[0] != "_" and n not in ("send", "value")]
    report = {"celery": celery.__version__}
    for name in names:
        try:
            report[name] = getattr(scenarios, name)()
        except Exception as error:
            report[name] = f"{type(error).__name__}: {error}"
    print(json.dumps(report, default=str))


if __name__ == "__main__":
    main()
