# The message of kombu's virtual transports (W6), as the Redis transport keeps it in a list:
#   {"body": base64, "content-encoding", "content-type", "headers": {}, "properties": {correlation_id,
#    reply_to, delivery_mode, delivery_info: {exchange, routing_key}, priority, body_encoding: "base64",
#    delivery_tag}}
#
# Sources: kombu/transport/virtual/base.py (Channel.prepare_message, Message), kombu/transport/redis.py.
# Written by hand into bytes of the largest size it can have, then cut to what was used: escapes take at most
# six bytes for one, base64 four for three. Read through `json_decode`, every type checked.

cdef const char* _BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
cdef const char* _HEX = b"0123456789abcdef"

cdef uint8_t[256] _sextet  # a base64 character's value; 255: not one
memset(_sextet, 255, 256)
for _digit in range(64):
    _sextet[<uint8_t> _BASE64[_digit]] = _digit


# ------------------------------------------------------------------------------------------------- writing


cdef class _EnvelopeWriter:
    """A cursor in bytes that are surely large enough: `room` is reserved before anything is written."""

    cdef bytes target
    cdef char* at
    cdef char* end

    cdef int reserve(self, Py_ssize_t room) except -1:
        self.target = PyBytes_FromStringAndSize(NULL, room)
        self.at = PyBytes_AS_STRING(self.target)
        self.end = self.at + room
        return 0

    cdef int raw(self, const char* text, Py_ssize_t size) except -1:
        if self.end - self.at < size:
            raise EncodeError("the envelope grew while it was written")
        memcpy(self.at, text, size)
        self.at += size
        return 0

    cdef int literal(self, bytes text) except -1:
        return self.raw(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))

    cdef int string(self, object value) except -1:
        """A JSON string or null."""
        cdef Py_ssize_t size = 0
        cdef Py_ssize_t index
        cdef const char* text
        cdef uint8_t byte
        cdef char* at
        if value is None:
            return self.raw(b"null", 4)
        text = PyUnicode_AsUTF8AndSize(value, &size)
        if self.end - self.at < 6 * size + 2:
            raise EncodeError("the envelope grew while it was written")
        at = self.at
        at[0] = c'"'
        at += 1
        for index in range(size):
            byte = <uint8_t> text[index]
            if byte >= 0x20 and byte != c'"' and byte != c'\\':
                at[0] = <char> byte
                at += 1
            elif byte >= 0x20:
                at[0] = c'\\'
                at[1] = <char> byte
                at += 2
            else:
                memcpy(at, b"\\u00", 4)
                at[4] = _HEX[byte >> 4]
                at[5] = _HEX[byte & 15]
                at += 6
        at[0] = c'"'
        self.at = at + 1
        return 0

    cdef int base64(self, const uint8_t* data, Py_ssize_t size) except -1:
        cdef char* at = self.at
        cdef uint32_t group
        if self.end - at < 4 * ((size + 2) // 3):
            raise EncodeError("the envelope grew while it was written")
        while size >= 3:
            group = (<uint32_t> data[0] << 16) | (<uint32_t> data[1] << 8) | data[2]
            at[0] = _BASE64[group >> 18]
            at[1] = _BASE64[(group >> 12) & 63]
            at[2] = _BASE64[(group >> 6) & 63]
            at[3] = _BASE64[group & 63]
            at += 4
            data += 3
            size -= 3
        if size:
            group = <uint32_t> data[0] << 16
            if size == 2:
                group |= <uint32_t> data[1] << 8
            at[0] = _BASE64[group >> 18]
            at[1] = _BASE64[(group >> 12) & 63]
            at[2] = _BASE64[(group >> 6) & 63] if size == 2 else c'='
            at[3] = c'='
            at += 4
        self.at = at
        return 0

    cdef int property(self, bytes key, object value) except -1:
        """`"key": "value", ` of a property that is set."""
        if value is None:
            return 0
        self.literal(key)
        self.string(value)
        return self.raw(b",", 1)

    cdef int number(self, bytes key, object value) except -1:
        """`"key": 123, `."""
        if value is None:
            return 0
        cdef bytes digits = b"%d" % value
        self.literal(key)
        self.literal(digits)
        return self.raw(b",", 1)

    cdef bytes taken(self):
        return self.target[:self.at - PyBytes_AS_STRING(self.target)]


cdef Py_ssize_t _text_room(object value) except -1:
    """The most bytes a string takes once escaped."""
    cdef Py_ssize_t size = 0
    if value is None:
        return 4
    if not isinstance(value, str):
        raise EncodeError(f"a text property of the message is a {type(value).__name__}, not a string")
    if PyUnicode_IS_COMPACT_ASCII(value):
        return 6 * PyUnicode_GET_LENGTH(value) + 2
    try:
        PyUnicode_AsUTF8AndSize(value, &size)  # cached in the string: the writer asks again for free
    except UnicodeEncodeError:
        raise EncodeError("a text property of the message has a lone surrogate") from None
    return 6 * size + 2


cdef int _small_number(str name, object value) except -1:
    if value is not None and not (PyLong_CheckExact(value) and -(1 << 63) <= value < 1 << 63):
        raise EncodeError(f"the message's {name} is {value!r}, not an integer")
    return 0


cdef Py_ssize_t _envelope_room(Message message, str tag, str expiration, bytes headers) except -1:
    cdef Py_ssize_t room = 512  # every literal and number below, with much to spare
    room += PyBytes_GET_SIZE(headers) + 4 * ((PyBytes_GET_SIZE(message.body) + 2) // 3)
    for text in (
        tag, expiration, message.content_type, message.content_encoding, message.exchange,
        message.routing_key, message.correlation_id, message.reply_to, message.message_id, message.type,
        message.user_id, message.app_id,
    ):
        room += _text_room(text)
    return room


cpdef bytes encode_envelope(Message message, str delivery_tag):
    """kombu's virtual-transport message as JSON: body as base64, priority None as 0.

    Raises EncodeError for a body that is not bytes, a property of the wrong type, and headers that JSON has
    no form for.
    """
    cdef _EnvelopeWriter writer = _EnvelopeWriter.__new__(_EnvelopeWriter)
    cdef object headers = message.headers
    cdef bytes header_text = b"{}"
    cdef str expiration = None if message.expiration_ms is None else str(message.expiration_ms)
    if not PyBytes_CheckExact(message.body):
        raise EncodeError(f"a message body is bytes, not {type(message.body).__name__}")
    if headers is not None:
        if not isinstance(headers, dict):
            raise EncodeError(f"message headers are a dict, not {type(headers).__name__}")
        header_text = json_encode(headers)
    _small_number("priority", message.priority)
    _small_number("delivery_mode", message.delivery_mode)
    _small_number("timestamp", message.timestamp)
    writer.reserve(_envelope_room(message, delivery_tag, expiration, header_text))
    writer.literal(b'{"body":"')
    writer.base64(<const uint8_t*> PyBytes_AS_STRING(message.body), PyBytes_GET_SIZE(message.body))
    writer.literal(b'","content-encoding":')
    writer.string(message.content_encoding)
    writer.literal(b',"content-type":')
    writer.string(message.content_type)
    writer.literal(b',"headers":')
    writer.literal(header_text)
    writer.literal(b',"properties":{')
    writer.property(b'"correlation_id":', message.correlation_id)
    writer.property(b'"reply_to":', message.reply_to)
    writer.number(b'"delivery_mode":', message.delivery_mode)
    writer.property(b'"expiration":', expiration)
    writer.property(b'"message_id":', message.message_id)
    writer.number(b'"timestamp":', message.timestamp)
    writer.property(b'"type":', message.type)
    writer.property(b'"user_id":', message.user_id)
    writer.property(b'"app_id":', message.app_id)
    writer.literal(b'"delivery_info":{"exchange":')
    writer.string(message.exchange)
    writer.literal(b',"routing_key":')
    writer.string(message.routing_key)
    writer.literal(b'},')
    writer.number(b'"priority":', 0 if message.priority is None else message.priority)
    writer.literal(b'"body_encoding":"base64","delivery_tag":')
    writer.string(delivery_tag)
    writer.literal(b'}}')
    return writer.taken()


# ------------------------------------------------------------------------------------------------- reading


cdef bytes _decoded_base64(const uint8_t* text, Py_ssize_t size):
    """Strict RFC 4648 section 4, padding included."""
    cdef Py_ssize_t padding = 0
    cdef Py_ssize_t index
    cdef uint8_t a, b, c, d
    cdef uint8_t* at
    cdef bytes data
    if size % 4:
        raise DecodeError("envelope: the body is not base64 (its length is no multiple of four)")
    while padding < 2 and padding < size and text[size - 1 - padding] == c'=':
        padding += 1
    data = PyBytes_FromStringAndSize(NULL, size // 4 * 3 - padding)
    at = <uint8_t*> PyBytes_AS_STRING(data)
    for index in range(0, size - 4 if padding else size, 4):
        a = _sextet[text[index]]
        b = _sextet[text[index + 1]]
        c = _sextet[text[index + 2]]
        d = _sextet[text[index + 3]]
        if (a | b | c | d) & 0xC0:
            raise DecodeError("envelope: the body is not base64")
        at[0] = <uint8_t> (a << 2 | b >> 4)
        at[1] = <uint8_t> (b << 4 | c >> 2)
        at[2] = <uint8_t> (c << 6 | d)
        at += 3
    if padding:
        a = _sextet[text[size - 4]]
        b = _sextet[text[size - 3]]
        c = 0 if padding == 2 else _sextet[text[size - 2]]
        if (a | b | c) & 0xC0:
            raise DecodeError("envelope: the body is not base64")
        at[0] = <uint8_t> (a << 2 | b >> 4)
        if padding == 1:
            at[1] = <uint8_t> (b << 4 | c >> 2)
    return data


cdef object _envelope_wrong(str name, object value, str wanted):
    return DecodeError(f"envelope: {name} is a {type(value).__name__}, not {wanted}")


cdef object _optional_str(dict source, str name):
    cdef object value = source.get(name)
    if value is None or PyUnicode_CheckExact(value):
        return value
    raise _envelope_wrong(name, value, "a string")


cdef object _optional_dict(dict source, str name):
    cdef object value = source.get(name)
    if value is None or PyDict_CheckExact(value):
        return value
    raise _envelope_wrong(name, value, "an object")


cdef bytes _envelope_body(dict envelope, dict properties):
    cdef object body = envelope.get("body")
    cdef object encoding = _optional_str(properties, "body_encoding")
    cdef Py_ssize_t size = 0
    cdef const char* text
    if body is None:
        return b""
    if not PyUnicode_CheckExact(body):
        raise _envelope_wrong("body", body, "a string")
    if encoding is None or encoding == "" or encoding.lower() == "utf-8":
        try:
            return (<str> body).encode("utf-8")
        except UnicodeEncodeError:
            raise DecodeError("envelope: the body has a lone surrogate") from None
    if encoding != "base64":
        raise DecodeError(f"envelope: unknown body_encoding {encoding[:40]!r}")
    if not PyUnicode_IS_COMPACT_ASCII(body):
        raise DecodeError("envelope: the body is not base64")
    text = PyUnicode_AsUTF8AndSize(body, &size)
    return _decoded_base64(<const uint8_t*> text, size)


# Properties that are strings; those that are integers. Others are the publisher's own and stay as they are.
cdef frozenset _TEXT_PROPERTIES = frozenset((
    "correlation_id", "reply_to", "expiration", "message_id", "type", "user_id", "app_id", "cluster_id",
))
cdef frozenset _NUMBER_PROPERTIES = frozenset(("delivery_mode", "priority", "timestamp"))
cdef frozenset _OWN_PROPERTIES = frozenset(("body_encoding", "delivery_info", "delivery_tag"))


cdef dict _basic_properties(dict properties):
    cdef dict basic = {}
    for name, value in properties.items():
        if value is None or name in _OWN_PROPERTIES:
            continue
        if name in _TEXT_PROPERTIES:
            if name == "expiration" and PyLong_CheckExact(value):
                value = str(value)
            if not PyUnicode_CheckExact(value):
                raise _envelope_wrong(name, value, "a string")
        elif name in _NUMBER_PROPERTIES and not PyLong_CheckExact(value):
            raise _envelope_wrong(name, value, "an integer")
        basic[name] = value
    return basic


cpdef Delivery decode_envelope(object data):
    """A Delivery from an envelope; a missing delivery_info gives an empty exchange and routing key.

    Raises DecodeError when it is bad JSON, lacks its delivery tag, or anything in it has the wrong type.
    """
    cdef object envelope = json_decode(data)
    cdef object properties
    cdef object info
    cdef object headers
    cdef object tag
    cdef Delivery delivery = Delivery.__new__(Delivery)
    if not PyDict_CheckExact(envelope):
        raise DecodeError("envelope: not a JSON object")
    properties = _optional_dict(envelope, "properties")
    if properties is None:
        raise DecodeError("envelope: it has no properties")
    tag = _optional_str(properties, "delivery_tag")
    if tag is None:
        raise DecodeError("envelope: it has no delivery_tag")
    info = _optional_dict(properties, "delivery_info") or {}
    headers = _optional_dict(envelope, "headers") or {}
    delivery._body = _envelope_body(envelope, properties)
    delivery.tag = tag
    delivery.epoch = 0
    delivery.queue = ""
    delivery.consumer_tag = ""
    delivery.exchange = _optional_str(info, "exchange") or ""
    delivery.routing_key = _optional_str(info, "routing_key") or ""
    delivery.redelivered = bool(info.get("redelivered")) or headers.get("redelivered") is True
    delivery._content_type = _optional_str(envelope, "content-type")
    delivery._content_encoding = _optional_str(envelope, "content-encoding")
    delivery._headers = headers
    delivery._properties = _basic_properties(properties)
    return delivery
