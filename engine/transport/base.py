"""The contract every transport keeps, and nothing else.

A transport is one process's way to one broker: it is opened after fork, used by one thread at a time, and
blocking. What differs between brokers is said in `Capabilities`, never found out by ``isinstance``.
The suite in ``tests/conformance`` runs against every one of them; new semantics land there first.

Rules
-----
* ``publish`` returns an outcome a message, and raises only when it could not try at all.
* ``receive`` returns whole deliveries, or an empty list at the timeout or when a ``wake_fd`` turns readable.
* ``ack`` and ``nack`` carry the delivery; one whose ``epoch`` is not the connection's is dropped, never sent.
* A lost connection raises `ConnectionLost` once; ``reconnect`` opens a new epoch and consumes as before.
* In a forked process every inherited transport is dead: its descriptors are closed without a word to the
  broker, and using it raises `TransportClosed`.
"""

from __future__ import annotations

import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from engine.codec import Delivery, Message
from engine.errors import TransportClosed
from engine.model import ExchangeSpec, QueueSpec, QueueState


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a broker can do, as data."""

    name: str
    confirms: bool = True  #: publish(confirm=True) means stored by the broker
    mandatory: bool = True  #: an unroutable publish is told
    exchanges: frozenset[str] = frozenset({"direct", "topic", "fanout"})  #: the exchange types it routes
    priorities: bool = True
    delays: bool = True  #: honours Message.due_at itself
    expiration: bool = True  #: honours Message.expiration_ms
    counts_deliveries: bool = False  #: Delivery.delivery_count is exact
    survives_restart: bool = True
    crosses_processes: bool = True
    transactional_results: bool = False  #: a result store in the same file can share the ack's transaction
    prefetch: bool = True  #: deliveries are pushed ahead of demand; else claimed when asked for
    recovers_by_itself: bool = False  #: `receive` does once a second what `recover` does


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """What a transport needs to know beside its URL. Times in seconds."""

    connect_timeout: float = 4.0
    heartbeat: float = 60.0  #: 0 switches it off; AMQP negotiates the lower of both sides'
    confirm_timeout: float = 30.0  #: how long a confirmed publish may wait for the broker
    visibility_timeout: float = 3600.0  #: Redis: how long kombu's workers let a claim stand
    lease: float = 60.0  #: Redis: how long our own claims stand without renewal
    max_message_size: int = 128 * 1024 * 1024  #: bytes; larger messages are refused
    client_name: str = "engine"  #: shown by the broker's own tools
    #: broker_use_ssl: ca_certs, certfile, keyfile, cert_reqs, ...; False: no TLS
    ssl: Mapping[str, Any] | bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)  #: broker_transport_options not named above


class Transport(ABC):
    """One connection to a broker. See the module's rules."""

    capabilities: ClassVar[Capabilities]

    def __init__(self, url: str, options: TransportOptions | None = None) -> None:
        self.url = url
        self.options = options or TransportOptions()
        self.epoch = 0  #: raised by every successful connect
        self.wake_fds: tuple[int, ...] = ()  #: receive() returns early when one of these is readable
        #: size of one of the bodies that `receive` gave last, for who bounds what it holds
        self.body_bytes = 0
        #: `receive` gave all there was when it last looked: to look again at once is not worth a round trip
        self.exhausted = False
        self._pid: int | None = None
        _live.add(weakref.ref(self, _live.discard))

    # -- life ------------------------------------------------------------------------------------------

    @classmethod  # noqa: B027 - most have nothing left to import
    def preload(cls, url: str, options: TransportOptions) -> None:
        """Import what `connect` would, so that processes that are forked afterwards share its memory. What is
        missing is left for `connect` to tell."""

    @abstractmethod
    def connect(self) -> None:
        """Open the connection. Raises ConnectionFailed, AccessRefused, MissingExtra. Idempotent."""

    @abstractmethod
    def close(self) -> None:
        """Close in order; deliveries not yet settled go back to their queues. Idempotent, never raises."""

    @abstractmethod
    def abandon(self) -> None:
        """Close descriptors without a word to the broker (after fork, or the peer is gone). Never raises."""

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether this process may use it right now."""

    def reconnect(self) -> None:
        """One try to connect anew: next epoch, same consumers and prefetch. Raises as ``connect`` does."""
        self.abandon()
        self.connect()

    # -- topology --------------------------------------------------------------------------------------

    @abstractmethod
    def declare(self, queue: QueueSpec) -> QueueState:
        """Declare the queue, the exchanges it is bound to and the bindings. Idempotent.

        A queue that exists with other arguments is used as it is where that is safe, with one warning;
        else DeclareConflict names the arguments and the way out."""

    @abstractmethod
    def declare_exchange(self, exchange: ExchangeSpec) -> None:
        """Declare an exchange alone."""

    @abstractmethod
    def delete_queue(self, name: str) -> int:
        """Delete it with what it holds; the number of messages dropped (0 when it did not exist)."""

    @abstractmethod
    def purge(self, name: str) -> int:
        """Drop its ready messages; how many. Raises QueueNotFound."""

    @abstractmethod
    def queue_state(self, name: str) -> QueueState:
        """Sizes and consumers. Raises QueueNotFound."""

    # -- publish ---------------------------------------------------------------------------------------

    @abstractmethod
    def publish(
        self,
        messages: Sequence[Message],
        *,
        confirm: bool = True,
        mandatory: bool = True,
        timeout: float | None = None,
    ) -> list[Exception | None]:
        """Publish a batch; one outcome each, in order: None, or the error (Unroutable, PublishRefused,
        PublishUnknown, MessageTooLarge, EncodeError) as a value. With ``confirm=False`` None means handed to
        the broker's socket. Raises TransportClosed or ConnectionLost only if nothing was sent.
        A message whose ``due_at`` lies ahead is parked by the broker until then."""

    def publish_begin(
        self, messages: Sequence[Message], *, confirm: bool, mandatory: bool, timeout: float | None
    ) -> Callable[[], list[Exception | None]]:
        """`publish` in two parts: what is returned is called for the outcomes, and waits for them. Others may
        be published meanwhile. Where a transport has nothing to gain by it, all is done at once."""
        outcomes = self.publish(messages, confirm=confirm, mandatory=mandatory, timeout=timeout)
        return lambda: outcomes

    def publish_one(
        self, message: Message, confirm: bool, mandatory: bool, timeout: float | None
    ) -> Exception | None:
        """`publish` for one message: its outcome."""
        return self.publish((message,), confirm=confirm, mandatory=mandatory, timeout=timeout)[0]

    # -- consume ---------------------------------------------------------------------------------------

    @abstractmethod
    def consume(self, queues: Sequence[str], prefetch: int) -> None:
        """Start consuming. Called again it replaces queues and prefetch. Raises QueueNotFound."""

    @abstractmethod
    def cancel(self) -> None:
        """Take no further messages. Deliveries that had already come stay with the caller, or are returned
        by the next ``receive``."""

    @abstractmethod
    def receive(self, timeout: float, limit: int = 0) -> list[Delivery]:
        """Deliveries, oldest first: at least one, or [] at the timeout or on a wake. ``limit`` 0 means as
        many as are there within the prefetch."""

    @abstractmethod
    def get(self, queue: str) -> Delivery | None:
        """Take one message without a consumer, or None. Raises QueueNotFound."""

    @abstractmethod
    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge. Those of another epoch are dropped silently."""

    @abstractmethod
    def nack(self, deliveries: Sequence[Delivery], *, requeue: bool) -> None:
        """Give back (requeue) or reject to the dead-letter exchange, where there is one."""

    @abstractmethod
    def park(self, delivery: Delivery, due_at: float) -> None:
        """Put a delivery away until ``due_at`` (unix seconds), safely, then settle it: nobody holds it."""

    def recover(self) -> int:
        """Give back what dead consumers held and what has fallen due; how many. Cheap to call often."""
        return 0

    # -- while user code runs --------------------------------------------------------------------------

    def guard(self) -> None:  # noqa: B027 - a transport without heartbeat or lease has nothing to do
        """User code starts: from here the native keepalive keeps the connection, until the transport is used
        again. Cheap when nothing was used since the last time, so that it can be called for every task."""

    def unguard(self) -> None:  # noqa: B027
        """Take the connection back at once, where its next use would do so by itself."""

    @property
    def refresh_every_s(self) -> float | None:
        """How often `refresh` wants to be called while user code runs; None: never."""
        return None

    def refresh(self) -> None:
        """While user code runs, and Python gets to run: look after what the native keepalive cannot. The
        connection stays guarded. Raises ConnectionLost, TransportClosed."""
        self.unguard()
        self.guard()

    # -- sharing ---------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Results stored and acks made inside are one transaction, where the capability says so."""
        yield

    @property
    def shared_connection(self) -> Any:
        """The connection a result store of the same file may share, or None."""
        return None

    def _check_owner(self) -> None:
        if self._pid is not None and self._pid != os.getpid():
            raise TransportClosed(
                f"this connection was opened by process {self._pid} and cannot be used in process "
                f"{os.getpid()}: open connections after fork"
            )


#: no WeakSet: a forked process would run its Python, and have copies of that memory
_live: set[weakref.ref[Transport]] = set()


def _abandon_inherited() -> None:
    for known in list(_live):
        if (transport := known()) is not None:
            transport.abandon()


os.register_at_fork(after_in_child=_abandon_inherited)
