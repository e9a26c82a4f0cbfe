# JSON that is little else than long strings, as large bodies are, read and written without orjson.
#
# orjson asks for twelve times the text it is to read, and for eight times a string it is to write. The C
# library maps blocks of that size anew each time, and their page faults cost more than all the work: half of
# 10 ms for 10 MB. Here nothing is asked for but the result.
#
# Rule: what stands here reads and writes what orjson would, byte for byte; what it does not know by itself,
# and every short value, is orjson's. It is asked only once `_is_plain` or `_scan` found that orjson may be.

cdef extern from *:
    """
    /* How many bytes from the start a JSON string may hold as they are: neither a control character nor a
       quote nor a backslash, and with ascii_only none beyond ASCII. In blocks, which compilers make vectors
       of. */
    #if defined(__GNUC__) && !defined(__clang__)
    __attribute__((optimize("O3")))
    #endif
    static size_t engine_plain_bytes(const uint8_t *at, size_t size, int ascii_only)
    {
        const uint8_t beyond = ascii_only ? 0x80 : 0;
        size_t done = 0;
        while (size - done >= 64) {
            uint8_t found = 0;
            for (int i = 0; i < 64; i++) {
                const uint8_t byte = at[done + i];
                found |= (uint8_t)((byte < 0x20) | (byte == '"') | (byte == '\\\\')) | (byte & beyond);
            }
            if (found)
                break;
            done += 64;
        }
        while (done < size && at[done] >= 0x20 && at[done] != '"' && at[done] != '\\\\'
               && !(at[done] & beyond))
            done++;
        return done;
    }

    /* The same without ascii_only, copied; behind them the target may be overwritten. */
    #if defined(__GNUC__) && !defined(__clang__)
    __attribute__((optimize("O3")))
    #endif
    static size_t engine_copy_plain(uint8_t *restrict target, const uint8_t *restrict at, size_t size)
    {
        size_t done = 0;
        while (size - done >= 64) {
            uint8_t found = 0;
            for (int i = 0; i < 64; i++) {
                const uint8_t byte = at[done + i];
                target[done + i] = byte;
                found |= (uint8_t)((byte < 0x20) | (byte == '"') | (byte == '\\\\'));
            }
            if (found)
                break;
            done += 64;
        }
        while (done < size && at[done] >= 0x20 && at[done] != '"' && at[done] != '\\\\') {
            target[done] = at[done];
            done++;
        }
        return done;
    }
    """
    size_t engine_copy_plain(uint8_t* target, const uint8_t* at, size_t size) noexcept nogil
    size_t engine_plain_bytes(const uint8_t* at, size_t size, bint ascii_only) noexcept nogil

cdef enum:
    LONG_STRING = 4096  # bytes; a text is read here that has such strings
    REST_OF_LONG = 4096  # and at most so many bytes of anything else
    LONG_TO_WRITE = 1 << 20  # characters; a value is written here that has such strings
    LONG_ITEMS = 64  # and is at most so many values

cdef bint _saw_long = False  # `_is_plain` met a string to write here since this was last cleared


# -- reading -----------------------------------------------------------------------------------------------


cdef uint8_t _unescaped(uint8_t byte) noexcept nogil:
    """What a backslash and this byte stand for; 0: a `\\u`, or nothing."""
    if byte == c'n':
        return c'\n'
    if byte == c'"' or byte == c'\\' or byte == c'/':
        return byte
    if byte == c't':
        return c'\t'
    if byte == c'r':
        return c'\r'
    if byte == c'b':
        return c'\b'
    return c'\f' if byte == c'f' else 0


cdef void _unescape(const uint8_t* at, const uint8_t* end, uint8_t* target) noexcept nogil:
    """All that is between, its escapes replaced by what they stand for: each is known and whole."""
    cdef const uint8_t* escape
    while True:
        escape = <const uint8_t*> memchr(at, c'\\', end - at)
        if escape == NULL:
            memcpy(target, at, end - at)
            return
        memcpy(target, at, escape - at)
        target += escape - at
        target[0] = _unescaped(escape[1])
        target += 1
        at = escape + 2


cdef object _long_string(Cursor* text):
    """A string; ``text`` is at its opening quote."""
    cdef const uint8_t* start = text.at + 1
    cdef const uint8_t* at = start
    cdef Py_ssize_t escapes = 0
    cdef Py_ssize_t size
    cdef bint is_ascii = True
    while True:
        at += engine_plain_bytes(at, text.end - at, is_ascii)
        if at == text.end:
            return _NOT_PLAIN
        if at[0] == c'"':
            break
        if at[0] == c'\\' and text.end - at >= 2 and _unescaped(at[1]):
            escapes += 1
            at += 2
        elif at[0] >= 0x80:
            is_ascii = False
        else:
            return _NOT_PLAIN
    text.at = at + 1
    size = at - start - escapes
    if is_ascii:
        made = PyUnicode_New(size, 127)
        if escapes:
            _unescape(start, at, <uint8_t*> PyUnicode_DATA(made))
        elif size:
            memcpy(PyUnicode_DATA(made), start, size)
        return made
    try:
        if escapes == 0:
            return PyUnicode_DecodeUTF8(<const char*> start, size, NULL)
        spelled = PyBytes_FromStringAndSize(NULL, size)
        _unescape(start, at, <uint8_t*> PyBytes_AS_STRING(spelled))
        return PyUnicode_DecodeUTF8(PyBytes_AS_STRING(spelled), size, NULL)
    except UnicodeDecodeError:
        return _NOT_PLAIN


cdef object _long_leaf(Cursor* text):
    """A number or a word: up to what ends an item."""
    cdef const uint8_t* start = text.at
    while text.at < text.end and text.at[0] > 0x20 and text.at[0] not in b",]}":
        text.at += 1
    try:
        return _orjson_loads(PyBytes_FromStringAndSize(<const char*> start, text.at - start))
    except ValueError:
        return _NOT_PLAIN


cdef object _long_object(Cursor* text):
    cdef dict made = {}
    cdef Py_ssize_t size = 0
    cdef const uint8_t* name
    cdef int more = _skip_blank(text) != c'}'
    if not more:
        text.at += 1
    while more > 0:
        name = _plain_name(text, &size)
        if name == NULL:
            return _NOT_PLAIN
        value = _long_value(text)
        if value is _NOT_PLAIN:
            return _NOT_PLAIN
        made[_name(name, size)] = value
        more = _plain_next(text, c'}')
    return made if more == 0 else _NOT_PLAIN


cdef object _long_array(Cursor* text):
    cdef list made = []
    cdef int more = _skip_blank(text) != c']'
    if not more:
        text.at += 1
    while more > 0:
        value = _long_value(text)
        if value is _NOT_PLAIN:
            return _NOT_PLAIN
        made.append(value)
        more = _plain_next(text, c']')
    return made if more == 0 else _NOT_PLAIN


cdef object _long_value(Cursor* text):
    """One value. Its depth is bounded: `_scan` has seen to that."""
    cdef uint8_t byte = _skip_blank(text)
    if byte == c'"':
        return _long_string(text)
    if byte == c'[':
        text.at += 1
        return _long_array(text)
    if byte == c'{':
        text.at += 1
        return _long_object(text)
    return _long_leaf(text)


cdef object _read_long(const uint8_t* at, Py_ssize_t size):
    """The text's value, or `_NOT_PLAIN`."""
    cdef Cursor text
    cdef object value
    text.at = at
    text.end = at + size
    value = _long_value(&text)
    _skip_blank(&text)
    return value if text.at == text.end else _NOT_PLAIN


# -- writing -----------------------------------------------------------------------------------------------


cdef inline bint _is_long(object value) noexcept:
    return PyUnicode_CheckExact(value) and PyUnicode_GET_LENGTH(value) >= LONG_TO_WRITE


cdef int _write_escaped(WriteBuffer buffer, const uint8_t* at, Py_ssize_t size) except -1:
    """This ASCII as a string, quotes and all."""
    cdef const uint8_t* end = at + size
    cdef Py_ssize_t plain
    cdef uint8_t* target
    buffer.write_u8(c'"')
    while at < end:
        target = buffer.reserve(end - at + 6)
        plain = engine_copy_plain(target, at, end - at)
        target += plain
        at += plain
        if at < end:
            target = _put_escape(target, at[0])
            at += 1
        buffer.used = target - buffer.data
    return buffer.write_u8(c'"')


cdef uint8_t* _put_escape(uint8_t* target, uint8_t byte) noexcept nogil:
    cdef uint8_t letter = byte
    if byte == c'\n':
        letter = c'n'
    elif byte == c'\t':
        letter = c't'
    elif byte == c'\r':
        letter = c'r'
    elif byte == c'\b':
        letter = c'b'
    elif byte == c'\f':
        letter = c'f'
    elif byte < 0x20:
        memcpy(target, b"\\u00", 4)
        target[4] = _HEX[byte >> 4]
        target[5] = _HEX[byte & 15]
        return target + 6
    target[0] = c'\\'
    target[1] = letter
    return target + 2


cdef int _measure(object value, Py_ssize_t* room, int* items) except -1:
    """Adds up what the long strings take; 0: the value is not for `_write_long`."""
    cdef Py_ssize_t position = 0
    cdef PyObject* name
    cdef PyObject* inner
    items[0] += 1
    if items[0] > LONG_ITEMS:
        return 0
    if _is_long(value):
        if not PyUnicode_IS_COMPACT_ASCII(value):
            return 0
        room[0] += PyUnicode_GET_LENGTH(value)
    elif PyDict_CheckExact(value):
        while PyDict_Next(value, &position, &name, &inner):
            if _is_long(<object> name) or not _measure(<object> inner, room, items):
                return 0
    elif PyList_CheckExact(value) or PyTuple_CheckExact(value):
        for item in value:
            if not _measure(item, room, items):
                return 0
    return 1


cdef int _write_long(WriteBuffer buffer, object value) except -1:
    cdef uint8_t separator
    if _is_long(value) and PyUnicode_IS_COMPACT_ASCII(value):
        _write_escaped(buffer, <const uint8_t*> PyUnicode_DATA(value), PyUnicode_GET_LENGTH(value))
    elif PyDict_CheckExact(value) and value:
        separator = c'{'
        for name, inner in value.items():
            buffer.write_u8(separator)
            _write_short(buffer, name)
            buffer.write_u8(c':')
            _write_long(buffer, inner)
            separator = c','
        buffer.write_u8(c'}')
    elif (PyList_CheckExact(value) or PyTuple_CheckExact(value)) and value:
        separator = c'['
        for inner in value:
            buffer.write_u8(separator)
            _write_long(buffer, inner)
            separator = c','
        buffer.write_u8(c']')
    else:
        _write_short(buffer, value)
    return 0


cdef int _write_short(WriteBuffer buffer, object value) except -1:
    cdef bytes text = _orjson_dumps(value)
    return buffer.write_bytes(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef bytes _long_text(object value):
    """The JSON of a value with a long string in it, or None: orjson is to write it. Raises TypeError as it
    does."""
    cdef WriteBuffer buffer = WriteBuffer.__new__(WriteBuffer)
    cdef Py_ssize_t room = 0
    cdef int items = 0
    if not _measure(value, &room, &items):
        return None
    buffer.reserve(room + room // 16 + REST_OF_LONG)  # as many escapes as text has
    _write_long(buffer, value)
    return buffer.as_bytes()
