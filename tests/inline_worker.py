"""A worker of one step, for tests of the library alone: it reads a memory:// queue, runs, publishes, stores.

The order is the worker's: run, store the result, publish what follows, acknowledge.
"""

from __future__ import annotations

from engine.app import Engine
from engine.codec import TaskMessage
from engine.context import Context
from engine.results.base import EXCEPTION_STATES, ResultMeta
from engine.stored_exceptions import exception_to_stored
from engine.work import Outcome


def run_all(
    app: Engine, queue: str = "celery", limit: int = 100, patience_s: float = 0.0
) -> list[tuple[TaskMessage, Outcome]]:
    """Run what is in the queue, and what that puts there, until nothing comes for ``patience_s``."""
    transport, store = app.open_transport(), app.open_store()
    transport.declare(app.topology.queue_spec(queue))
    transport.recover()
    transport.consume([queue], 1)
    done: list[tuple[TaskMessage, Outcome]] = []
    while len(done) < limit and (deliveries := transport.receive(patience_s, 1)):
        (delivery,) = deliveries
        message = app.decode(delivery)
        context = Context(message, delivery=delivery, outbox=[], called_directly=False, hostname="inline")
        outcome = app.run_task(app.find_task(message.task), context, message)
        if outcome.store and store is not None:
            store.store([meta(message, outcome, context)])
        errors = app.producer.publish_messages(outcome.publish)
        assert errors == [None] * len(outcome.publish)
        transport.ack([delivery])
        done.append((message, outcome))
    if store is not None:
        store.close()
    transport.close()
    return done


def meta(message: TaskMessage, outcome: Outcome, context: Context) -> ResultMeta:
    result = outcome.result
    if outcome.state in EXCEPTION_STATES:
        result = exception_to_stored(result)
    made = ResultMeta(message.id, outcome.state, result, outcome.traceback, context.children_as_tuples())
    made.parent_id = message.parent_id
    made.reply_to, made.correlation_id = message.reply_to, message.id
    return made
