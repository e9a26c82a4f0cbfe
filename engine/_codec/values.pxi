# The values that cross the wire: Message (to publish), Delivery (received), and what else a broker's
# connection hands up: Method, Returned, Heartbeat.
#
# A Delivery from AMQP keeps its properties as the bytes that came and reads them when first asked; one from
# elsewhere is given them decoded. Text fields are `object`, so that a str subclass is welcome; encoding
# checks them.


@cython.freelist(64)
cdef class Message:
    """One message to publish, its body already encoded."""

    cdef public object body
    cdef public object content_type
    cdef public object content_encoding
    cdef public object exchange
    cdef public object routing_key
    cdef public object delivery_mode
    cdef public object priority
    cdef public object correlation_id
    cdef public object reply_to
    cdef public object expiration_ms
    cdef public object message_id
    cdef public object timestamp
    cdef public object type
    cdef public object user_id
    cdef public object app_id
    cdef public object due_at
    cdef object _headers
    cdef bytes _raw_headers  # as they came, length included, until somebody asks for them
    cdef object _cluster_id  # obsolete, kept so that a message can be published again as it came

    def __init__(
        self,
        body=b"",
        *,
        content_type="application/json",
        content_encoding="utf-8",
        headers=None,
        exchange="",
        routing_key="",
        delivery_mode=2,
        priority=None,
        correlation_id=None,
        reply_to=None,
        expiration_ms=None,
        message_id=None,
        timestamp=None,
        type=None,
        user_id=None,
        app_id=None,
        due_at=None,
    ):
        self.body = body
        self.content_type = content_type
        self.content_encoding = content_encoding
        self._headers = headers
        self.exchange = exchange
        self.routing_key = routing_key
        self.delivery_mode = delivery_mode
        self.priority = priority
        self.correlation_id = correlation_id
        self.reply_to = reply_to
        self.expiration_ms = expiration_ms
        self.message_id = message_id
        self.timestamp = timestamp
        self.type = type
        self.user_id = user_id
        self.app_id = app_id
        self.due_at = due_at

    cdef object get_headers(self):
        if self._raw_headers is not None:
            self._headers = decode_table(self._raw_headers)
            self._raw_headers = None
        return self._headers

    @property
    def headers(self):
        return self.get_headers()

    @headers.setter
    def headers(self, value):
        self._raw_headers = None
        self._headers = value

    cdef tuple _state(self):
        return (
            self.body, self.content_type, self.content_encoding, self.get_headers(), self.exchange,
            self.routing_key, self.delivery_mode, self.priority, self.correlation_id, self.reply_to,
            self.expiration_ms, self.message_id, self.timestamp, self.type, self.user_id, self.app_id,
            self.due_at, self._cluster_id,
        )

    def __eq__(self, other):
        if not isinstance(other, Message):
            return NotImplemented
        return self._state() == (<Message> other)._state()

    __hash__ = None

    def __repr__(self):
        return (
            f"<Message exchange={self.exchange!r} routing_key={self.routing_key!r} "
            f"content_type={self.content_type!r} body={size_in_words(self.body)}>"
        )

    def __reduce__(self):
        return _message_from_state, self._state()


def _message_from_state(*state):
    cdef Message message = Message.__new__(Message)
    (
        message.body, message.content_type, message.content_encoding, message._headers, message.exchange,
        message.routing_key, message.delivery_mode, message.priority, message.correlation_id,
        message.reply_to, message.expiration_ms, message.message_id, message.timestamp, message.type,
        message.user_id, message.app_id, message.due_at, message._cluster_id,
    ) = state
    return message


@cython.freelist(64)
cdef class Delivery:
    """One message received."""

    cdef public object tag
    cdef public object epoch
    cdef public object queue
    cdef public object consumer_tag
    cdef public object exchange
    cdef public object routing_key
    cdef public bint redelivered
    cdef public object context
    cdef bytes _body
    cdef object _content_type
    cdef object _content_encoding
    cdef object _headers  # dict, or None: not read yet, or none
    cdef object _properties  # the same
    cdef object _delivery_count
    cdef bytes _raw  # the properties as they came, or None: this one was given them decoded
    cdef uint16_t _flags
    cdef Py_ssize_t _headers_at  # where in _raw; _rest_at is 0 until read_content has looked
    cdef Py_ssize_t _rest_at

    def __init__(
        self,
        bytes body not None=b"",
        *,
        tag=0,
        epoch=0,
        queue="",
        consumer_tag="",
        exchange="",
        routing_key="",
        redelivered=False,
        delivery_count=None,
        content_type=None,
        content_encoding=None,
        headers=None,
        properties=None,
        context=None,
    ):
        self._body = body
        self.tag = tag
        self.epoch = epoch
        self.queue = queue
        self.consumer_tag = consumer_tag
        self.exchange = exchange
        self.routing_key = routing_key
        self.redelivered = redelivered
        self._delivery_count = delivery_count
        self._content_type = content_type
        self._content_encoding = content_encoding
        self._headers = headers
        self._properties = properties
        self.context = context

    cdef inline int locate(self) except -1:
        """Find what the raw properties hold, once."""
        if self._rest_at == 0 and self._raw is not None:
            read_content(self)
        return 0

    cdef object get_content_type(self):
        self.locate()
        return self._content_type

    cdef object get_content_encoding(self):
        self.locate()
        return self._content_encoding

    cdef dict get_headers(self):
        if self._headers is None:
            self.locate()
            self._headers = {} if self._raw is None else read_headers(self)
        return self._headers

    cdef dict get_properties(self):
        if self._properties is None:
            self.locate()
            self._properties = {} if self._raw is None else read_rest(self)
        return self._properties

    @property
    def body(self):
        return self._body

    @property
    def content_type(self):
        return self.get_content_type()

    @property
    def content_encoding(self):
        return self.get_content_encoding()

    @property
    def headers(self):
        return self.get_headers()

    @property
    def properties(self):
        return self.get_properties()

    @property
    def delivery_count(self):
        """What the transport said, else what a quorum queue wrote into the headers."""
        if self._delivery_count is None and self._raw is not None:
            return self.header("x-delivery-count")
        return self._delivery_count

    @delivery_count.setter
    def delivery_count(self, value):
        self._delivery_count = value

    cdef bint may_have(self, bytes name) except -1:
        """Whether a header of that name may be there, from a look at the bytes as they came."""
        if self._headers is not None or self._raw is None:
            return name.decode("ascii") in self.get_headers()
        return memmem(
            PyBytes_AS_STRING(self._raw),
            PyBytes_GET_SIZE(self._raw),
            PyBytes_AS_STRING(name),
            PyBytes_GET_SIZE(name),
        ) != NULL

    def header(self, name, default=None):
        """One header; the default also when the headers cannot be read (``headers`` then says why)."""
        try:
            return self.get_headers().get(name, default)
        except DecodeError:
            return default

    def to_message(self):
        """The same message, to be published again. Changes made to ``headers`` here are not taken along; an
        expiration that is no number of milliseconds is left out: the copy then does not expire."""
        cdef Message message = Message.__new__(Message)
        cdef dict properties = self.get_properties()
        message.body = self._body
        message.exchange = self.exchange
        message.routing_key = self.routing_key
        message.content_type = self.get_content_type()
        message.content_encoding = self.get_content_encoding()
        if self._raw is None:
            message._headers = dict(self._headers) if self._headers else None
        elif self._flags & FLAG_HEADERS:
            message._raw_headers = self._raw[self._headers_at:self._rest_at]
        message.delivery_mode = properties.get("delivery_mode")
        message.priority = properties.get("priority")
        message.correlation_id = properties.get("correlation_id")
        message.reply_to = properties.get("reply_to")
        message.expiration_ms = expiration_as_ms(properties.get("expiration"))
        message.message_id = properties.get("message_id")
        message.timestamp = properties.get("timestamp")
        message.type = properties.get("type")
        message.user_id = properties.get("user_id")
        message.app_id = properties.get("app_id")
        message._cluster_id = properties.get("cluster_id")
        return message

    def __repr__(self):
        return (
            f"<Delivery tag={self.tag!r} queue={self.queue!r} exchange={self.exchange!r} "
            f"routing_key={self.routing_key!r} body={size_in_words(self._body)}>"
        )


cdef str size_in_words(object body):
    """For a repr, which never fails and never shows what is in a message."""
    return f"{len(body)} bytes" if isinstance(body, bytes) else type(body).__name__


cdef object expiration_as_ms(object expiration):
    try:
        return None if expiration is None else max(int(expiration), 0)
    except (TypeError, ValueError, OverflowError):
        return None


cdef class Method:
    """A method frame that carries no content; ``args`` in the order of the specification."""

    cdef readonly int channel
    cdef readonly int class_id
    cdef readonly int method_id
    cdef readonly tuple args

    def __init__(self, int channel, int class_id, int method_id, args=()):
        self.channel = channel
        self.class_id = class_id
        self.method_id = method_id
        self.args = tuple(args)

    def __eq__(self, other):
        cdef Method that
        if not isinstance(other, Method):
            return NotImplemented
        that = <Method>other
        return (self.channel, self.class_id, self.method_id, self.args) == (
            that.channel, that.class_id, that.method_id, that.args
        )

    __hash__ = None

    def __repr__(self):
        name = method_name(self.class_id, self.method_id)
        if self.class_id == 10 and (self.method_id < 40 or self.method_id == 70):  # some hold the password
            return f"<Method {name} channel={self.channel}>"
        return f"<Method {name} channel={self.channel} args={self.args!r}>"


cdef class Returned:
    """A basic.return with its content."""

    cdef readonly int channel
    cdef readonly int reply_code
    cdef readonly str reply_text
    cdef readonly str exchange
    cdef readonly str routing_key
    cdef readonly Message message

    def __init__(
        self,
        int channel,
        int reply_code,
        str reply_text not None,
        str exchange not None,
        str routing_key not None,
        Message message not None,
    ):
        self.channel = channel
        self.reply_code = reply_code
        self.reply_text = reply_text
        self.exchange = exchange
        self.routing_key = routing_key
        self.message = message

    def __repr__(self):
        return f"<Returned {self.reply_code} {self.reply_text!r} {self.message!r}>"


@cython.final
cdef class Heartbeat:
    """The peer is alive."""

    def __eq__(self, other):
        return isinstance(other, Heartbeat)

    def __hash__(self):
        return hash(Heartbeat)

    def __repr__(self):
        return "<Heartbeat>"


def take_without(ready, list taken not None, Py_ssize_t limit, bytes name not None):
    """Move deliveries from the left of ``ready`` to ``taken``, up to the first that may have a header of that
    name, or until ``taken`` holds ``limit`` (0: no limit). Headers are not decoded for it."""
    while ready and not (limit and len(taken) >= limit):
        if (<Delivery?>ready[0]).may_have(name):
            return
        taken.append(ready.popleft())
