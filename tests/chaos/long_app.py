"""The app of the tests of long tasks: the environment gives heartbeat, lease and authority."""

from __future__ import annotations

import ctypes
import os
import time

from engine import Engine
from engine.transport import amqp_keepalive
from tests.chaos.ledger import note

amqp_keepalive.COVER_S = float(os.environ.get("LONG_COVER", amqp_keepalive.COVER_S))
authority = os.environ.get("LONG_CAFILE")
app = Engine(
    "long",
    broker=os.environ["LONG_BROKER"],
    task_default_queue=os.environ["LONG_QUEUE"],
    broker_heartbeat=float(os.environ["LONG_BEAT"]),
    broker_lease=float(os.environ["LONG_BEAT"]),
    **({"broker_use_ssl": {"ca_certs": authority}} if authority else {}),
)


@app.task(name="long.sleep")
def sleep(seconds: float) -> None:
    note("start")
    time.sleep(seconds)
    note("finish")


@app.task(name="long.hold_gil")
def hold_gil(seconds: float) -> None:
    """One C call that keeps every other Python thread of the process from running."""
    note("start")
    ctypes.PyDLL(None).sleep(int(seconds))
    note("finish")
