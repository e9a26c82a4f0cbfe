# Field tables and arrays (AMQP 0-9-1 section 4.2.5.5) with the types as RabbitMQ reads and writes them:
# https://www.rabbitmq.com/amqp-0-9-1-errata#section_3. There 's' is a signed 16-bit integer, 'l' and 'L' are
# signed 64-bit, and 'x' is a byte array.
#
# Depth is bounded both ways, so neither a peer nor a list that holds itself can exhaust the C stack.

import calendar
import datetime as _datetime_module
import decimal as _decimal_module

cdef object _Datetime = _datetime_module.datetime
cdef object _utc = _datetime_module.timezone.utc
cdef object _Decimal = _decimal_module.Decimal
cdef object _timegm = calendar.timegm

cdef enum:
    MAX_TABLE_DEPTH = 32


def encode_table(table):
    """A field table with its 4-byte length. Raises EncodeError."""
    cdef WriteBuffer buffer = WriteBuffer.__new__(WriteBuffer)
    write_table(buffer, table, 1)
    return buffer.as_bytes()


def decode_table(data):
    """The table that ``data`` holds, from its length to its last byte. Raises DecodeError."""
    cdef Py_buffer view
    cdef Cursor cursor
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        cursor.at = <const uint8_t*>view.buf
        cursor.end = cursor.at + view.len
        table = read_table(&cursor, 1)
        if cursor.at != cursor.end:
            raise DecodeError(f"{cursor_left(&cursor)} bytes follow the field table's end")
        return table
    finally:
        PyBuffer_Release(&view)


# ---------------------------------------------------------------------------------------------- reading

cdef int enter(Cursor* cursor, Cursor* inner, int depth) except -1:
    """Let ``inner`` walk what the length at the cursor spans, and step over it."""
    cdef uint32_t count = read_u32(cursor)
    if depth > MAX_TABLE_DEPTH:
        raise DecodeError(f"a field table is nested deeper than {MAX_TABLE_DEPTH} levels")
    inner.at = read_span(cursor, count)
    inner.end = cursor.at
    return 0


cdef dict read_table(Cursor* cursor, int depth):
    cdef Cursor inner
    cdef dict table = {}
    enter(cursor, &inner, depth)
    while inner.at < inner.end:
        name = read_short_name(&inner)
        table[name] = read_value(&inner, depth)
    return table


cdef list read_array(Cursor* cursor, int depth):
    cdef Cursor inner
    cdef list array = []
    enter(cursor, &inner, depth)
    while inner.at < inner.end:
        array.append(read_value(&inner, depth))
    return array


cdef object read_value(Cursor* cursor, int depth):
    cdef uint8_t kind = read_u8(cursor)
    cdef uint32_t count
    if kind == c"S":
        count = read_u32(cursor)
        return read_text(cursor, count)
    if kind == c"V":
        return None
    if kind == c"I":
        return <int32_t>read_u32(cursor)
    if kind == c"l" or kind == c"L":
        return <int64_t>read_u64(cursor)
    if kind == c"t":
        return read_u8(cursor) != 0
    if kind == c"F":
        return read_table(cursor, depth + 1)
    if kind == c"A":
        return read_array(cursor, depth + 1)
    return read_rare_value(cursor, kind)


cdef object read_rare_value(Cursor* cursor, uint8_t kind):
    cdef uint32_t count
    if kind == c"d":
        return read_double(cursor)
    if kind == c"T":
        return read_timestamp(cursor)
    if kind == c"x":
        count = read_u32(cursor)
        return PyBytes_FromStringAndSize(<const char*>read_span(cursor, count), count)
    if kind == c"b":
        return <int8_t>read_u8(cursor)
    if kind == c"B":
        return read_u8(cursor)
    if kind == c"s" or kind == c"U":
        return <int16_t>read_u16(cursor)
    if kind == c"u":
        return read_u16(cursor)
    if kind == c"i":
        return read_u32(cursor)
    if kind == c"f":
        return read_float(cursor)
    if kind == c"D":
        return read_decimal(cursor)
    raise DecodeError(f"a field table holds a value of unknown type {chr(kind)!r}")


cdef object read_double(Cursor* cursor):
    cdef uint64_t bits = read_u64(cursor)
    cdef double value
    memcpy(&value, &bits, 8)
    return value


cdef object read_float(Cursor* cursor):
    cdef uint32_t bits = read_u32(cursor)
    cdef float value
    memcpy(&value, &bits, 4)
    return <double>value


cdef object read_timestamp(Cursor* cursor):
    """A naive datetime in UTC, as py-amqp gives; the bare seconds where no datetime reaches."""
    cdef uint64_t seconds = read_u64(cursor)
    if seconds > 253402300799:  # the last second of the year 9999
        return seconds
    return _Datetime.fromtimestamp(seconds, _utc).replace(tzinfo=None)


cdef object read_decimal(Cursor* cursor):
    cdef uint8_t scale = read_u8(cursor)
    cdef int32_t unscaled = <int32_t>read_u32(cursor)
    digits = tuple(map(int, str(abs(<int64_t>unscaled))))
    return _Decimal((unscaled < 0, digits, -<int>scale))


# ---------------------------------------------------------------------------------------------- writing

cdef int write_table(WriteBuffer buffer, object table, int depth) except -1:
    cdef size_t start
    if not isinstance(table, dict):
        if not isinstance(table, _Mapping):
            raise EncodeError(f"a field table is made from a mapping, not from {type(table).__name__}")
        table = dict(table)
    check_depth(depth)
    start = buffer.begin_length()
    for name, value in (<dict>table).items():
        if not isinstance(name, str):
            raise EncodeError(f"a field table's key must be a str, not {type(name).__name__}: {name!r:.80}")
        buffer.write_text(name, 1, "a field table's key")
        write_value(buffer, value, depth, name)
    return buffer.end_length(start)


cdef int write_array(WriteBuffer buffer, object array, int depth, object name) except -1:
    cdef size_t start
    check_depth(depth)
    start = buffer.begin_length()
    for value in array:
        write_value(buffer, value, depth, name)
    return buffer.end_length(start)


cdef int check_depth(int depth) except -1:
    if depth > MAX_TABLE_DEPTH:
        raise EncodeError(f"a field table is nested deeper than {MAX_TABLE_DEPTH} levels")
    return 0


cdef int write_value(WriteBuffer buffer, object value, int depth, object name) except -1:
    """One value behind the letter of its type; ``name`` is the key it stands under, for the error."""
    if value is None:
        return buffer.write_u8(c"V")
    if isinstance(value, str):
        buffer.write_u8(c"S")
        return buffer.write_text(value, 4, "a field table's string")
    if value is True or value is False:
        buffer.write_u8(c"t")
        return buffer.write_u8(value is True)
    if isinstance(value, int):
        return write_int(buffer, value, name)
    if isinstance(value, (list, tuple)):
        buffer.write_u8(c"A")
        return write_array(buffer, value, depth + 1, name)
    if isinstance(value, (dict, _Mapping)):
        buffer.write_u8(c"F")
        return write_table(buffer, value, depth + 1)
    return write_rare_value(buffer, value, name)


cdef int write_rare_value(WriteBuffer buffer, object value, object name) except -1:
    cdef double number
    cdef uint64_t bits
    if isinstance(value, float):
        number = value
        memcpy(&bits, &number, 8)
        buffer.write_u8(c"d")
        return buffer.write_u64(bits)
    if isinstance(value, (bytes, bytearray, memoryview)):
        buffer.write_u8(c"x")
        return buffer.write_octets(bytes(value), 4, "a field table's byte array")
    if isinstance(value, _Datetime):
        buffer.write_u8(c"T")
        return write_timestamp(buffer, value, name)
    if isinstance(value, _Decimal):
        buffer.write_u8(c"D")
        return write_decimal(buffer, value, name)
    raise EncodeError(f"{name!r}: a field table cannot hold a value of type {type(value).__name__}")


cdef int write_int(WriteBuffer buffer, object value, object name) except -1:
    cdef int overflow = 0
    cdef long long number = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow:
        raise EncodeError(f"{name!r}: an integer beyond 64 bits does not fit a field table")
    if -0x80000000 <= number <= 0x7FFFFFFF:
        buffer.write_u8(c"I")
        return buffer.write_u32(<uint32_t><int32_t>number)
    buffer.write_u8(c"l")
    return buffer.write_u64(<uint64_t>number)


cdef int write_timestamp(WriteBuffer buffer, object value, object name) except -1:
    """Whole seconds; a naive datetime means UTC, as py-amqp reads it."""
    cdef int64_t seconds
    try:
        seconds = _timegm(value.utctimetuple())
    except OverflowError:  # an offset that leads out of the years 1 to 9999
        raise EncodeError(f"{name!r}: not a time in UTC: {value}") from None
    if seconds < 0:
        raise EncodeError(f"{name!r}: AMQP has no timestamp before 1970: {value}")
    return buffer.write_u64(<uint64_t>seconds)


cdef int write_decimal(WriteBuffer buffer, object value, object name) except -1:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int) or not -255 <= exponent <= 10:
        raise EncodeError(f"{name!r}: a field table cannot hold this Decimal: {value}")
    unscaled = int("".join(map(str, digits)) or "0") * 10 ** max(exponent, 0)
    if unscaled > 0x7FFFFFFF:
        raise EncodeError(f"{name!r}: a field table's Decimal has 31 bits of digits, too few for {value}")
    buffer.write_u8(<uint8_t>max(-exponent, 0))
    return buffer.write_u32(<uint32_t><int32_t>(-unscaled if sign else unscaled))
