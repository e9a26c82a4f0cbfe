# Frames going out (AMQP 0-9-1 section 4.2.3): type, channel, size, payload, end octet. All that one call
# writes stands in one buffer, so that it leaves in one write.

cdef enum:
    FRAME_METHOD = 1
    FRAME_HEADER = 2
    FRAME_BODY = 3
    FRAME_HEARTBEAT = 8
    FRAME_END = 0xCE
    FRAME_PREFIX = 7  # type, channel, size
    FRAME_OVERHEAD = 8  # and the end octet
    ACK_SIZE = 21  # a whole basic.ack or basic.nack frame

    CLASS_BASIC = 60
    BASIC_PUBLISH = 40
    BASIC_RETURN = 50
    BASIC_DELIVER = 60
    BASIC_GET_OK = 71
    BASIC_ACK = 80
    BASIC_NACK = 120

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"


def encode_method(channel, class_id, method_id, args=()):
    """A method frame. Every field of the specification is given, the reserved ones as 0 or "". Raises
    EncodeError, which names the fields."""
    cdef WriteBuffer buffer = WriteBuffer.__new__(WriteBuffer)
    cdef size_t start
    entry = method_entry(
        <unsigned int>checked_int(class_id, 0xFFFF, "class id"),
        <unsigned int>checked_int(method_id, 0xFFFF, "method id"),
    )
    if entry is None:
        raise EncodeError(f"there is no AMQP method {class_id}.{method_id} without content")
    start = begin_frame(buffer, FRAME_METHOD, checked_channel(channel))
    buffer.write_u16(class_id)
    buffer.write_u16(method_id)
    write_args(buffer, entry, args)
    end_frame(buffer, start)
    return buffer.as_bytes()


def encode_publish(messages, channel=1, frame_max=131072, mandatory=False):
    """Method, header and body frames of all messages in one buffer. Raises EncodeError, or MessageTooLarge
    for headers that fill more than a frame; then none is to be sent."""
    cdef WriteBuffer buffer = WriteBuffer.__new__(WriteBuffer)
    cdef uint16_t on_channel = checked_channel(channel)
    cdef size_t frame_limit = checked_int(frame_max, 0xFFFFFFFF, "frame_max") or 0xFFFFFFFF
    cdef bint is_mandatory = mandatory
    if frame_limit < 4096:
        raise EncodeError(f"frame_max is {frame_max}; AMQP's least is 4096")
    for message in messages:
        if not isinstance(message, Message):
            raise EncodeError(f"only a Message can be published, not a {type(message).__name__}")
        write_publish(buffer, <Message>message, on_channel, frame_limit, is_mandatory)
    return buffer.as_bytes()


def encode_acks(channel, acks):
    """basic.ack frames of (delivery tag, multiple)."""
    cdef WriteBuffer buffer = WriteBuffer.__new__(WriteBuffer)
    cdef uint16_t on_channel = checked_channel(channel)
    for tag, multiple in acks:
        write_settlement(buffer, on_channel, BASIC_ACK, tag, 1 if multiple else 0)
    return buffer.as_bytes()


def encode_nacks(channel, nacks):
    """basic.nack frames of (delivery tag, multiple, requeue)."""
    cdef WriteBuffer buffer = WriteBuffer.__new__(WriteBuffer)
    cdef uint16_t on_channel = checked_channel(channel)
    for tag, multiple, requeue in nacks:
        write_settlement(buffer, on_channel, BASIC_NACK, tag, (1 if multiple else 0) | (2 if requeue else 0))
    return buffer.as_bytes()


cdef uint16_t checked_channel(object channel) except? 0:
    return <uint16_t>checked_int(channel, 0xFFFF, "channel")


cdef inline size_t begin_frame(WriteBuffer buffer, uint8_t kind, uint16_t channel) except? 0:
    """A frame's prefix, its size left open; where the payload begins, for ``end_frame``."""
    cdef uint8_t* at = buffer.reserve(FRAME_PREFIX)
    at[0] = kind
    put_u16(at + 1, channel)
    put_u32(at + 3, 0)
    buffer.used += FRAME_PREFIX
    return buffer.used


cdef inline int end_frame(WriteBuffer buffer, size_t start) except -1:
    buffer.end_length(start)
    return buffer.write_u8(FRAME_END)


cdef int write_settlement(
    WriteBuffer buffer, uint16_t channel, uint16_t method_id, object tag, int bits
) except -1:
    cdef uint64_t delivery_tag = checked_int(tag, MAX_UINT64, "delivery tag")
    cdef uint8_t* at = buffer.reserve(ACK_SIZE)
    at[0] = FRAME_METHOD
    put_u16(at + 1, channel)
    put_u32(at + 3, ACK_SIZE - FRAME_OVERHEAD)
    put_u16(at + 7, CLASS_BASIC)
    put_u16(at + 9, method_id)
    put_u64(at + 11, delivery_tag)
    at[19] = <uint8_t>bits
    at[20] = FRAME_END
    buffer.used += ACK_SIZE
    return 0


cdef int write_publish(
    WriteBuffer buffer, Message message, uint16_t channel, size_t frame_limit, bint mandatory
) except -1:
    cdef size_t start
    if not isinstance(message.body, bytes):
        raise EncodeError(f"a message's body must be bytes, not {type(message.body).__name__}")
    start = begin_frame(buffer, FRAME_METHOD, channel)
    buffer.write_u16(CLASS_BASIC)
    buffer.write_u16(BASIC_PUBLISH)
    buffer.write_u16(0)
    write_short(buffer, message.exchange, "exchange")
    write_short(buffer, message.routing_key, "routing_key")
    buffer.write_u8(mandatory)
    end_frame(buffer, start)
    write_header(buffer, message, channel, frame_limit)
    return write_body(buffer, message.body, channel, frame_limit - FRAME_OVERHEAD)


cdef int write_header(WriteBuffer buffer, Message message, uint16_t channel, size_t frame_limit) except -1:
    cdef size_t size
    cdef size_t start = begin_frame(buffer, FRAME_HEADER, channel)
    buffer.write_u16(CLASS_BASIC)
    buffer.write_u16(0)
    buffer.write_u64(PyBytes_GET_SIZE(message.body))
    write_properties(buffer, message)
    size = buffer.used - start + FRAME_OVERHEAD
    if size > frame_limit:
        raise MessageTooLarge(
            f"the message's headers and properties take {size} bytes; one frame of this connection holds"
            f" {frame_limit}. Move what is large from the headers into the body"
        )
    return end_frame(buffer, start)


cdef int write_body(WriteBuffer buffer, object body, uint16_t channel, size_t share) except -1:
    """The body in frames of at most ``share`` bytes; none for an empty one."""
    cdef const char* source = PyBytes_AS_STRING(body)
    cdef size_t left = PyBytes_GET_SIZE(body)
    cdef size_t count, start
    buffer.reserve(left + (left // share + 1) * FRAME_OVERHEAD)
    while left:
        count = min(left, share)
        start = begin_frame(buffer, FRAME_BODY, channel)
        buffer.write_bytes(source, count)
        end_frame(buffer, start)
        source += count
        left -= count
    return 0
