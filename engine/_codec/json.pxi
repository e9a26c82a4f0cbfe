# kombu's JSON dialect (kombu/utils/json.py) at orjson's speed.
#
# orjson is no drop-in for it: some values it writes otherwise without a word (UUID, Enum, NaN, dataclass),
# and some texts it reads otherwise (integers above 64 bits become floats, `__type__` wrappers stay dicts).
# So:
#   - encoding: a walk over the value lets only exact builtin types through; all else is kombu's;
#   - decoding: one pass over the bytes looks for what orjson would read otherwise; all else is orjson's;
#   - whatever orjson refuses is decided by kombu, so that errors and rare successes are kombu's too.
# Nesting is bounded both ways, below what the C stack or Python's recursion limit bears.

import orjson

cdef object _orjson_dumps = orjson.dumps
cdef object _orjson_loads = orjson.loads
cdef object _kombu_json = None  # kombu.utils.json, imported when first needed

cdef enum:
    MAX_JSON_DEPTH = 512
    ORJSON_ENCODE_DEPTH = 250  # orjson refuses 255 levels
    ORJSON_INT_DIGITS = 18  # any integer of that many digits fits 64 bits
    NEAR = 32  # bytes

# What the scan does with a byte outside a string; 0 is skipped.
cdef enum:
    QUOTE = 1
    OPEN = 2
    CLOSE = 3
    DIGIT = 4

cdef uint8_t[256] _byte_class
memset(_byte_class, 0, 256)
_byte_class[c'"'] = QUOTE
_byte_class[c'['] = _byte_class[c'{'] = OPEN
_byte_class[c']'] = _byte_class[c'}'] = CLOSE
for _digit in range(10):
    _byte_class[48 + _digit] = DIGIT


cdef object _kombu():
    global _kombu_json
    if _kombu_json is None:
        from kombu.utils import json as kombu_json
        _kombu_json = kombu_json
    return _kombu_json


cdef str _reason(object exc):
    """What a foreign error says, short: it may quote a whole value."""
    cdef object text = exc.args[0] if exc.args and isinstance(exc.args[0], str) else ""
    text = f"{type(exc).__name__}: {text}" if text else type(exc).__name__
    return text if len(text) <= 200 else text[:199] + "…"


cdef object _too_deep_to_write():
    return EncodeError(
        f"the value is nested deeper than {MAX_JSON_DEPTH} levels (or refers to itself): pass flatter data"
    )


# ------------------------------------------------------------------------------------------------- encoding


cdef int _plain_items(list items, int depth) except -1:
    cdef object item
    for item in items:
        if not _is_plain(item, depth):
            return 0
    return 1


cdef int _plain_tuple(tuple items, int depth) except -1:
    cdef object item
    for item in items:
        if not _is_plain(item, depth):
            return 0
    return 1


cdef int _plain_dict(object mapping, int depth) except -1:
    cdef Py_ssize_t position = 0
    cdef PyObject* key
    cdef PyObject* value
    while PyDict_Next(mapping, &position, &key, &value):
        if not PyUnicode_CheckExact(<object> key) or not _is_plain(<object> value, depth):
            return 0
    return 1


cdef int _is_plain(object value, int depth) except -1:
    """1 when orjson writes it as kombu would mean it, 0 when kombu must. It runs no Python code, so that the
    containers it walks cannot change under it. What orjson refuses by itself (integers above 64 bits, lone
    surrogates) is not looked for here."""
    global _saw_long
    cdef double number
    if PyUnicode_CheckExact(value):
        if PyUnicode_GET_LENGTH(value) >= LONG_TO_WRITE:
            _saw_long = True
        return 1
    if PyLong_CheckExact(value):
        return 1
    if value is None or value is True or value is False:
        return 1
    if PyFloat_CheckExact(value):
        number = PyFloat_AS_DOUBLE(value)
        return number - number == 0.0  # neither infinite nor not-a-number
    if depth >= MAX_JSON_DEPTH:
        if isinstance(value, (dict, list, tuple)):
            raise _too_deep_to_write()
        return 0
    if PyDict_CheckExact(value):
        return _plain_dict(value, depth + 1) and depth < ORJSON_ENCODE_DEPTH
    if PyList_CheckExact(value):
        return _plain_items(<list> value, depth + 1) and depth < ORJSON_ENCODE_DEPTH
    if PyTuple_CheckExact(value):
        return _plain_tuple(<tuple> value, depth + 1) and depth < ORJSON_ENCODE_DEPTH
    return 0


cdef bytes _kombu_encode(object value):
    cdef bytes text
    try:
        text = _kombu().dumps(value).encode("ascii")
    except MemoryError:
        raise
    except RecursionError:
        raise _too_deep_to_write() from None
    except Exception as exc:
        raise EncodeError(f"the value cannot be written as JSON: {_reason(exc)}") from exc
    cdef Py_ssize_t in_long = 0
    if _scan(<const uint8_t*> PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), &in_long) < 0:
        raise _too_deep_to_write()  # nobody here would read it back
    return text


cpdef bytes json_encode(object value):
    """The value in kombu's JSON dialect: the same meaning as `kombu.utils.json.dumps`, spacing may differ.

    Raises EncodeError for what the dialect has no form for, and for nesting deeper than 512 levels.
    """
    global _saw_long
    cdef bytes text
    _saw_long = False
    if _is_plain(value, 0):
        try:
            if _saw_long:
                text = _long_text(value)
                if text is not None:
                    return text
            return _orjson_dumps(value)
        except TypeError:  # an integer above 64 bits or a lone surrogate: kombu writes both
            pass
    return _kombu_encode(value)


# ------------------------------------------------------------------------------------------------- decoding


cdef inline bint _spells_ascii(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """After a backslash: an escape that stands for printable ASCII, and so could spell a wrapper's key."""
    return end - at >= 4 and at[0] == c'u' and at[1] == c'0' and at[2] == c'0' and c'2' <= at[3] <= c'7'


cdef const uint8_t* _string_end(const uint8_t* at, const uint8_t* end, bint* plain) noexcept nogil:
    """Behind the quote that ends the string. Byte by byte as long as quotes and escapes are near, as in most
    strings; else memchr looks for them, at many times the speed."""
    cdef const uint8_t* near
    cdef const uint8_t* quote = NULL
    cdef const uint8_t* escape
    while at < end:
        near = at + min(end - at, <Py_ssize_t>NEAR)
        while at < near:
            if at[0] == c'"':
                return at + 1
            if at[0] == c'\\':
                at += 1
                if _spells_ascii(at, end):
                    plain[0] = False
                near = at + min(end - at, <Py_ssize_t>NEAR)
            at += 1
        if at >= end:
            break
        if quote == NULL or quote < at:  # else it is known already, and the search stays linear
            quote = <const uint8_t*> memchr(at, c'"', end - at)
            if quote == NULL:
                quote = end
        escape = <const uint8_t*> memchr(at, c'\\', quote - at)
        if escape == NULL:
            return quote + 1
        at = escape
    return end


cdef int _scan(const uint8_t* at, Py_ssize_t size, Py_ssize_t* in_long) noexcept nogil:
    """One pass over the text: 1 when orjson reads it as kombu does (or refuses it), 0 when kombu must, -1
    when it is nested too deep. Malformed text may give any answer but never reads beyond its end. To
    ``in_long`` the bytes in long strings are added."""
    cdef const uint8_t* end = at + size
    cdef const uint8_t* start
    cdef int depth = 0
    cdef bint plain = True
    cdef uint8_t kind
    while at < end:
        kind = _byte_class[at[0]]
        at += 1
        if kind == 0:
            continue
        if kind == QUOTE:
            if end - at >= 9 and at[0] == c'_' and memcmp(at, b'__type__"', 9) == 0:
                plain = False
            start = at
            at = _string_end(at, end, &plain)
            if at - start >= LONG_STRING:
                in_long[0] += at - start
        elif kind == OPEN:
            depth += 1
            if depth > MAX_JSON_DEPTH:
                return -1
        elif kind == CLOSE:
            depth -= 1
        else:
            start = at - 1
            while at < end and _byte_class[at[0]] == DIGIT:
                at += 1
            if at - start > ORJSON_INT_DIGITS:
                plain = False
    return plain


cdef object _kombu_decode(object data):
    try:
        return _kombu().loads(data)
    except MemoryError:
        raise
    except Exception as exc:  # kombu's own decoders raise whatever datetime, uuid and decimal raise
        raise DecodeError(f"not JSON as kombu writes it: {_reason(exc)}") from exc


cdef object _decode_json(object data, const uint8_t* text, Py_ssize_t size):
    """`data` is bytes or str; `text` its UTF-8."""
    cdef Py_ssize_t in_long = 0
    cdef int verdict = _scan(text, size, &in_long)
    cdef object value
    if verdict < 0:
        raise DecodeError(f"the JSON is nested deeper than {MAX_JSON_DEPTH} levels")
    if verdict:
        if in_long and size - in_long <= REST_OF_LONG:
            value = _read_long(text, size)
            if value is not _NOT_PLAIN:
                return value
        try:
            return _orjson_loads(data)
        except ValueError:  # NaN, a lone surrogate or plain garbage: kombu knows
            pass
    return _kombu_decode(data)


cpdef object json_decode(object data):
    """Read kombu's JSON dialect, as `kombu.utils.json.loads` does.

    Raises DecodeError (a ValueError) for anything that is not, and for nesting deeper than 512 levels.
    """
    cdef Py_ssize_t size = 0
    cdef const char* text
    if PyBytes_CheckExact(data):
        return _decode_json(data, <const uint8_t*> PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    if isinstance(data, str):
        try:
            text = PyUnicode_AsUTF8AndSize(data, &size)
        except UnicodeEncodeError:  # a lone surrogate written as itself
            return _decode_json_surrogates(data)
        return _decode_json(data, <const uint8_t*> text, size)
    if isinstance(data, (bytes, bytearray, memoryview)):
        data = bytes(data)
        return _decode_json(data, <const uint8_t*> PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    raise TypeError(f"JSON is bytes or str, not {type(data).__name__}")


cdef object _decode_json_surrogates(str data):
    cdef bytes text = data.encode("utf-8", "surrogatepass")
    cdef Py_ssize_t in_long = 0
    if _scan(<const uint8_t*> PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), &in_long) < 0:
        raise DecodeError(f"the JSON is nested deeper than {MAX_JSON_DEPTH} levels")
    return _kombu_decode(data)
