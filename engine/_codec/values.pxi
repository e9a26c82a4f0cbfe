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

    @property
    def headers(self):
        return self._headers

    @headers.setter
    def headers(self, value):
        self._headers = value

    cdef tuple _state(self):
        return (
            self.body, self.content_type, self.content_encoding, self.headers, self.exchange,
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
            f"content_type={self.content_type!r} body={len(self.body)} bytes>"
        )

    def __reduce__(self):
        return _message_from_state, self._state()


def _message_from_state(*state):
    cdef Message message = Message.__new__(Message)
    (
        message.body, message.content_type, message.content_encoding, message._headers, message.exchange,
        message.routing_key, message.delivery_mode, message.priority, message.correlation_id, message.reply_to,
        message.expiration_ms, message.message_id, message.timestamp, message.type, message.user_id,
        message.app_id, message.due_at, message._cluster_id,
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

    def __init__(
        self,
        bytes body=b"",
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

    cdef object get_content_type(self):
        return self._content_type

    cdef object get_content_encoding(self):
        return self._content_encoding

    cdef dict get_headers(self):
        if self._headers is None:
            self._headers = {}
        return self._headers

    cdef dict get_properties(self):
        if self._properties is None:
            self._properties = {}
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
        return self._delivery_count

    @delivery_count.setter
    def delivery_count(self, value):
        self._delivery_count = value

    def header(self, name, default=None):
        return self.get_headers().get(name, default)
