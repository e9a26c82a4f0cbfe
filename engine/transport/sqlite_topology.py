"""The queues, exchanges and bindings of an SQLite broker, remembered by each process.

Every change raises a counter in the file; a reader compares it inside its own transaction and reads all anew
when it has moved, so a process never routes by what another has changed. All is read in one transaction, also
where the reader has none: a change between two of the statements would give a binding without its queue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.codec import json_decode, json_encode
from engine.model import ExchangeSpec, QueueSpec
from engine.transport.routing import Binding, RoutingTable
from engine.transport.sqlite_schema import DROP_DELAYED, DROP_READY

_GENERATION = "SELECT value FROM meta WHERE key = 'topology'"
_TOUCH = "UPDATE meta SET value = value + 1 WHERE key = 'topology'"


@dataclass(frozen=True, slots=True)
class StoredQueue:
    id: int
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


class Topology:
    """What one process knows of the file's topology."""

    def __init__(self) -> None:
        self._generation = 0
        self.table = RoutingTable()
        self.queues: dict[str, StoredQueue] = {}
        self.by_id: dict[int, StoredQueue] = {}

    def forget(self) -> None:
        """Read it anew next time: what was changed here may have been rolled back."""
        self._generation = 0

    def refresh(self, connection: Any) -> bool:
        """Read it anew if anybody has changed it; whether that was so."""
        if connection.execute(_GENERATION).get == self._generation:
            return False
        with connection:
            self._read(connection)
        return True

    def _read(self, connection: Any) -> None:
        generation = connection.execute(_GENERATION).get
        self.table = RoutingTable()
        self.queues.clear()
        self.by_id.clear()
        for row_id, name, arguments in connection.execute("SELECT id, name, arguments FROM queues"):
            queue = StoredQueue(row_id, name, json_decode(arguments))
            self.queues[name] = self.by_id[row_id] = queue
            self.table.add_queue(name)
        for name, kind in connection.execute("SELECT name, type FROM exchanges"):
            self.table.add_exchange(name, kind)
        for exchange, row_id, key, arguments in connection.execute(
            "SELECT exchange, queue, routing_key, arguments FROM bindings"
        ):
            queue_name = self.by_id[row_id].name
            self.table.bind(exchange, Binding(queue_name, key, json_decode(arguments)))
        self._generation = generation

    # -- changes, all inside a write transaction -------------------------------------------------------

    def declare(self, connection: Any, spec: QueueSpec) -> StoredQueue:
        """The queue as it is stored, made if need be, with its bindings. Raises DeclareConflict."""
        self.refresh(connection)
        for binding in spec.bindings:
            self.declare_exchange(connection, binding.exchange)
        queue = self.queues.get(spec.name)
        if queue is None:
            connection.execute(
                "INSERT INTO queues(name, arguments) VALUES(?, ?)", (spec.name, _text(spec.arguments))
            )
            connection.execute(_TOUCH)
            self.refresh(connection)
            queue = self.queues[spec.name]
        for binding in spec.bindings:
            if binding.exchange.name:
                row = (binding.exchange.name, queue.id, binding.routing_key, _text(binding.arguments))
                connection.execute("INSERT OR IGNORE INTO bindings VALUES(?, ?, ?, ?)", row)
                if connection.changes():
                    connection.execute(_TOUCH)
        self.refresh(connection)
        return queue

    def declare_exchange(self, connection: Any, spec: ExchangeSpec) -> None:
        """Raises DeclareConflict when it has another type."""
        self.refresh(connection)
        if not spec.name:
            return
        self.table.add_exchange(spec.name, spec.type)
        connection.execute("INSERT OR IGNORE INTO exchanges VALUES(?, ?)", (spec.name, spec.type))
        if connection.changes():
            connection.execute(_TOUCH)

    def delete_queue(self, connection: Any, name: str) -> int:
        """How many messages went with it. Those that consumers hold stay theirs, and go nowhere after."""
        self.refresh(connection)
        queue = self.queues.get(name)
        if queue is None:
            return 0
        dropped = 0
        for statement in (DROP_READY, DROP_DELAYED):
            connection.execute(statement, (queue.id,))
            dropped += connection.changes()
        connection.execute("DELETE FROM bindings WHERE queue = ?", (queue.id,))
        connection.execute("DELETE FROM queues WHERE id = ?", (queue.id,))
        connection.execute(_TOUCH)
        self.refresh(connection)
        return dropped

    def drop_orphans(self, connection: Any, given_back: Sequence[int]) -> None:
        """Messages given back to queues that have been deleted meanwhile."""
        for row_id in set(given_back):
            if row_id not in self.by_id:
                connection.execute(DROP_READY, (row_id,))


def _text(arguments: Mapping[str, Any]) -> str:
    return json_encode(dict(sorted(arguments.items()))).decode()
