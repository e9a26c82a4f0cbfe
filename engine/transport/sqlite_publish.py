"""Publishing to an SQLite broker: a batch is one transaction, and waits for the disk once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import apsw

from engine.codec import Message
from engine.errors import EncodeError, PublishRefused, QueueNotFound
from engine.transport.embedded import too_large, unroutable
from engine.transport.sqlite_ballast import Ballast
from engine.transport.sqlite_database import Database
from engine.transport.sqlite_doorbell import Doorbell
from engine.transport.sqlite_rows import envelope_of, row_of
from engine.transport.sqlite_schema import INSERT_MESSAGE
from engine.transport.sqlite_topology import Topology


class Publisher:
    """The publishing side of one transport."""

    def __init__(self, topology: Topology, bell: Doorbell, ballast: Ballast) -> None:
        self._topology = topology
        self._bell = bell
        self._ballast = ballast

    def publish(
        self,
        database: Database,
        messages: Sequence[Message],
        *,
        durable: bool,
        mandatory: bool,
        max_message_size: int,
    ) -> list[Exception | None]:
        outcomes: list[Exception | None] = []
        envelopes: list[bytes] = []
        for message in messages:  # before the transaction: others wait for it
            error, envelope = _prepare(message, max_message_size)
            outcomes.append(error)
            envelopes.append(envelope)
        if not any(outcome is None for outcome in outcomes):
            return outcomes
        if not self._ballast.in_place():
            return _refuse(outcomes, PublishRefused(_FULL.format(database.path)))
        rung: Counter[str] = Counter()
        stored = list(outcomes)
        try:
            with database.write(durable=durable) as connection:
                self._topology.refresh(connection)
                rows = self._rows(messages, envelopes, stored, mandatory, rung)
                connection.executemany(INSERT_MESSAGE, rows)
                database.after_commit(lambda: self._ring(rung))
        except apsw.FullError:
            return _refuse(outcomes, PublishRefused(_FULL.format(database.path)))
        except apsw.Error as error:
            return _refuse(outcomes, PublishRefused(f"{database.path} did not take the message: {error}"))
        return stored

    def _rows(
        self,
        messages: Sequence[Message],
        envelopes: Sequence[bytes],
        outcomes: list[Exception | None],
        mandatory: bool,
        rung: Counter[str],
    ) -> list[tuple[Any, ...]]:
        """The rows to insert; what can't be routed is told in `outcomes`."""
        route, queues = self._topology.table.route, self._topology.queues
        now_ms = time.time_ns() // 1_000_000
        rows = []
        for index, message in enumerate(messages):
            if outcomes[index] is not None:
                continue
            try:
                names = route(message.exchange, message.routing_key, message.headers)
            except QueueNotFound as error:
                outcomes[index] = error
                continue
            if mandatory and not names:
                outcomes[index] = unroutable(message)
            for name in names:
                rows.append(row_of(message, envelopes[index], queues[name], now_ms))
                rung[name] += 1
        return rows

    def _ring(self, rung: Counter[str]) -> None:
        for name, count in rung.items():
            self._bell.ring(name, count)


_FULL = "the disk is full: {} takes no messages until there is room again (acknowledging goes on)"


def _prepare(message: Message, max_message_size: int) -> tuple[Exception | None, bytes]:
    error: Exception | None = too_large(message, max_message_size)
    if error is not None:
        return error, b""
    try:
        return None, envelope_of(message)
    except EncodeError as failure:
        return failure, b""


def _refuse(outcomes: Sequence[Exception | None], refusal: PublishRefused) -> list[Exception | None]:
    return [refusal if outcome is None else outcome for outcome in outcomes]
