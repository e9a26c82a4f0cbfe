"""The publishing process of a bench: told what to do on stdin, it answers on stdout, a JSON document a line.

It is a process of its own so that its CPU time is its own, and no side profits from another's imports.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Protocol

from engine.bench.naps import Nap, naps_of
from engine.bench.plan import Plan
from engine.bench.tasks import BeginListener
from engine.codec import json_decode, json_encode

REPLY_TIMEOUT_S = 30.0


class Client(Protocol):
    """What a side offers to publish with."""

    def publish(self, count: int) -> None:
        """One task after the other, as an application does with ``delay()``."""

    def publish_many(self, count: int, batch: int) -> None:
        """The fastest way the side has for many tasks at once."""

    def begin(self) -> None:
        """Publish the task that tells when it begins."""

    def naps(self, naps: Sequence[Nap]) -> None:
        """Publish tasks that sleep, in this order."""

    def hold(self) -> None:
        """Publish a task that holds its process."""

    def call(self, timeout_s: float) -> None:
        """Publish a task and wait for its result."""

    def codec(self, count: int) -> tuple[float, float]:
        """Seconds to encode and to decode so many tasks, in memory."""

    def close(self) -> None:
        """Flush and disconnect."""


def serve(client: Client, plan: Plan) -> None:
    """Answer requests until stdin ends."""
    deeds: dict[str, Callable[[int], dict[str, Any]]] = {
        "publish": lambda count: _timed(lambda: client.publish(count)),
        "publish-many": lambda count: _timed(lambda: client.publish_many(count, plan.batch)),
        "hold": lambda count: _hold(client, count),
        "json": lambda count: _json(plan, count),
        "naps": lambda count: _naps(client, plan),
        "roundtrip": lambda count: _roundtrips(client, plan, count),
        "codec": lambda count: dict(zip(("encode_s", "decode_s"), client.codec(count), strict=True)),
    }
    _answer({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        _answer(deeds[request["do"]](request["count"]))
    client.close()


def _answer(reply: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


def _timed(work: Callable[[], None]) -> dict[str, Any]:
    cpu_s, start_s = time.process_time(), time.perf_counter()
    work()
    return {"elapsed_s": time.perf_counter() - start_s, "cpu_s": time.process_time() - cpu_s}


def _naps(client: Client, plan: Plan) -> dict[str, Any]:
    """All tasks of a sharing scenario, in order."""
    naps = naps_of(plan.workload, plan.scale)
    client.naps(naps)
    return {"count": len(naps)}


def _hold(client: Client, count: int) -> dict[str, Any]:
    for _ in range(count):
        client.hold()
    return {"count": count}


def _json(plan: Plan, count: int) -> dict[str, Any]:
    """What writing and reading a body's JSON costs by itself."""
    body = [[2, 2, "x" * plan.payload], {}, {}]
    text = json_encode(body)

    def write() -> None:
        for _ in range(count):
            json_encode(body)

    def read() -> None:
        for _ in range(count):
            json_decode(text)

    return {"encode_s": _timed(write)["cpu_s"], "decode_s": _timed(read)["cpu_s"]}


def _roundtrips(client: Client, plan: Plan, count: int) -> dict[str, Any]:
    """One task at a time on an idle system: until it begins, or with results on until its result is here."""
    latencies_ms: list[float] = []
    listener = BeginListener(plan.folder, REPLY_TIMEOUT_S) if plan.results is None else None

    def one() -> None:
        sent_ns = time.monotonic_ns()
        if listener is None:
            client.call(REPLY_TIMEOUT_S)
            until_ns = time.monotonic_ns()
        else:
            client.begin()
            until_ns = listener.wait_ns()
        latencies_ms.append((until_ns - sent_ns) / 1e6)

    def all_of_them() -> None:
        for _ in range(count):
            one()

    try:
        timed = _timed(all_of_them)
    finally:
        if listener is not None:
            listener.close()
    return {**timed, "latencies_ms": latencies_ms}


if __name__ == "__main__":
    serve(import_module(sys.argv[1]).client, Plan.from_env())
