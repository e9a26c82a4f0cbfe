"""What a plain Celery program does with ``app.control``.

``python control_client.py BROKER BACKEND QUEUE NODE``. It imports Celery alone, never engine; what it saw
goes to standard output as one JSON object.
"""

import json
import sys
import time

import celery
from celery import Celery

WAIT_S = 30


def until(condition):
    deadline = time.monotonic() + WAIT_S
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def ending(result):
    try:
        return result.get(timeout=WAIT_S)
    except Exception as error:
        return [result.state, type(error).__name__, str(error)]


def main(broker, backend, queue, node):
    app = Celery("client", broker=broker, backend=backend)
    app.conf.update(broker_connection_retry_on_startup=True)

    def send(name, *args):
        return app.send_task(f"interop.{name}", args=args, queue=queue)

    report = {"celery": celery.__version__}
    report["ping"] = until(lambda: app.control.ping(timeout=0.5))
    report["inspect"] = app.control.inspect(timeout=1, destination=[node]).ping()
    running, also_running = send("sleep", 60), send("sleep", 60)
    report["started"] = until(lambda: running.state == also_running.state == "STARTED")
    waiting = send("sleep", 0)  # behind them, for there are two processes
    app.control.revoke(waiting.id)
    app.control.revoke(running.id, terminate=True)
    report["terminated"] = ending(running)
    also_running.revoke(terminate=True, signal="SIGKILL", wait=True, timeout=1)
    report["killed"] = ending(also_running)
    report["value"] = send("add", 1, 2).get(timeout=WAIT_S)
    report["waiting"] = ending(waiting)
    report["unknown"] = app.control.broadcast("no_such", reply=True, timeout=1)
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
