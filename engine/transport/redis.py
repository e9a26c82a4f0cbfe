"""The Redis transport: kombu's layout (redis_layout.py), claimed atomically and under a lease.

How a message is taken: one Lua script pops it and records it in kombu's ``unacked`` in the same step, so
there is no moment in which it is nowhere. The claim belongs to this transport's token, whose lease is renewed
by every claim and by `guard`; acknowledging needs the claim, so an ack after the lease was lost changes
nothing.

How a message is awaited: blocking pops would take a message before it is recorded, and watch one list at a
time. So the lists are read under CLIENT TRACKING (Redis 6) just before a claim that finds them empty: the
server remembers that we read these keys and tells, on this very connection, when any client changes one.
Nothing is outstanding while waiting: a wake descriptor just ends a poll(2), and a process that dies while
waiting leaves nothing behind. Of many that wait for the same queues two watch the lists, and whoever stops
calls the next (redis_lua.py, TURNS), so a message wakes about three processes, not a fleet. Once a second a
waiting transport also looks by itself, which finds what has fallen due and what the dead have left.

How it comes back: `recover` (rate-limited over the fleet) gives back what owners without a lease held, what
has fallen due, and what kombu's own visibility timeout says; what a dead process of this host held comes back
at once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from engine.codec import Delivery, Message, decode_envelope
from engine.errors import ConfigurationError, DecodeError, MissingExtra, TransportClosed, TransportError
from engine.model import ExchangeSpec, QueueSpec, QueueState
from engine.transport import redis_scripts as scripts
from engine.transport.base import Capabilities, Transport, TransportOptions
from engine.transport.redis_address import RedisAddress
from engine.transport.redis_claims import RedisClaims
from engine.transport.redis_layout import Layout
from engine.transport.redis_lease import Lease, NativeLease, TlsLease
from engine.transport.redis_publish import RedisPublisher
from engine.transport.redis_recovery import RedisRecovery
from engine.transport.redis_router import RedisRouter
from engine.transport.redis_session import RedisSession
from engine.transport.redis_wire import RedisWire, import_hiredis, pack
from engine.transport.url import BrokerURL

if TYPE_CHECKING:
    from engine.transport.redis_lease_wire import LeaseWire

logger = logging.getLogger("engine.transport.redis")

#: a waiting transport looks by itself this often; invalidations make it look at once
LOOK_EVERY_S = 1.0
#: of bodies in one claim, as far as the size of one tells that of the others: the server copies each a few
#: times, and serves nobody else meanwhile
_LOT_BYTES = 2 * 2**20


class RedisTransport(Transport):
    """One process's way to a Redis database; see the module's docstring."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        name="redis", expiration=False, prefetch=False, recovers_by_itself=True
    )

    def __init__(self, url: str, options: TransportOptions | None = None) -> None:
        super().__init__(url, options)
        self._address = RedisAddress.parse(url, self.options.ssl)
        self._layout = Layout.of(self.options, self._address.db)
        self._router = RedisRouter(self._layout)
        self._publisher = RedisPublisher(
            self._layout, self._router, self.options.visibility_timeout, self.options.max_message_size
        )
        self._claims = RedisClaims(self._layout, self.options)
        self._recovery = RedisRecovery(self._layout, self.options)
        self._session: RedisSession | None = None
        self._lease: Lease | None = None
        self._guarded = False
        self._queues: tuple[str, ...] = ()
        self._prefetch = 0
        self._patterns: dict[bytes, str] = {}  #: what is subscribed to, and for which queue
        self._inbox: deque[Delivery] = deque()  #: fanout messages that have come
        self._changed = False  #: a list that was found empty is not, any more
        self._use_mono_s = float("inf")  #: when to say again that expiring queues are in use
        self._idle = True  #: the last claim emptied the lists

    # -- life ------------------------------------------------------------------------------------------

    @classmethod
    def preload(cls, url: str, options: TransportOptions) -> None:
        with contextlib.suppress(MissingExtra, ConfigurationError):
            tls = BrokerURL.parse(url).scheme == "rediss" or options.ssl
            import_hiredis()
            if tls:
                import encodings.idna  # noqa: F401 - the ssl module takes host names through it

                import engine.transport.redis_lease_wire  # noqa: F401 - with OpenSSL

    def connect(self) -> None:
        if self.connected:
            return
        session = RedisSession(self._wire())
        session.connect()
        try:
            self._claims.release(session)
            self._claims.begin(session, self.epoch + 1)
            self._session = session
            self._pid = os.getpid()
            if self._queues:
                self._start_reading(session)
        except BaseException:
            self._session = None
            session.abandon()
            raise
        self.epoch += 1

    def _wire(self) -> RedisWire:
        options = self.options
        return RedisWire(
            self._address,
            client_name=options.client_name,
            connect_timeout=options.connect_timeout,
            reply_timeout=self._reply_timeout_s,
            on_push=self._on_push,
        )

    def _lease_wire(self) -> LeaseWire:
        from engine.transport.redis_lease_wire import LeaseWire  # with OpenSSL: only where TLS is wanted

        options = self.options
        return LeaseWire(
            self._address,
            client_name=f"{options.client_name}-lease",
            connect_timeout=options.connect_timeout,
            reply_timeout=self._reply_timeout_s,
        )

    @property
    def _reply_timeout_s(self) -> float:
        return float(self.options.extra.get("socket_timeout") or self.options.confirm_timeout)

    def close(self) -> None:
        session = self._session
        if session is not None and session.wire.connected and self._pid == os.getpid():
            session.wire.reply_timeout = self.options.connect_timeout  # no longer for a server that hangs
            try:
                self.unguard()
                self._claims.release(session)
            except TransportError as error:
                logger.debug("closing: %s", error)
            session.close()
        self.abandon()
        self._queues, self._patterns = (), {}

    def abandon(self) -> None:
        lease, self._lease = self._lease, None
        self._guarded = False
        if lease is not None:
            lease.stop()  # before its descriptor may mean another file
        session, self._session = self._session, None
        if session is not None:
            session.abandon()
        self._inbox.clear()
        if self._pid is not None and self._pid != os.getpid():
            self._claims.disown()

    @property
    def connected(self) -> bool:
        session = self._session
        return session is not None and session.wire.connected and self._pid == os.getpid()

    @property
    def durability(self) -> str:
        """What survives a crash of the server, in words."""
        return self._ready().durability

    def _ready(self) -> RedisSession:
        session = self._session
        if session is None or self._pid != os.getpid() or not session.wire.connected:
            self._check_owner()
            raise TransportClosed("this Redis transport is closed: connect or reconnect it first")
        if self._guarded:
            self.unguard()
        return session

    # -- topology --------------------------------------------------------------------------------------

    def declare(self, queue: QueueSpec) -> QueueState:
        session = self._ready()
        self._router.declare(session, queue)
        return self._state(session, queue.name)

    def declare_exchange(self, exchange: ExchangeSpec) -> None:
        self._router.declare_exchange(self._ready(), exchange)

    def delete_queue(self, name: str) -> int:
        session = self._ready()
        self._router.forget(session, name)
        layout, lists = self._layout, self._layout.lists_of([name])
        keys = [layout.unacked, layout.unacked_index, layout.delayed_prefix + name, *lists]
        return int(session.run(scripts.DELETE_QUEUE, keys, [len(lists)]))

    def purge(self, name: str) -> int:
        session = self._ready()
        self._router.require(session, [name])
        lists = self._layout.lists_of([name])
        answers = session.ask(*(pack("LLEN", place) for place in lists), pack("DEL", *lists))
        return sum(session.checked(answer) for answer in answers[:-1])

    def queue_state(self, name: str) -> QueueState:
        session = self._ready()
        self._router.require(session, [name])
        return self._state(session, name)

    def _state(self, session: RedisSession, name: str) -> QueueState:
        delayed = pack("ZCOUNT", self._layout.delayed_prefix + name, time.time(), "+inf")
        counts = session.ask(*(pack("LLEN", place) for place in self._layout.lists_of([name])), delayed)
        *ready, later = (session.checked(count) for count in counts)
        return QueueState(name, ready=sum(ready), delayed=later)

    # -- publish ---------------------------------------------------------------------------------------

    def publish(
        self,
        messages: Sequence[Message],
        *,
        confirm: bool = True,
        mandatory: bool = True,
        timeout: float | None = None,
    ) -> list[Exception | None]:
        wait_s = self.options.confirm_timeout if timeout is None else timeout
        return self._publisher.publish(self._ready(), messages, confirm, mandatory, wait_s)

    def publish_one(
        self, message: Message, confirm: bool, mandatory: bool, timeout: float | None
    ) -> Exception | None:
        wait_s = self.options.confirm_timeout if timeout is None else timeout
        return self._publisher.publish_one(self._ready(), message, confirm, mandatory, wait_s)

    # -- consume ---------------------------------------------------------------------------------------

    def consume(self, queues: Sequence[str], prefetch: int) -> None:
        session = self._ready()
        self._router.require(session, queues)
        self._queues, self._prefetch = tuple(dict.fromkeys(queues)), prefetch
        self._start_reading(session)

    def _start_reading(self, session: RedisSession) -> None:
        self._claims.read(session, self._queues)
        self._subscribe(session)
        self._say_in_use(session)
        self._idle = True

    def _subscribe(self, session: RedisSession) -> None:
        """Listen to the fanout exchanges that the queues are bound to, and to no other."""
        wanted = {
            pattern.encode(): queue
            for queue in self._queues
            for exchange, kind, key, _ in self._router.bindings_of(queue)
            if kind == "fanout"
            for pattern in self._layout.fanout_patterns_for(exchange, key)
        }
        if not wanted and not self._patterns:
            return
        self._patterns = wanted
        session.wire.send(pack("PUNSUBSCRIBE") + (pack("PSUBSCRIBE", *wanted) if wanted else b""))
        session.command("PING")  # its answer comes behind the pushes that confirm the subscriptions

    def cancel(self) -> None:
        self._queues = ()
        if self.connected:
            self._start_reading(self._ready())

    def receive(self, timeout: float, limit: int = 0) -> list[Delivery]:
        session = self._ready()
        deadline_mono_s = time.monotonic() + timeout
        track = session.tracks and self._idle and timeout > 0
        while True:
            self._look_after(session)
            found = self._take(session, limit, track)
            if found:
                return found
            if self._recovery.bury_siblings(session):
                self._changed = True  # the server does not tell whoever changed it
            remaining_s = deadline_mono_s - time.monotonic()
            if remaining_s <= 0:
                return []
            if not track and session.tracks:
                track = True  # once more, and now the server remembers that we looked
            elif self._wait(session, remaining_s):
                return []
            elif session.tracks and self._in_vain and time.monotonic() >= deadline_mono_s:
                return []  # the next call begins with the look that is due now

    def _take(self, session: RedisSession, limit: int, track: bool) -> list[Delivery]:
        if self._inbox:
            count = min(limit or len(self._inbox), len(self._inbox))
            return [self._inbox.popleft() for _ in range(count)]
        self._changed = False
        room = min(self._claims.room(self._prefetch, limit), max(1, _LOT_BYTES // max(1, self.body_bytes)))
        if not self._queues or room <= 0:
            return []
        found = self._claims.claim(session, room, track)
        self._idle = self.exhausted = len(found) < room
        if found:
            self.body_bytes = len(found[-1].body)
        return found

    @property
    def _in_vain(self) -> bool:
        """Nothing has come while we waited."""
        return not (self._changed or self._inbox)

    def _wait(self, session: RedisSession, remaining_s: float) -> bool:
        """Until there may be something to take; whether a wake descriptor ended it."""
        session.settle()
        session.wire.poll_pushes()  # one may have been read along with a reply: the socket won't tell of it
        if self._changed or self._inbox:
            return session.wire.wait(0.0, self.wake_fds)
        look_s = min(LOOK_EVERY_S, self._claims.renew_every_s, self._recovery.next_due_s())
        deadline_mono_s = time.monotonic() + min(remaining_s, look_s)
        while not (self._changed or self._inbox):
            left_s = deadline_mono_s - time.monotonic()
            if left_s <= 0:
                return False
            if session.wire.wait(left_s, self.wake_fds):
                return True
            session.wire.poll_pushes()
        return False

    def _look_after(self, session: RedisSession) -> None:
        """What is due now and then: renewing, recovering, keeping expiring queues."""
        self._claims.renew_if_due(session)
        self._recovery.bury_siblings(session)  # when the last look found something to run besides
        if self._recovery.is_due(0.9 * LOOK_EVERY_S):  # who waits a second at a time does so each time
            self._recovery.recover_later(session)
        if time.monotonic() >= self._use_mono_s:
            self._say_in_use(session)

    def _say_in_use(self, session: RedisSession) -> None:
        again_s = self._router.use(session, self._queues)
        self._use_mono_s = float("inf") if again_s is None else time.monotonic() + again_s

    def _on_push(self, push: list[Any]) -> None:
        kind = push[0]
        if kind == b"invalidate":
            self._changed = True
            self._claims.woken()
        elif kind == b"pmessage":
            queue = self._patterns.get(push[1])
            if queue is not None:
                self._inbox.append(self._fanout_delivery(queue, push[3]))

    def _fanout_delivery(self, queue: str, data: bytes) -> Delivery:
        try:
            delivery = decode_envelope(data)
        except DecodeError:
            delivery = Delivery(data)
        delivery.queue, delivery.epoch, delivery.context = queue, self.epoch, None
        return delivery

    def get(self, queue: str) -> Delivery | None:
        session = self._ready()
        self._router.require(session, [queue])
        return self._claims.claim_one(session, queue)

    # -- settling --------------------------------------------------------------------------------------

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        session = self._ready()
        self._claims.ack(session, deliveries)

    def nack(self, deliveries: Sequence[Delivery], *, requeue: bool) -> None:
        session = self._ready()
        if requeue:
            self._claims.give_back(session, deliveries)
            return
        dropped = []
        for delivery in deliveries:
            lists = self._router.dead_letter_lists(session, delivery)
            if lists:
                self._claims.dead_letter(session, delivery, lists)
            else:
                dropped.append(delivery)
        self._claims.ack(session, dropped)

    def park(self, delivery: Delivery, due_at: float) -> None:
        self._claims.park(self._ready(), delivery, due_at)

    def recover(self) -> int:
        return self._recovery.recover(self._ready())

    # -- while user code runs --------------------------------------------------------------------------

    def guard(self) -> None:
        if self._guarded:
            return
        session = self._ready()
        if self._lease is None:
            renewal, interval_s = self._claims.renewal, self._claims.renew_every_s
            if self._address.tls is None:
                self._lease = NativeLease(session.wire.fileno(), renewal, interval_s)
            else:
                self._lease = TlsLease(self._lease_wire, renewal, interval_s, self._claims.on_renewed)
        self._lease.arm()
        self._guarded = True

    @property
    def refresh_every_s(self) -> float | None:
        """Somebody has to read the replies to the renewals; over TLS their connection has a thread for it."""
        return self._claims.renew_every_s if self._address.tls is None else None

    def refresh(self) -> None:
        self._claims.renew(self._ready())
        self.guard()

    def unguard(self) -> None:
        self._guarded = False
        if self._lease is None:
            return
        count, torn = self._lease.disarm()
        session = self._session
        if count and session is not None and session.wire.connected:
            if torn:
                session.wire.send(torn)
            session.owe(count, self._claims.on_renewed)
