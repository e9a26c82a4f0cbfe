"""The one place that publishes: tries, retries, the deadline, and what had to be declared before.

Rules: one try is one batch on one connection; after a broken connection the next try has a new one; the same
message objects are sent again, so ids never change; outcomes come back as values. A connection out of which
an exception of somebody else came (a soft time limit, Ctrl-C) is not used again: what it was doing then is
not known.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from engine.broker_link import BROKEN, BrokerLink
from engine.codec import Message
from engine.errors import CodecError, ConfigurationError, TransportError, Unroutable
from engine.model import ExchangeSpec, QueueSpec
from engine.publish_retry import RetryPolicy

Declarable = QueueSpec | ExchangeSpec


class LinkSource(Protocol):
    """Where the connection for one publish comes from: a producer's own, or a pool."""

    def take(self) -> BrokerLink: ...
    def give(self, link: BrokerLink) -> None: ...
    @property
    def exhausted(self) -> bool:
        """Whether who takes now has to wait until somebody gives."""


class OneLink:
    """The source of a producer that stands alone: its link, held by one thread at a time."""

    def __init__(self, link: BrokerLink) -> None:
        self._link = link

    def take(self) -> BrokerLink:
        self._link.lock.acquire()
        return self._link

    def give(self, link: BrokerLink) -> None:
        link.lock.release()

    @property
    def exhausted(self) -> bool:
        return False  # the thread that has it may take it again


class Sender:
    """Publishes finished messages over links from ``source``."""

    def __init__(self, source: LinkSource, confirms: bool) -> None:
        self.source = source
        self.confirms = confirms

    def declare(self, entities: Sequence[Declarable]) -> None:
        """Declare what was not declared on this connection before."""
        link = self.source.take()
        try:
            link.declare_all(entities)
        except BaseException as error:
            drop_if_unknown(link, error)
            raise
        finally:
            self.source.give(link)

    def send_one(
        self,
        message: Message,
        declare: Sequence[Declarable],
        mandatory: bool,
        policy: RetryPolicy,
        timeout: float | None,
    ) -> None:
        """`send` for one message, short when all goes well; raises what went wrong."""
        source = self.source
        link = source.take()
        outcome: Exception | None
        again = False
        try:
            outcome = link.ready(declare).publish_one(message, self.confirms, mandatory, timeout)
        except BROKEN as error:  # nothing was sent
            link.drop()
            outcome, again = error, True
        except TransportError as error:
            outcome = error
        except BaseException as error:
            drop_if_unknown(link, error)
            raise
        finally:
            source.give(link)
        if outcome is None:
            return
        if isinstance(outcome, Unroutable) and declare:  # the queue may be gone since
            self._forget(declare)
        elif not again and not (policy.allows(0) and policy.applies_to(outcome)):
            raise outcome
        outcome = self.send([message], declare, mandatory, policy, timeout)[0]
        if outcome is not None:
            raise outcome

    def send(
        self,
        messages: Sequence[Message],
        declare: Sequence[Declarable],
        mandatory: bool,
        policy: RetryPolicy,
        timeout: float | None,
    ) -> list[Exception | None]:
        """Publish in one batch, within ``timeout``; one outcome each, in order: None, or the error."""
        outcomes: list[Exception | None] = [None] * len(messages)
        pending = list(range(len(messages)))
        deadline = None if timeout is None else time.monotonic() + timeout
        retries, fresh, redeclared = 0, False, False
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            found, was_stale = self._attempt([messages[at] for at in pending], declare, mandatory, left)
            for at, outcome in zip(pending, found, strict=True):
                outcomes[at] = outcome
            lost = [at for at in pending if isinstance(outcomes[at], Unroutable)]
            if lost and declare and not redeclared:  # the queue may be gone since
                redeclared, pending = True, lost
                self._forget(declare)
                continue
            pending = [at for at in pending if _again(outcomes[at], policy)]
            if not pending:
                return outcomes
            if was_stale and not fresh:  # an idle connection had gone: one new one is always worth it
                fresh = True
                continue
            pause = policy.pause_s(retries)
            if not policy.allows(retries) or (deadline is not None and time.monotonic() + pause >= deadline):
                return outcomes
            time.sleep(pause)
            retries += 1

    def _attempt(
        self, messages: list[Message], declare: Sequence[Declarable], mandatory: bool, timeout: float | None
    ) -> tuple[list[Exception | None], bool]:
        """One try: the outcomes, and whether an open connection was broken before anything was sent."""
        link = self.source.take()
        was_open = link.opened
        try:
            link.declare_all(declare)
            transport = link.transport
            return transport.publish(
                messages, confirm=self.confirms, mandatory=mandatory, timeout=timeout
            ), False
        except BROKEN as error:
            link.drop()
            return [error] * len(messages), was_open
        except TransportError as error:
            return [error] * len(messages), False
        except BaseException as error:
            drop_if_unknown(link, error)
            raise
        finally:
            self.source.give(link)

    def _forget(self, declare: Sequence[Declarable]) -> None:
        link = self.source.take()
        link.forget(declare)
        self.source.give(link)


def drop_if_unknown(link: BrokerLink, error: BaseException) -> None:
    """Somebody else's exception came out of a publish: what the connection was doing is not known."""
    if not isinstance(error, (TransportError, CodecError, ConfigurationError)):
        link.drop()


def _again(outcome: Exception | None, policy: RetryPolicy) -> bool:
    return outcome is not None and policy.applies_to(outcome)
