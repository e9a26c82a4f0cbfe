# The typed contract of the extension. Bytes in, bytes out: no socket, no clock, no thread.
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, final

from typing_extensions import disjoint_base

from engine.errors import DecodeError

# ---------------------------------------------------------------------------------------------- values

@disjoint_base
class Message:
    """One message to publish, its body already encoded. Every field may be given by keyword."""

    body: bytes
    content_type: str | None
    content_encoding: str | None
    headers: dict[str, Any] | None
    exchange: str
    routing_key: str
    delivery_mode: int | None  # 2 persistent (default), 1 transient
    priority: int | None
    correlation_id: str | None
    reply_to: str | None
    expiration_ms: int | None  # message TTL
    message_id: str | None
    timestamp: int | None  # unix seconds
    type: str | None
    user_id: str | None
    app_id: str | None
    due_at: float | None  # unix seconds; not to be delivered before; not on the wire, the transport parks it
    def __init__(
        self,
        body: bytes = b"",
        *,
        content_type: str | None = "application/json",
        content_encoding: str | None = "utf-8",
        headers: dict[str, Any] | None = None,
        exchange: str = "",
        routing_key: str = "",
        delivery_mode: int | None = 2,
        priority: int | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        expiration_ms: int | None = None,
        message_id: str | None = None,
        timestamp: int | None = None,
        type: str | None = None,
        user_id: str | None = None,
        app_id: str | None = None,
        due_at: float | None = None,
    ) -> None: ...
    def __eq__(self, other: object, /) -> bool: ...

@disjoint_base
class Delivery:
    """One message received. Headers and properties of an AMQP delivery are decoded when first asked for."""

    tag: Any  # AMQP: int delivery tag; Redis: str; SQLite, memory: int
    epoch: int  # the connection epoch it came on; a transport drops acks of an older epoch
    queue: str  # the queue it was read from ("" when the broker did not tell)
    consumer_tag: str
    exchange: str
    routing_key: str
    redelivered: bool
    delivery_count: int | None  # earlier deliveries, where the broker counts them
    context: Any  # the transport's own (lease token, raw envelope, ...); nobody else reads it
    def __init__(
        self,
        body: bytes = b"",
        *,
        tag: Any = 0,
        epoch: int = 0,
        queue: str = "",
        consumer_tag: str = "",
        exchange: str = "",
        routing_key: str = "",
        redelivered: bool = False,
        delivery_count: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
        context: Any = None,
    ) -> None: ...
    @property
    def body(self) -> bytes: ...
    @property
    def content_type(self) -> str | None: ...
    @property
    def content_encoding(self) -> str | None: ...
    @property
    def headers(self) -> dict[str, Any]: ...
    # The other basic properties that are present: delivery_mode, priority, correlation_id, reply_to,
    # expiration (str, as on the wire), message_id, timestamp (int), type, user_id, app_id, cluster_id.
    @property
    def properties(self) -> dict[str, Any]: ...
    def header(self, name: str, default: Any = None) -> Any:
        """One header; the default also when the headers cannot be read (``headers`` then says why)."""
    def to_message(self) -> Message:
        """The same message, byte-exact body, headers and properties, to be published again. Changes made to
        ``headers`` here are not taken along; an expiration that is no number of milliseconds is left out."""

@disjoint_base
class TaskMessage:
    """A Celery task message (protocol 2), before encoding and after decoding. Its repr shows no arguments."""

    task: str
    id: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    eta: str | None  # ISO 8601; naive means UTC; decoded ones are readable by datetime.fromisoformat
    expires: str | None  # the same
    group: str | None
    group_index: int | None
    retries: int
    time_limit: float | None  # seconds; on the wire timelimit = [hard, soft]
    soft_time_limit: float | None
    root_id: str | None  # decoded: never None, the task's own id when the message has none
    parent_id: str | None
    shadow: str | None
    argsrepr: str | None
    kwargsrepr: str | None
    origin: str | None
    ignore_result: bool | None  # None: the task's own setting decides; False overrules that setting
    replaced_task_nesting: int
    stamped_headers: list[str] | None
    stamps: dict[str, Any] | None
    headers: dict[str, Any] | None  # the user's own extra headers
    callbacks: list[Any] | None
    errbacks: list[Any] | None
    chain: list[Any] | None  # reversed, as on the wire: the next step is the last item
    chord: Any
    reply_to: str | None
    correlation_id: str | None
    def __init__(
        self,
        task: str,
        id: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        eta: str | None = None,
        expires: str | None = None,
        group: str | None = None,
        group_index: int | None = None,
        retries: int = 0,
        time_limit: float | None = None,
        soft_time_limit: float | None = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        shadow: str | None = None,
        argsrepr: str | None = None,
        kwargsrepr: str | None = None,
        origin: str | None = None,
        ignore_result: bool | None = None,
        replaced_task_nesting: int = 0,
        stamped_headers: list[str] | None = None,
        stamps: dict[str, Any] | None = None,
        headers: dict[str, Any] | None = None,
        callbacks: list[Any] | None = None,
        errbacks: list[Any] | None = None,
        chain: list[Any] | None = None,
        chord: Any = None,
        reply_to: str | None = None,
        correlation_id: str | None = None,
    ) -> None: ...
    def __eq__(self, other: object, /) -> bool: ...

# ---------------------------------------------------------------------------------------------- JSON (W3)

def json_encode(value: Any) -> bytes:
    """kombu's JSON dialect: the same meaning as kombu.utils.json.dumps (spacing may differ). EncodeError for
    what it has no form for, and for nesting deeper than 512 levels."""

def json_decode(data: bytes | bytearray | memoryview | str) -> Any:
    """As kombu.utils.json.loads. DecodeError (a ValueError) on bad input, and for nesting deeper than 512
    levels."""

# --------------------------------------------------------------------------------------------- tasks (W1, W2)

def encode_task_headers(task: TaskMessage, lean: bool = True) -> dict[str, Any]:
    """Protocol-2 headers; lean leaves out those whose value is None or what a Celery worker assumes without
    them. The task's own ``headers`` are merged at the top level, without those a broker added (x-death)."""

@final
class TaskTemplate:
    """Makes lean protocol-2 messages of one task on one route, with JSON bodies; what does not change between
    calls is encoded once. ``message`` gives what `encode_task_headers` and `encode_task_body` would give for
    a task without further fields, or None for what only they can judge: arguments that are not exactly a list
    or a tuple, keyword arguments that are not a dict, an id that is not ASCII. Raises EncodeError."""

    def __init__(
        self,
        task: str,
        *,
        exchange: str = "",
        routing_key: str = "",
        delivery_mode: int | None = 2,
        priority: int | None = None,
    ) -> None: ...
    def message(
        self,
        id: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        ignore_result: bool | None = None,
        reply_to: str | None = None,
    ) -> Message | None: ...

def format_ids(random: bytes) -> list[str]:
    """Version-4 UUIDs as text, one for each 16 of the random bytes."""

def encode_task_body(task: TaskMessage) -> bytes:
    """``[args, kwargs, {callbacks, errbacks, chain, chord}]`` as JSON bytes. EncodeError."""

def take_without(ready: deque[Delivery], taken: list[Delivery], limit: int, name: bytes) -> None:
    """Move deliveries from the left of ``ready`` to ``taken``, up to the first that may have a header of that
    name, or until ``taken`` holds ``limit`` (0: no limit). Headers are not decoded for it."""

def decode_task(
    delivery: Delivery,
    loads: Callable[[bytes, str | None, str | None], Any] | None = None,
    unpack: Callable[[Delivery], bytes] | None = None,
) -> TaskMessage:
    """A delivery's task, protocol 2, hybrid or 1. DecodeError says what is wrong with it.

    Uncompressed ``application/json`` in UTF-8 is read by the codec itself, without asking ``loads``: an app
    that does not accept JSON refuses before it calls this. Every other body goes to ``loads(body,
    content_type, content_encoding)``, which enforces the accept list. A body with a ``compression`` header is
    first what ``unpack(delivery)`` makes of it; without it, it goes to ``loads`` as it came. What these raise
    is let through. Without ``loads`` such a body is ContentDisallowed.
    """

# ---------------------------------------------------------------------------------------------- AMQP 0-9-1

PROTOCOL_HEADER: Final[bytes]
HEARTBEAT_FRAME: Final[bytes]

@disjoint_base
class Method:
    """A method frame that carries no content. ``args`` in the order of the specification, reserved fields
    included (engine/_codec/amqp_method.pxi lists them)."""

    @property
    def channel(self) -> int: ...
    @property
    def class_id(self) -> int: ...
    @property
    def method_id(self) -> int: ...
    @property
    def args(self) -> tuple[Any, ...]: ...
    def __init__(self, channel: int, class_id: int, method_id: int, args: Sequence[Any] = ()) -> None: ...
    def __eq__(self, other: object, /) -> bool: ...

@disjoint_base
class Returned:
    """A basic.return with its content."""

    @property
    def channel(self) -> int: ...
    @property
    def reply_code(self) -> int: ...
    @property
    def reply_text(self) -> str: ...
    @property
    def exchange(self) -> str: ...
    @property
    def routing_key(self) -> str: ...
    @property
    def message(self) -> Message: ...
    def __init__(
        self,
        channel: int,
        reply_code: int,
        reply_text: str,
        exchange: str,
        routing_key: str,
        message: Message,
    ) -> None: ...

@final
class Heartbeat:
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class FrameDecoder:
    """Incremental decoder of one connection's inbound bytes; any chunking gives the same items."""

    frame_max: int  # negotiated; larger frames are refused before they are buffered
    epoch: int  # stamped on every Delivery
    def __init__(
        self, frame_max: int = 131072, max_message_size: int = 134217728, epoch: int = 0
    ) -> None: ...
    def name_consumer(self, consumer_tag: str, queue: str) -> None:
        """Deliveries of that consumer tag get this queue name."""
    def feed(self, data: bytes | bytearray | memoryview) -> list[Method | Delivery | Returned | Heartbeat]:
        """Whole items, in order; an incomplete rest is kept. basic.get-ok gives a Delivery (consumer_tag "").
        Raises MalformedFrame or MessageTooLarge; the decoder is of no use after that. MessageTooLarge has
        ``channel`` and ``delivery_tag`` (None for a returned message), so that the broker can be told to drop
        the message before the connection is closed."""
    @property
    def between_frames(self) -> bool:
        """Whether the next byte begins a frame."""
    @property
    def buffered(self) -> int:
        """Bytes held of frames and bodies that are not complete yet."""

def encode_method(channel: int, class_id: int, method_id: int, args: Sequence[Any] = ()) -> bytes:
    """A method frame. Every field of the specification is given, the reserved ones as 0 or "", long strings
    as str or bytes. Raises EncodeError, which names the fields."""

def encode_publish(
    messages: Iterable[Message], channel: int = 1, frame_max: int = 131072, mandatory: bool = False
) -> bytes:
    """Method, header and body frames of all messages in one buffer. Raises EncodeError, or MessageTooLarge
    for headers that fill more than a frame; then none of them is to be sent."""

def encode_acks(channel: int, acks: Iterable[tuple[int, bool]]) -> bytes:
    """basic.ack frames of (delivery tag, multiple)."""

def encode_nacks(channel: int, nacks: Iterable[tuple[int, bool, bool]]) -> bytes:
    """basic.nack frames of (delivery tag, multiple, requeue)."""

def encode_table(table: Mapping[str, Any]) -> bytes:
    """A field table with its 4-byte length (AMQP 0-9-1 section 4.2.5.5, RabbitMQ's types)."""

def decode_table(data: bytes | bytearray | memoryview) -> dict[str, Any]:
    """The table that ``data`` holds, from its length to its last byte. Raises DecodeError."""

# ---------------------------------------------------------------------------------------------- Redis (W6)

def encode_envelope(message: Message, delivery_tag: str) -> bytes:
    """kombu's virtual-transport message as JSON; priority None is written as 0, body as base64. Raises
    EncodeError."""

def encode_push(head: bytes, message: Message, delivery_tag: str) -> bytes:
    """A Redis command whose last word is the envelope: ``head`` (the command up to that word, as RESP), then
    the word. Raises EncodeError."""

def decode_envelope(data: bytes | bytearray | memoryview | str) -> Delivery:
    """A Delivery with tag, exchange, routing_key, redelivered, headers and properties from an envelope; its
    queue is "". DecodeError when it is bad JSON, lacks its delivery tag or holds a wrong type."""

def encode_command(words: Iterable[object]) -> bytes:
    """A Redis command as RESP: bytes as they are, anything else as its text in UTF-8."""

def decode_claims(
    answer: list[Any],
    queues: tuple[str, ...],
    epoch: int,
    context: Any,
    held: set[str],
    on_unreadable: Callable[[str, DecodeError], None],
) -> list[Delivery]:
    """The deliveries in the flat answer of the Redis transport's claiming script: tag, index of the list
    (the queues times the priority steps), envelope. Their tags are added to ``held``; what is no envelope
    becomes a delivery of its bytes after ``on_unreadable(queue, error)``."""

def held_tags(deliveries: Iterable[Delivery], epoch: int, held: set[str]) -> dict[Any, list[str]]:
    """Tags of the deliveries that have this epoch, a context and their tag in ``held``, by context; they are
    taken out of ``held``."""
