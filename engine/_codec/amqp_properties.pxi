# Basic properties (AMQP 0-9-1 section 4.2.6.1 and class basic): 16 flag bits, then what they announce, in
# this order. Reading is lazy and in three steps, each done once: where things are together with the content
# type and encoding; the headers; the rest.

cdef enum:
    FLAG_CONTENT_TYPE = 0x8000
    FLAG_CONTENT_ENCODING = 0x4000
    FLAG_HEADERS = 0x2000
    FLAG_DELIVERY_MODE = 0x1000
    FLAG_PRIORITY = 0x0800
    FLAG_CORRELATION_ID = 0x0400
    FLAG_REPLY_TO = 0x0200
    FLAG_EXPIRATION = 0x0100
    FLAG_MESSAGE_ID = 0x0080
    FLAG_TIMESTAMP = 0x0040
    FLAG_TYPE = 0x0020
    FLAG_USER_ID = 0x0010
    FLAG_APP_ID = 0x0008
    FLAG_CLUSTER_ID = 0x0004
    FLAGS_UNDEFINED = 0x0003


# ---------------------------------------------------------------------------------------------- reading

cdef inline int raw_cursor(bytes raw, Py_ssize_t start, Cursor* cursor) except -1:
    cursor.at = <const uint8_t*>PyBytes_AS_STRING(raw) + start
    cursor.end = <const uint8_t*>PyBytes_AS_STRING(raw) + PyBytes_GET_SIZE(raw)
    return 0


cdef int read_content(Delivery delivery) except -1:
    """Content type and encoding, and where the headers and the rest begin."""
    cdef Cursor cursor
    cdef uint16_t flags
    raw_cursor(delivery._raw, 0, &cursor)
    flags = read_u16(&cursor)
    if flags & FLAGS_UNDEFINED:
        raise DecodeError(f"a message has undefined property flags: {flags:#06x}")
    content_type = read_short_name(&cursor) if flags & FLAG_CONTENT_TYPE else None
    content_encoding = read_short_name(&cursor) if flags & FLAG_CONTENT_ENCODING else None
    headers_at = cursor.at - <const uint8_t*>PyBytes_AS_STRING(delivery._raw)
    if flags & FLAG_HEADERS:
        read_span(&cursor, read_u32(&cursor))
    delivery._content_type = content_type
    delivery._content_encoding = content_encoding
    delivery._flags = flags
    delivery._headers_at = headers_at
    delivery._rest_at = cursor.at - <const uint8_t*>PyBytes_AS_STRING(delivery._raw)
    return 0


cdef dict read_headers(Delivery delivery):
    cdef Cursor cursor
    if not delivery._flags & FLAG_HEADERS:
        return {}
    raw_cursor(delivery._raw, delivery._headers_at, &cursor)
    return read_table(&cursor, 1)


cdef int read_origin(Delivery delivery, TaskMessage message) except -1:
    """Of the properties behind the headers those that a task message has."""
    cdef Cursor cursor
    cdef uint16_t flags = delivery._flags
    raw_cursor(delivery._raw, delivery._rest_at, &cursor)
    read_span(&cursor, bool(flags & FLAG_DELIVERY_MODE) + bool(flags & FLAG_PRIORITY))
    if flags & FLAG_CORRELATION_ID:
        message.correlation_id = read_short_text(&cursor)
    if flags & FLAG_REPLY_TO:
        message.reply_to = read_short_name(&cursor) or None
    return 0


cdef dict read_rest(Delivery delivery):
    """The properties behind the headers, those that are present."""
    cdef Cursor cursor
    cdef uint16_t flags = delivery._flags
    cdef dict found = {}
    raw_cursor(delivery._raw, delivery._rest_at, &cursor)
    if flags & FLAG_DELIVERY_MODE:
        found["delivery_mode"] = read_u8(&cursor)
    if flags & FLAG_PRIORITY:
        found["priority"] = read_u8(&cursor)
    if flags & FLAG_CORRELATION_ID:
        found["correlation_id"] = read_short_text(&cursor)
    if flags & FLAG_REPLY_TO:
        found["reply_to"] = read_short_name(&cursor)
    if flags & FLAG_EXPIRATION:
        found["expiration"] = read_short_text(&cursor)
    if flags & FLAG_MESSAGE_ID:
        found["message_id"] = read_short_text(&cursor)
    if flags & FLAG_TIMESTAMP:
        found["timestamp"] = read_u64(&cursor)
    if flags & FLAG_TYPE:
        found["type"] = read_short_name(&cursor)
    if flags & FLAG_USER_ID:
        found["user_id"] = read_short_name(&cursor)
    if flags & FLAG_APP_ID:
        found["app_id"] = read_short_name(&cursor)
    if flags & FLAG_CLUSTER_ID:
        found["cluster_id"] = read_short_name(&cursor)
    if cursor.at != cursor.end:
        raise DecodeError(f"{cursor_left(&cursor)} bytes follow the last of a message's properties")
    return found


# ---------------------------------------------------------------------------------------------- writing

cdef int write_properties(WriteBuffer buffer, Message message) except -1:
    cdef size_t flags_at = buffer.used
    cdef uint16_t flags = 0
    buffer.write_u16(0)
    if message.content_type is not None:
        flags |= FLAG_CONTENT_TYPE
        write_short(buffer, message.content_type, "content_type")
    if message.content_encoding is not None:
        flags |= FLAG_CONTENT_ENCODING
        write_short(buffer, message.content_encoding, "content_encoding")
    if message._raw_headers is not None:
        flags |= FLAG_HEADERS
        buffer.write_bytes(PyBytes_AS_STRING(message._raw_headers), PyBytes_GET_SIZE(message._raw_headers))
    elif message._headers is not None:
        flags |= FLAG_HEADERS
        write_table(buffer, message._headers, 1)
    if message.delivery_mode is not None:
        flags |= FLAG_DELIVERY_MODE
        buffer.write_u8(<uint8_t>checked_int(message.delivery_mode, 0xFF, "delivery_mode"))
    if message.priority is not None:
        flags |= FLAG_PRIORITY
        buffer.write_u8(<uint8_t>checked_int(message.priority, 0xFF, "priority"))
    flags |= write_rest(buffer, message)
    put_u16(buffer.data + flags_at, flags)
    return 0


cdef int write_rest(WriteBuffer buffer, Message message) except -1:
    """What most messages lack; the flags of what was written."""
    cdef int flags = 0
    if message.correlation_id is not None:
        flags |= FLAG_CORRELATION_ID
        write_short(buffer, message.correlation_id, "correlation_id")
    if message.reply_to is not None:
        flags |= FLAG_REPLY_TO
        write_short(buffer, message.reply_to, "reply_to")
    if message.expiration_ms is not None:
        flags |= FLAG_EXPIRATION
        write_short(buffer, str(checked_int(message.expiration_ms, MAX_INT64, "expiration_ms")), "expiration")
    if message.message_id is not None:
        flags |= FLAG_MESSAGE_ID
        write_short(buffer, message.message_id, "message_id")
    if message.timestamp is not None:
        flags |= FLAG_TIMESTAMP
        buffer.write_u64(checked_int(message.timestamp, MAX_UINT64, "timestamp"))
    if message.type is not None:
        flags |= FLAG_TYPE
        write_short(buffer, message.type, "type")
    if message.user_id is not None:
        flags |= FLAG_USER_ID
        write_short(buffer, message.user_id, "user_id")
    if message.app_id is not None:
        flags |= FLAG_APP_ID
        write_short(buffer, message.app_id, "app_id")
    if message._cluster_id is not None:
        flags |= FLAG_CLUSTER_ID
        write_short(buffer, message._cluster_id, "cluster_id")
    return flags


cdef inline int write_short(WriteBuffer buffer, object text, str what) except -1:
    if not isinstance(text, str):
        raise EncodeError(f"{what} must be a str, not {type(text).__name__}")
    return buffer.write_text(text, 1, what)


cdef uint64_t MAX_INT64 = 0x7FFFFFFFFFFFFFFF
cdef uint64_t MAX_UINT64 = 0xFFFFFFFFFFFFFFFF


cdef uint64_t checked_int(object value, uint64_t maximum, str what) except? 0:
    """An int from 0 to ``maximum``, or EncodeError."""
    cdef uint64_t number
    if not isinstance(value, int):
        raise EncodeError(f"{what} must be an int, not {type(value).__name__}")
    try:
        number = value
    except OverflowError:
        raise EncodeError(f"{what} must lie between 0 and {maximum}, not {value}") from None
    if number > maximum:
        raise EncodeError(f"{what} must lie between 0 and {maximum}, not {value}")
    return number
