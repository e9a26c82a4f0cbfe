# The message of kombu's virtual transports (W6), as the Redis transport keeps it in a list:
#   {"body": base64, "content-encoding", "content-type", "headers": {}, "properties": {correlation_id,
#    reply_to, delivery_mode, delivery_info: {exchange, routing_key}, priority, body_encoding: "base64",
#    delivery_tag}}
#
# Sources: kombu/transport/virtual/base.py (Channel.prepare_message, Message), kombu/transport/redis.py.
# Written by hand into bytes of the largest size it can have, then cut to what was used: escapes take at most
# six bytes for one, base64 four for three. redis_read.pxi reads it.

cdef const char* _HEX = b"0123456789abcdef"


@cython.final
@cython.internal
@cython.freelist(4)
cdef class _EnvelopeWriter:
    """A cursor in bytes that are surely large enough: `room` is reserved before anything is written."""

    cdef bytes target
    cdef char* at
    cdef char* end

    cdef int reserve(self, Py_ssize_t room) except -1:
        keep_warm(room)
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
        cdef const char* text
        if value is None:
            return self.raw(b"null", 4)
        text = PyUnicode_AsUTF8AndSize(value, &size)
        return self.text(text, size)

    cdef int text(self, const char* text, Py_ssize_t size) except -1:
        """A JSON string out of UTF-8."""
        cdef Py_ssize_t index
        cdef uint8_t byte
        cdef char* at
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

    cdef int table(self, bytes table) except -1:
        """A JSON object out of a field table of ASCII strings and booleans, which most tasks' headers are;
        0 when there is something else in it: then nothing is written."""
        cdef char* begin = self.at
        cdef Cursor cursor
        cdef const uint8_t* text
        cdef size_t size
        cdef uint8_t kind
        cursor.at = <const uint8_t*> PyBytes_AS_STRING(table) + 4
        cursor.end = cursor.at + PyBytes_GET_SIZE(table) - 4
        self.raw(b"{", 1)
        while cursor.at < cursor.end:
            size = read_u8(&cursor)
            text = read_span(&cursor, size)
            kind = read_u8(&cursor)
            if not _is_ascii(text, size) or (kind != c'S' and kind != c't'):
                self.at = begin
                return 0
            self.text(<const char*> text, <Py_ssize_t> size)
            self.raw(b":", 1)
            if kind == c't':
                self.literal(b"true," if read_u8(&cursor) else b"false,")
                continue
            size = read_u32(&cursor)
            text = read_span(&cursor, size)
            if not _is_ascii(text, size):
                self.at = begin
                return 0
            self.text(<const char*> text, <Py_ssize_t> size)
            self.raw(b",", 1)
        if self.at - begin > 1:
            self.at -= 1  # the last comma
        self.raw(b"}", 1)
        return 1

    cdef int base64(self, const uint8_t* data, Py_ssize_t size) except -1:
        if self.end - self.at < 4 * ((size + 2) // 3):
            raise EncodeError("the envelope grew while it was written")
        self.at = _put_base64(self.at, data, size)
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
        cdef int64_t number
        if value is None:
            return 0
        self.literal(key)
        number = value
        if 0 <= number <= 9:
            self.at[0] = c'0' + <char> number
            self.at += 1
        else:
            self.literal(b"%d" % number)
        return self.raw(b",", 1)

    cdef bytes taken(self, Py_ssize_t start):
        """What was written from there on; the writer is of no use after that."""
        cdef char* begin = PyBytes_AS_STRING(self.target) + start
        cdef Py_ssize_t size = self.at - begin
        cdef PyObject* whole
        if size < LARGE_BLOCK:
            return begin[:size]
        memmove(PyBytes_AS_STRING(self.target), begin, size)  # cheaper than pages that nobody has used yet
        whole = <PyObject*> self.target
        Py_INCREF(self.target)
        self.target = None
        _PyBytes_Resize(&whole, size)
        taken = <object> whole
        Py_XDECREF(whole)
        return taken


cdef inline bint _is_ascii(const uint8_t* text, size_t size) noexcept:
    cdef size_t index
    cdef uint8_t all_bits = 0
    for index in range(size):
        all_bits |= text[index]
    return all_bits < 0x80


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


cdef Py_ssize_t _envelope_room(Message message, str tag, str expiration) except -1:
    """Without the headers."""
    cdef Py_ssize_t room = 512  # every literal and number below, with much to spare
    room += 4 * ((PyBytes_GET_SIZE(message.body) + 2) // 3)
    room += _text_room(tag) + _text_room(expiration)
    room += _text_room(message.content_type) + _text_room(message.content_encoding)
    room += _text_room(message.exchange) + _text_room(message.routing_key)
    room += _text_room(message.correlation_id) + _text_room(message.reply_to)
    room += _text_room(message.message_id) + _text_room(message.type)
    room += _text_room(message.user_id) + _text_room(message.app_id)
    return room


cdef bytes _header_text(Message message):
    """Any headers as JSON. Raises EncodeError."""
    cdef object headers = message.get_headers()
    if headers is None:
        return b"{}"
    if not isinstance(headers, dict):
        raise EncodeError(f"message headers are a dict, not {type(headers).__name__}")
    return json_encode(headers)


cdef int _write_envelope(_EnvelopeWriter writer, Message message, str tag, Py_ssize_t gap) except -1:
    """The envelope, behind a gap of so many bytes. Raises EncodeError."""
    cdef bytes table = message._raw_headers
    cdef bytes header_text = None
    cdef str expiration = None if message.expiration_ms is None else str(message.expiration_ms)
    cdef Py_ssize_t room
    if not PyBytes_CheckExact(message.body):
        raise EncodeError(f"a message body is bytes, not {type(message.body).__name__}")
    _small_number("priority", message.priority)
    _small_number("delivery_mode", message.delivery_mode)
    _small_number("timestamp", message.timestamp)
    room = gap + _envelope_room(message, tag, expiration)
    if table is None:
        header_text = _header_text(message)
        room += PyBytes_GET_SIZE(header_text)
    else:
        room += 6 * PyBytes_GET_SIZE(table)
    writer.reserve(room)
    writer.at += gap
    writer.literal(b'{"body":"')
    writer.base64(<const uint8_t*> PyBytes_AS_STRING(message.body), PyBytes_GET_SIZE(message.body))
    writer.literal(b'","content-encoding":')
    writer.string(message.content_encoding)
    writer.literal(b',"content-type":')
    writer.string(message.content_type)
    writer.literal(b',"headers":')
    if header_text is not None:
        writer.literal(header_text)
    elif not writer.table(table):
        return _write_rest_anew(writer, message, tag, gap)
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
    writer.string(tag)
    writer.literal(b'}}')
    return 0


cdef int _write_rest_anew(_EnvelopeWriter writer, Message message, str tag, Py_ssize_t gap) except -1:
    """The headers hold more than strings and flags: read them, and begin again."""
    message.get_headers()  # from now on they are a dict
    return _write_envelope(writer, message, tag, gap)


cpdef bytes encode_envelope(Message message, str delivery_tag):
    """kombu's virtual-transport message as JSON: body as base64, priority None as 0.

    Raises EncodeError for a body that is not bytes, a property of the wrong type, and headers that JSON has
    no form for.
    """
    cdef _EnvelopeWriter writer = _EnvelopeWriter.__new__(_EnvelopeWriter)
    _write_envelope(writer, message, delivery_tag, 0)
    return writer.taken(0)
