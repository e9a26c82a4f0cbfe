"""Batches published one behind the other: while the broker confirms one, the next is made and sent.

Rules: at most ``IN_FLIGHT`` batches wait for their confirms, so memory is bounded and a slow broker slows
whoever makes the messages; outcomes come in the order of the messages; what the first try did not settle (a
lost connection, a queue that is gone) is tried again by `Sender.send`, within the batch's own timeout, once
all that is in flight has landed and the connection is given back. The last connection of a pool is not kept
while the next messages are made: whoever makes them may need one, and would wait for it for ever.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from engine.broker_link import BROKEN, BrokerLink
from engine.codec import Message
from engine.errors import TransportError, Unroutable
from engine.publish_retry import RetryPolicy
from engine.sender import Declarable, Sender, drop_if_unknown

IN_FLIGHT = 2

Outcomes = list[Exception | None]


class PublishStream:
    """Use it in a ``with`` block, whose end waits for all confirms; then ``outcomes`` has one for each
    message: None, or the error. Holds one connection of ``sender``'s."""

    def __init__(self, sender: Sender, policy: RetryPolicy, timeout: float | None) -> None:
        self.outcomes: Outcomes = []
        self._sender = sender
        self._policy = policy
        self._timeout = timeout
        self._link: BrokerLink | None = None
        self._flying: deque[_Flight] = deque()

    def __enter__(self) -> PublishStream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._land_all()

    def push(self, messages: Sequence[Message], declare: Sequence[Declarable], mandatory: bool) -> None:
        """Hand over a batch; returns when it is sent and there is room for another."""
        flight = _Flight(messages, declare, mandatory, self._timeout)
        try:
            flight.finish = self._begin(flight)
        except TransportError as error:  # nothing of it was sent
            failed: Outcomes = [error] * len(messages)
            flight.finish = lambda: failed
            if isinstance(error, BROKEN) and self._link is not None:
                self._link.drop()
        except BaseException as error:
            if self._link is not None:
                drop_if_unknown(self._link, error)
            raise
        self._flying.append(flight)
        while len(self._flying) >= IN_FLIGHT:
            self._land()
        if self._sender.source.exhausted:
            self._land_all()

    def _begin(self, flight: _Flight) -> Callable[[], Outcomes]:
        if self._link is None:
            self._link = self._sender.source.take()
        self._link.declare_all(flight.declare)
        return self._link.transport.publish_begin(
            flight.messages,
            confirm=self._sender.confirms,
            mandatory=flight.mandatory,
            timeout=flight.left_s(),
        )

    def _land_all(self) -> None:
        try:
            while self._flying:
                self._land()
        finally:
            self._give_link()

    def _land(self) -> None:
        """Wait for the outcomes of the oldest batch; of all, when something of it has to be sent again."""
        landed = [self._finished(self._flying.popleft())]
        if landed[0].again:
            while self._flying:
                landed.append(self._finished(self._flying.popleft()))
            self._give_link()
        for flight in landed:
            if flight.again:
                self._send_again(flight)
            self.outcomes += flight.outcomes

    def _finished(self, flight: _Flight) -> _Flight:
        try:
            flight.outcomes = flight.finish()
        except TransportError as error:
            flight.outcomes = [error] * len(flight.messages)
        flight.again = [at for at, error in enumerate(flight.outcomes) if self._goes_again(error, flight)]
        return flight

    def _goes_again(self, error: Exception | None, flight: _Flight) -> bool:
        if error is None:
            return False
        if isinstance(error, Unroutable):  # the queue may be gone since it was declared
            return bool(flight.declare)
        return isinstance(error, BROKEN) or (self._policy.allows(0) and self._policy.applies_to(error))

    def _send_again(self, flight: _Flight) -> None:
        found = self._sender.send(
            [flight.messages[at] for at in flight.again],
            flight.declare,
            flight.mandatory,
            self._policy,
            flight.left_s(),
        )
        for at, outcome in zip(flight.again, found, strict=True):
            flight.outcomes[at] = outcome

    def _give_link(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            self._sender.source.give(link)


class _Flight:
    """One batch on its way."""

    __slots__ = ("_deadline_mono_s", "again", "declare", "finish", "mandatory", "messages", "outcomes")

    def __init__(
        self,
        messages: Sequence[Message],
        declare: Sequence[Declarable],
        mandatory: bool,
        timeout: float | None,
    ) -> None:
        self.messages = messages
        self.declare = declare
        self.mandatory = mandatory
        self.finish: Callable[[], Outcomes] = list
        self.outcomes: Outcomes = []
        self.again: list[int] = []  #: the places of those that are to be sent once more
        self._deadline_mono_s = None if timeout is None else time.monotonic() + timeout

    def left_s(self) -> float | None:
        return None if self._deadline_mono_s is None else max(0.0, self._deadline_mono_s - time.monotonic())
