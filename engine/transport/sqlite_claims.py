"""The consuming side of an SQLite transport: what it holds, and how that is settled.

All times are wall time in milliseconds, as they stand in the file: the processes of one machine share a
clock.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, cast

from engine.codec import Delivery, json_encode
from engine.errors import QueueNotFound
from engine.transport import sqlite_liveness
from engine.transport.embedded import clamp_priority, dead_letter_address, due_ms_of, expires_ms_of
from engine.transport.sqlite_database import Database
from engine.transport.sqlite_doorbell import Doorbell
from engine.transport.sqlite_rows import BuriedRow, ClaimedRow, address_of, dead_letter_of, delivery_of
from engine.transport.sqlite_schema import (
    ACK,
    EXPIRED,
    GIVE_BACK,
    GIVE_BACK_ALL,
    INSERT_MESSAGE,
    NEXT_DUE,
    NEXT_EXPIRY,
    PARK,
    PEEK,
    PROMOTE,
    READY,
    claim_statement,
)
from engine.transport.sqlite_topology import StoredQueue, Topology

#: One claim takes no more, so that no transaction is long and siblings get their share.
MOST_AT_ONCE = 1_000

#: So many queues are merged by priority and age. Each costs two pages of the file a claim, and of more queues
#: a claim takes the next ones in turn that have messages.
MOST_MERGED = 8

#: How often a busy consumer looks for what has fallen due.
_DUE_LOOK_MS = 50


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Claims:
    """What one owner holds."""

    def __init__(self, topology: Topology, bell: Doorbell) -> None:
        self._topology = topology
        self._bell = bell
        self._owners: sqlite_liveness.Owners | None = None
        self._owner = 0
        self._epoch = 0
        self._names: tuple[str, ...] = ()
        self._prefetched: set[int] = set()
        self.expects_more = False  #: the last claim was full, or a bell has rung
        self._turn = 0  #: of many queues, the place of the one whose turn it is
        self._next_due_ms: int | None = None
        self._look_ms = 0

    # -- being an owner --------------------------------------------------------------------------------

    def enter(self, owners: sqlite_liveness.Owners, epoch: int) -> None:
        """A new connection; it becomes an owner when it first claims."""
        self._owners, self._epoch, self._owner = owners, epoch, 0
        self._prefetched.clear()
        self._look_ms = 0

    def _own(self, database: Database) -> int:
        """This connection's owner id. It is ours once it is committed (a claim by an id that was rolled back
        could never be recovered), and locked before that, so that nobody takes it for dead."""
        if not self._owner and self._owners is not None:
            owner = 0
            try:
                with database.write() as connection:
                    connection.execute("INSERT INTO owners(pid, queues) VALUES(?, '[]')", (os.getpid(),))
                    owner = connection.last_insert_rowid()
                    self._owners.hold(owner)
            except BaseException:
                self._owners.release(owner)
                raise
            self._owner = owner
        return self._owner

    def alive(self, owner: int) -> bool:
        return self._owners is not None and self._owners.alive(owner)

    def subscribe(self, database: Database, names: Sequence[str]) -> bool:
        """Consume these queues and no others; whether that is a change."""
        if self._owner and tuple(names) == self._names:
            return False
        owner = self._own(database)
        with database.write() as connection:
            row = (json_encode(list(names)).decode(), owner)
            connection.execute("UPDATE owners SET queues = ? WHERE id = ?", row)
        self._names = tuple(names)
        self.expects_more = bool(names)
        return True

    def leave(self, database: Database) -> None:
        """In order: what is held goes back, and the owner is struck off."""
        if self._owner:
            with database.write() as connection:
                self._release(database, connection, self._owner)

    def die(self, *, forked: bool) -> None:
        owners, self._owners = self._owners, None
        self._prefetched.clear()
        if owners is not None and not forked:
            owners.release(self._owner)
            sqlite_liveness.leave(owners)

    def recover_dead(self, database: Database) -> int:
        """Give back what dead owners held; how many messages."""
        self._topology.refresh(database.connection)
        known = [owner for (owner,) in database.connection.execute("SELECT id FROM owners")]
        dead = [owner for owner in known if not self.alive(owner)]
        if not dead:
            return 0
        with database.write() as connection:
            return sum(self._release(database, connection, owner) for owner in dead)

    def _release(self, database: Database, connection: Any, owner: int) -> int:
        queues = [queue for (queue,) in connection.execute(GIVE_BACK_ALL, (owner,))]
        connection.execute("DELETE FROM owners WHERE id = ?", (owner,))
        self._gave_back(database, connection, queues)
        return len(queues)

    def _gave_back(self, database: Database, connection: Any, queues: Sequence[int]) -> None:
        if queues:
            self._topology.refresh(connection)
            self._topology.drop_orphans(connection, queues)
            database.after_commit(lambda: self._ring(Counter(queues)))

    def _ring(self, queues: Counter[int]) -> None:
        for row_id, count in queues.items():
            queue = self._topology.by_id.get(row_id)
            if queue is not None:
                self._bell.ring(queue.name, count)

    # -- claiming --------------------------------------------------------------------------------------

    def room(self, prefetch: int, limit: int) -> int:
        room = min(MOST_AT_ONCE, max(0, prefetch - len(self._prefetched)) if prefetch else MOST_AT_ONCE)
        return min(room, limit) if limit else room

    def claim(self, database: Database, room: int) -> list[Delivery]:
        """Up to `room` messages of the queues consumed, the most urgent and oldest first (`MOST_MERGED`)."""
        deliveries = self._look_and_take(database, room)
        if not deliveries and self.expects_more:  # the bell told of something else: a delay most likely
            self.expects_more = False
            deliveries = self._look_and_take(database, room)
        if not deliveries:
            self.expects_more = False
            return []
        if self.expects_more:
            self._bell.ring(deliveries[-1].queue)  # more than this one may take: wake the next
        self._prefetched.update(delivery.tag for delivery in deliveries)
        return deliveries

    def _look_and_take(self, database: Database, room: int) -> list[Delivery]:
        self._promote(database)
        queues = [queue for name in self._names if (queue := self._topology.queues.get(name))]
        many = len(queues) > MOST_MERGED
        chosen = self._next_in_turn(database, queues) if many else queues
        if not chosen or not (many or self.expects_more or self._anything(database, queues)):
            return []
        deliveries = self._take(database, chosen, room)
        if deliveries:
            self.expects_more = (many or len(deliveries) == room) and self._anything(database, queues)
        return deliveries

    def _next_in_turn(self, database: Database, queues: Sequence[StoredQueue]) -> list[StoredQueue]:
        """Those that have messages, from where the last claim ended."""
        chosen: list[StoredQueue] = []
        for place in range(self._turn, self._turn + len(queues)):
            queue = queues[place % len(queues)]
            if self._anything(database, [queue]):
                chosen.append(queue)
                if len(chosen) == MOST_MERGED:
                    self._turn = (place + 1) % len(queues)
                    break
        return chosen

    def get(self, database: Database, name: str) -> Delivery | None:
        self._look_ms = 0
        self._promote(database)
        deliveries = self._take(database, [self._topology.queues[name]], 1)
        return deliveries[0] if deliveries else None

    def _anything(self, database: Database, queues: Iterable[StoredQueue]) -> bool:
        """A look without the write lock."""
        return any(database.connection.execute(PEEK, (queue.id,)).get is not None for queue in queues)

    def _take(self, database: Database, queues: Sequence[StoredQueue], room: int) -> list[Delivery]:
        statement = claim_statement(len(queues))
        parameters = (self._own(database), room, *(queue.id for queue in queues))
        with database.write() as connection:
            while True:
                rows = cast("list[ClaimedRow]", connection.execute(statement, parameters).fetchall())
                fresh = self._drop_expired(database, connection, rows)
                if fresh or not rows:
                    break
        fresh.sort(key=lambda row: (-row[2], row[0]))
        by_id = self._topology.by_id
        return [delivery_of(row, by_id[row[1]].name, self._epoch) for row in fresh]

    def _drop_expired(self, database: Database, connection: Any, rows: list[ClaimedRow]) -> list[ClaimedRow]:
        moment = now_ms()
        expired = [row for row in rows if row[4] is not None and row[4] <= moment]
        if not expired:
            return rows
        self._bury(database, connection, ((row[0], row[1], row[5], row[6]) for row in expired), "expired")
        return [row for row in rows if row[4] is None or row[4] > moment]

    # -- settling --------------------------------------------------------------------------------------

    def _mine(self, deliveries: Sequence[Delivery]) -> list[tuple[int, int]]:
        """(message id, owner) of those of this epoch."""
        return [(delivery.tag, self._owner) for delivery in deliveries if delivery.epoch == self._epoch]

    def _settle(self, database: Database, mine: Sequence[tuple[int, int]]) -> None:
        """They are no longer held; not before it is committed."""
        database.after_commit(lambda: self._prefetched.difference_update(row_id for row_id, _ in mine))

    def ack(self, database: Database, deliveries: Sequence[Delivery]) -> None:
        mine = self._mine(deliveries)
        if mine:
            with database.write() as connection:
                connection.executemany(ACK, mine)
                self._settle(database, mine)

    def give_back(self, database: Database, deliveries: Sequence[Delivery]) -> None:
        """To their old places, one delivery older."""
        mine = self._mine(deliveries)
        if mine:
            with database.write() as connection:
                queues = [queue for row in mine for (queue,) in connection.execute(GIVE_BACK, row)]
                self._gave_back(database, connection, queues)
                self._settle(database, mine)
            self.expects_more = True

    def reject(self, database: Database, deliveries: Sequence[Delivery]) -> None:
        mine = self._mine(deliveries)
        if mine:
            with database.write() as connection:
                statement = "SELECT id, queue, envelope, body FROM messages WHERE id = ? AND owner = ?"
                rows = [found for row in mine for found in connection.execute(statement, row)]
                self._bury(database, connection, rows, "rejected")
                self._settle(database, mine)

    def park(self, database: Database, delivery: Delivery, due_at: float) -> None:
        mine = self._mine([delivery])
        if not mine:
            return
        due_ms = due_ms_of(due_at, 0) or 0
        with database.write() as connection:
            connection.executemany(PARK, ((due_ms, *row) for row in mine))
            database.after_commit(lambda: self._bell.ring(delivery.queue))
            self._settle(database, mine)
        self._sooner(due_ms)

    def _bury(self, database: Database, connection: Any, rows: Iterable[BuriedRow], reason: str) -> None:
        """Delete, after a copy has gone to the dead-letter exchange where the queue has one."""
        rung: Counter[int] = Counter()
        for row_id, queue_id, envelope, body in rows:
            for queue, letter in self._letters(queue_id, envelope, reason):
                moment = now_ms()
                expires_ms = expires_ms_of(None, queue.arguments, moment)
                row = (READY, queue.id, clamp_priority(None), moment, None, expires_ms, letter, body)
                connection.execute(INSERT_MESSAGE, row)
                rung[queue.id] += 1
            connection.execute("DELETE FROM messages WHERE id = ?", (row_id,))
        if rung:
            database.after_commit(lambda: self._ring(rung))

    def _letters(self, queue_id: int, envelope: bytes, reason: str) -> list[tuple[StoredQueue, bytes]]:
        queue = self._topology.by_id.get(queue_id)
        if queue is None:
            return []
        routing_key, headers = address_of(envelope)
        address = dead_letter_address(queue.arguments, routing_key)
        if address is None:
            return []
        try:
            names = self._topology.table.route(*address, headers)
        except QueueNotFound:
            return []
        letter = dead_letter_of(envelope, queue.name, *address, reason)
        # not back into the queue it died in: it would turn for ever
        return [(self._topology.queues[name], letter) for name in names if name != queue.name]

    # -- the clock -------------------------------------------------------------------------------------

    def until_due_s(self) -> float:
        """How long nothing falls due, as far as is known."""
        return math.inf if self._next_due_ms is None else max(0.0, (self._next_due_ms - now_ms() + 1) / 1000)

    def _sooner(self, due_ms: int) -> None:
        self._next_due_ms = due_ms if self._next_due_ms is None else min(self._next_due_ms, due_ms)

    def _promote(self, database: Database) -> int:
        """What has fallen due becomes ready. Asks the file only now and then while it is busy."""
        moment = now_ms()
        if moment >= self._look_ms or not self.expects_more:
            self._look_ms = moment + _DUE_LOOK_MS
            self._next_due_ms = database.connection.execute(NEXT_DUE).get
        if self._next_due_ms is None or self._next_due_ms > moment:
            return 0
        with database.write() as connection:
            queues = [queue for (queue,) in connection.execute(PROMOTE, (moment,))]
            self._gave_back(database, connection, queues)
            self._next_due_ms = connection.execute(NEXT_DUE).get
        self.expects_more = True
        return len(queues)

    def settle_clock(self, database: Database) -> int:
        """What has fallen due becomes ready, what has expired is dropped; how many became ready."""
        self._look_ms = 0
        promoted = self._promote(database)
        moment = now_ms()
        expiry_ms = database.connection.execute(NEXT_EXPIRY).get
        if expiry_ms is not None and expiry_ms <= moment:
            with database.write() as connection:
                self._topology.refresh(connection)
                rows = cast("list[BuriedRow]", connection.execute(EXPIRED, (moment,)).fetchall())
                self._bury(database, connection, rows, "expired")
        return promoted
