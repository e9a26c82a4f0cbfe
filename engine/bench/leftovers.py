"""What a run leaves at its broker, and how it is removed: queues, keys, files. Every name holds the queue's.

The queue's own deletion is the transport's; the rivals' side queues and keys are found by their names.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from engine.bench.plan import Plan
from engine.errors import EngineError, QueueNotFound
from engine.transport import open_transport
from engine.transport.sqlite_place import beside, path_of

#: dramatiq's queues for delayed and for dead messages
_SIDE_QUEUES = (".DQ", ".XQ")


def own_file(plan: Plan) -> Path:
    """The SQLite file of a side that does not share the engine's: beside it, so on the same disk."""
    return beside(path_of(plan.broker), f"-{plan.queue}")


def remove(plan: Plan, side: str) -> None:
    """Remove it all. Silent when the broker is gone: the error that ended the run is the one to be told."""
    if plan.scheme == "sqlite" and side != "engine":
        file = own_file(plan)
        for path in file.parent.glob(f"{file.name}*"):
            path.unlink(missing_ok=True)
        return
    with contextlib.suppress(EngineError):
        _delete_queues(plan, side)
    if plan.scheme in ("redis", "rediss") and side != "engine":
        _delete_keys(plan)


def _delete_queues(plan: Plan, side: str) -> None:
    endings = _SIDE_QUEUES if side == "dramatiq" and plan.on_amqp else ()
    transport = open_transport(plan.broker)
    try:
        for name in (*plan.queue_names, *(plan.queue + ending for ending in endings)):
            with contextlib.suppress(QueueNotFound):
                transport.delete_queue(name)
    finally:
        transport.close()


def _delete_keys(plan: Plan) -> None:
    import redis

    with contextlib.suppress(redis.RedisError), redis.Redis.from_url(plan.broker) as server:
        for key in server.scan_iter(match=f"*{plan.queue}*", count=1_000):
            server.unlink(key)
