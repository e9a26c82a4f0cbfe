"""``sqlite:///engine.db``: a file as the broker, shared by the processes of one machine.

Rules
-----
* A message is claimed when it is asked for, never ahead of it: one ``UPDATE ... RETURNING`` for a batch.
* A claim belongs to an owner id that is never used twice; acknowledging needs it. A connect is a new owner.
* A dead owner's claims go back as soon as anybody looks (`recover`), not after a timeout.
* Priorities run from 0 to 9, the higher the more urgent, as on AMQP.
* One transaction holds a stored result and its acknowledgement (`transaction`).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import apsw

from engine.codec import Delivery, Message
from engine.errors import ConnectionLost, TransportClosed
from engine.model import ExchangeSpec, QueueSpec, QueueState
from engine.transport import sqlite_liveness
from engine.transport.base import Capabilities, Transport, TransportOptions
from engine.transport.embedded import queue_not_found
from engine.transport.routing import EXCHANGE_TYPES
from engine.transport.sqlite_ballast import BALLAST_BYTES, Ballast, Room
from engine.transport.sqlite_claims import Claims
from engine.transport.sqlite_database import Database, lost
from engine.transport.sqlite_doorbell import Doorbell
from engine.transport.sqlite_place import path_of
from engine.transport.sqlite_publish import Publisher
from engine.transport.sqlite_schema import DROP_READY
from engine.transport.sqlite_state import queue_state
from engine.transport.sqlite_topology import StoredQueue, Topology

logger = logging.getLogger(__name__)

#: An idle consumer looks this often for what no bell tells: the dead, and what others let fall due.
SAFETY_POLL_S = 1.0


class SqliteTransport(Transport):
    """A consumer or publisher of one broker file."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        name="sqlite",
        exchanges=EXCHANGE_TYPES,
        counts_deliveries=True,
        transactional_results=True,
        prefetch=False,
    )

    def __init__(self, url: str, options: TransportOptions | None = None) -> None:
        super().__init__(url, options)
        self.path = path_of(url)
        self._database: Database | None = None
        self._topology = Topology()
        self._bell = Doorbell(self.path)
        self._ballast = Ballast(self.path, int(self.options.extra.get("ballast_bytes", BALLAST_BYTES)))
        self._room = Room(self._ballast)
        self._publisher = Publisher(self._topology, self._bell, self._ballast)
        self._claims = Claims(self._topology, self._bell)
        self._queues: tuple[str, ...] = ()
        self._prefetch = 0
        self._consuming = False
        self._warned: set[str] = set()
        self._look_again_mono_s = 0.0

    # -- life ------------------------------------------------------------------------------------------

    def connect(self) -> None:
        if self.connected:
            return
        self._database = Database(self.path)
        self._pid = os.getpid()
        self.epoch += 1
        try:
            self._claims.enter(sqlite_liveness.enter(self.path), self.epoch)
            self._topology.forget()
            self._ballast.put_back()
            if self._consuming:
                self.consume(self._queues, self._prefetch)
        except BaseException:
            self.abandon()
            raise

    def close(self) -> None:
        database = self._database
        if database is not None and self.connected:
            try:
                self._claims.leave(database)
            except (apsw.Error, OSError) as error:
                logger.debug("claims are left for recovery: %s", error)
        self.abandon()
        self._consuming = False

    def abandon(self) -> None:
        """Claims stay with an owner that is now dead: anybody may recover them."""
        database, self._database = self._database, None
        self._claims.die(forked=self._pid != os.getpid())
        self._bell.close()
        if database is not None:
            if self._pid == os.getpid():
                database.close()
            else:
                database.forsake()

    @property
    def connected(self) -> bool:
        return self._database is not None and self._pid == os.getpid()

    @property
    def shared_connection(self) -> Any:
        """The Database, for a result store of the same file."""
        return self._database

    def _open(self) -> Database:
        self._check_owner()
        if self._database is None:
            raise TransportClosed(f"{self.path} is closed: connect() first")
        return self._database

    @contextmanager
    def _using(self) -> Iterator[Database]:
        """The open database, with SQLite's errors turned into ours."""
        database = self._open()
        try:
            yield database
        except BaseException as error:
            self._topology.forget()
            if isinstance(error, apsw.Error):
                raise lost(self.path, error) from error
            raise

    # -- topology --------------------------------------------------------------------------------------

    def declare(self, queue: QueueSpec) -> QueueState:
        with self._using() as database, database.write() as connection:
            stored = self._topology.declare(connection, queue)
        if dict(stored.arguments) != dict(queue.arguments) and queue.name not in self._warned:
            self._warned.add(queue.name)
            logger.warning(
                "queue %r exists with arguments %r and is used as it is; declared were %r",
                queue.name,
                dict(stored.arguments),
                dict(queue.arguments),
            )
        return self.queue_state(queue.name)

    def declare_exchange(self, exchange: ExchangeSpec) -> None:
        with self._using() as database, database.write() as connection:
            self._topology.declare_exchange(connection, exchange)

    def delete_queue(self, name: str) -> int:
        with self._using() as database, database.write() as connection:
            return self._topology.delete_queue(connection, name)

    def purge(self, name: str) -> int:
        with self._using() as database, database.write() as connection:
            connection.execute(DROP_READY, (self._queue(connection, name).id,))
            return int(connection.changes())

    def queue_state(self, name: str) -> QueueState:
        with self._using() as database:
            self._claims.settle_clock(database)
            queue = self._queue(database.connection, name)
            return queue_state(database.connection, queue, self._claims.alive)

    def _queue(self, connection: Any, name: str) -> StoredQueue:
        self._topology.refresh(connection)
        try:
            return self._topology.queues[name]
        except KeyError:
            raise queue_not_found(name, str(self.path)) from None

    # -- publish ---------------------------------------------------------------------------------------

    def publish(
        self,
        messages: Sequence[Message],
        *,
        confirm: bool = True,
        mandatory: bool = True,
        timeout: float | None = None,
    ) -> list[Exception | None]:
        database = self._open()
        return self._publisher.publish(
            database,
            messages,
            durable=confirm,
            mandatory=mandatory,
            max_message_size=self.options.max_message_size,
        )

    # -- consume ---------------------------------------------------------------------------------------

    def consume(self, queues: Sequence[str], prefetch: int) -> None:
        with self._using() as database:
            for name in queues:
                self._queue(database.connection, name)
            if self._claims.subscribe(database, queues):
                self._bell.listen(queues)
        self._queues = tuple(queues)
        self._prefetch = prefetch
        self._consuming = True
        self._look_again_mono_s = 0.0

    def cancel(self) -> None:
        with self._using() as database:
            self._claims.subscribe(database, ())
        self._bell.listen(())
        self._consuming = False

    def receive(self, timeout: float, limit: int = 0) -> list[Delivery]:
        deadline_mono_s = time.monotonic() + timeout
        with self._using() as database:
            while True:
                room = self._claims.room(self._prefetch, limit) if self._consuming else 0
                if room:
                    deliveries = self._claims.claim(database, room)
                    self.exhausted = not self._claims.expects_more
                    if deliveries:
                        self.body_bytes = len(deliveries[-1].body)
                        return deliveries
                now_mono_s = time.monotonic()
                if room and now_mono_s >= self._look_again_mono_s:
                    self._look_again_mono_s = now_mono_s + SAFETY_POLL_S
                    if self.recover():
                        continue
                left_s = deadline_mono_s - now_mono_s
                if left_s <= 0 or self._wait(left_s, hungry=room > 0):
                    return []

    def _wait(self, left_s: float, *, hungry: bool) -> bool:
        """Sleep until something may have changed; True when one of `wake_fds` is readable."""
        if not hungry:
            return self._bell.wait_deaf(left_s, self.wake_fds)
        until_look_s = max(0.0, self._look_again_mono_s - time.monotonic())
        left_s = min(left_s, until_look_s, self._claims.until_due_s())
        rung, woken = self._bell.wait(left_s, self.wake_fds)
        if rung:
            self._claims.expects_more = True
        return woken

    def get(self, queue: str) -> Delivery | None:
        with self._using() as database:
            self._queue(database.connection, queue)
            return self._claims.get(database, queue)

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        with self._using() as database:
            self._room.write(database, lambda: self._claims.ack(database, deliveries))

    def nack(self, deliveries: Sequence[Delivery], *, requeue: bool) -> None:
        settle = self._claims.give_back if requeue else self._claims.reject
        with self._using() as database:
            self._room.write(database, lambda: settle(database, deliveries))

    def park(self, delivery: Delivery, due_at: float) -> None:
        with self._using() as database:
            self._room.write(database, lambda: self._claims.park(database, delivery, due_at))

    def recover(self) -> int:
        """Raises ConnectionLost when the file was deleted or replaced under us."""
        with self._using() as database:
            database.check_in_place()
            returned = self._room.write(database, lambda: self._claims.recover_dead(database))
            returned += self._claims.settle_clock(database)
            database.shrink()
            return returned

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A power cut takes back all of it or nothing, so it needs not wait for the disk."""
        try:
            with self._using() as database:
                self._room.prepare(database)
                with database.write():
                    yield
        except ConnectionLost as error:
            if isinstance(error.__cause__, apsw.FullError) and self._database is not None:
                self._room.make(self._database)  # for the next try
            raise
