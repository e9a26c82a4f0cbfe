# The methods of AMQP 0-9-1 with RabbitMQ's extensions, both directions: their fields in the order of the
# specification, and how each is written. https://www.rabbitmq.com/amqp-0-9-1-reference
#
# Letters: b bit (neighbours share an octet), o octet, B short, l long, L longlong, s short string, S long
# string, F table. Fields that the specification reserves are given too, as 0 or "".

cdef str METHOD_TABLE = """
10 10  connection.start o:version_major o:version_minor F:server_properties S:mechanisms S:locales
10 11  connection.start-ok F:client_properties s:mechanism S:response s:locale
10 20  connection.secure S:challenge
10 21  connection.secure-ok S:response
10 30  connection.tune B:channel_max l:frame_max B:heartbeat
10 31  connection.tune-ok B:channel_max l:frame_max B:heartbeat
10 40  connection.open s:virtual_host s:reserved_1 b:reserved_2
10 41  connection.open-ok s:reserved_1
10 50  connection.close B:reply_code s:reply_text B:class_id B:method_id
10 51  connection.close-ok
10 60  connection.blocked s:reason
10 61  connection.unblocked
10 70  connection.update-secret S:new_secret s:reason
10 71  connection.update-secret-ok
20 10  channel.open s:reserved_1
20 11  channel.open-ok S:reserved_1
20 20  channel.flow b:active
20 21  channel.flow-ok b:active
20 40  channel.close B:reply_code s:reply_text B:class_id B:method_id
20 41  channel.close-ok
40 10  exchange.declare B:reserved_1 s:exchange s:type b:passive b:durable b:auto_delete b:internal b:no_wait
    F:arguments
40 11  exchange.declare-ok
40 20  exchange.delete B:reserved_1 s:exchange b:if_unused b:no_wait
40 21  exchange.delete-ok
40 30  exchange.bind B:reserved_1 s:destination s:source s:routing_key b:no_wait F:arguments
40 31  exchange.bind-ok
40 40  exchange.unbind B:reserved_1 s:destination s:source s:routing_key b:no_wait F:arguments
40 51  exchange.unbind-ok
50 10  queue.declare B:reserved_1 s:queue b:passive b:durable b:exclusive b:auto_delete b:no_wait F:arguments
50 11  queue.declare-ok s:queue l:message_count l:consumer_count
50 20  queue.bind B:reserved_1 s:queue s:exchange s:routing_key b:no_wait F:arguments
50 21  queue.bind-ok
50 30  queue.purge B:reserved_1 s:queue b:no_wait
50 31  queue.purge-ok l:message_count
50 40  queue.delete B:reserved_1 s:queue b:if_unused b:if_empty b:no_wait
50 41  queue.delete-ok l:message_count
50 50  queue.unbind B:reserved_1 s:queue s:exchange s:routing_key F:arguments
50 51  queue.unbind-ok
60 10  basic.qos l:prefetch_size B:prefetch_count b:global
60 11  basic.qos-ok
60 20  basic.consume B:reserved_1 s:queue s:consumer_tag b:no_local b:no_ack b:exclusive b:no_wait F:arguments
60 21  basic.consume-ok s:consumer_tag
60 30  basic.cancel s:consumer_tag b:no_wait
60 31  basic.cancel-ok s:consumer_tag
60 70  basic.get B:reserved_1 s:queue b:no_ack
60 72  basic.get-empty s:reserved_1
60 80  basic.ack L:delivery_tag b:multiple
60 90  basic.reject L:delivery_tag b:requeue
60 100 basic.recover-async b:requeue
60 110 basic.recover b:requeue
60 111 basic.recover-ok
60 120 basic.nack L:delivery_tag b:multiple b:requeue
85 10  confirm.select b:no_wait
85 11  confirm.select-ok
"""

cdef dict METHODS = {}  # class id << 16 | method id -> (name, letters as bytes, field names)


cdef int load_methods() except -1:
    for line in METHOD_TABLE.replace("\n   ", "").strip().splitlines():
        class_id, method_id, name, *fields = line.split()
        pairs = [field.split(":") for field in fields]
        letters = "".join(letter for letter, _ in pairs).encode()
        METHODS[int(class_id) << 16 | int(method_id)] = (name, letters, tuple(field for _, field in pairs))
    return 0


load_methods()


cdef tuple method_entry(unsigned int class_id, unsigned int method_id):
    """(name, letters, field names), or None: a method that does not exist, or one with content."""
    return METHODS.get(class_id << 16 | method_id)


cdef str method_name(unsigned int class_id, unsigned int method_id):
    entry = method_entry(class_id, method_id)
    return f"{class_id}.{method_id}" if entry is None else entry[0]


# ---------------------------------------------------------------------------------------------- reading

cdef tuple read_args(Cursor* cursor, bytes letters):
    """A method's fields, as many as ``letters``."""
    cdef const uint8_t* letter = <const uint8_t*>PyBytes_AS_STRING(letters)
    cdef Py_ssize_t i, count = PyBytes_GET_SIZE(letters)
    cdef uint8_t bits = 0
    cdef int bit = 8
    cdef list args = []
    for i in range(count):
        if letter[i] != c"b":
            bit = 8
            args.append(read_field(cursor, letter[i]))
            continue
        if bit == 8:
            bits = read_u8(cursor)
            bit = 0
        args.append(bits >> bit & 1 == 1)
        bit += 1
    if cursor.at != cursor.end:
        raise DecodeError(f"{cursor_left(cursor)} bytes follow the method's last field")
    return tuple(args)


cdef object read_field(Cursor* cursor, uint8_t letter):
    cdef uint32_t count
    if letter == c"s":
        return read_short_name(cursor)
    if letter == c"B":
        return read_u16(cursor)
    if letter == c"l":
        return read_u32(cursor)
    if letter == c"L":
        return read_u64(cursor)
    if letter == c"F":
        return read_table(cursor, 1)
    if letter == c"S":
        count = read_u32(cursor)
        return read_text(cursor, count)
    return read_u8(cursor)


# ---------------------------------------------------------------------------------------------- writing

cdef int write_args(WriteBuffer buffer, tuple entry, object args) except -1:
    cdef str name
    cdef bytes letters
    cdef tuple fields
    cdef int bit = 8
    name, letters, fields = entry
    if len(args) != len(fields):
        raise EncodeError(
            f"{name} takes {len(fields)} arguments ({', '.join(fields)}), {len(args)} were given"
        )
    for letter, field, value in zip(letters, fields, args):
        if letter != c"b":
            bit = 8
            write_field(buffer, letter, value, f"{name}: {field}")
            continue
        if bit == 8:
            buffer.write_u8(0)
            bit = 0
        if value:
            buffer.data[buffer.used - 1] |= <uint8_t>(1 << bit)
        bit += 1
    return 0


cdef int write_field(WriteBuffer buffer, uint8_t letter, object value, str what) except -1:
    if letter == c"s":
        return write_short(buffer, value, what)
    if letter == c"B":
        return buffer.write_u16(<uint16_t>checked_int(value, 0xFFFF, what))
    if letter == c"l":
        return buffer.write_u32(<uint32_t>checked_int(value, 0xFFFFFFFF, what))
    if letter == c"L":
        return buffer.write_u64(checked_int(value, MAX_UINT64, what))
    if letter == c"F":
        return write_table(buffer, value, 1)
    if letter == c"o":
        return buffer.write_u8(<uint8_t>checked_int(value, 0xFF, what))
    if isinstance(value, bytes):
        return buffer.write_octets(bytes(value), 4, what)
    if not isinstance(value, str):
        raise EncodeError(f"{what} must be a str or bytes, not {type(value).__name__}")
    return buffer.write_text(value, 4, what)
