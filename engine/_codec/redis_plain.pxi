# An envelope in the form that nearly all have, read in one pass: JSON without escapes, ASCII outside of the
# body, no number but small natural ones, the body in base64.
#
# Rule: whatever is read here means what `json_decode` makes of it; at the first sign of anything else (bad
# JSON too) the answer is "not plain", and redis_envelope.pxi reads the whole envelope again, with every
# judgement and error message its own. So nothing here raises for what is in the bytes.

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 largest)

from libc.string cimport memchr

cdef enum:
    PLAIN_DEPTH = 16

cdef object _NOT_PLAIN = object()  # the answer in place of a value


cdef inline uint8_t _skip_blank(Cursor* text) noexcept:
    """The next byte that is no white space, still to be read; 0 at the end."""
    while text.at < text.end:
        if text.at[0] > 0x20:
            return text.at[0]
        if not (text.at[0] == c' ' or text.at[0] == c'\n' or text.at[0] == c'\r' or text.at[0] == c'\t'):
            return 0
        text.at += 1
    return 0


cdef inline Py_ssize_t _plain_size(Cursor* text) noexcept:
    """The size of the string that begins here, behind its opening quote; -1: it is not plain."""
    cdef const uint8_t* at = text.at
    while at < text.end:
        if at[0] == c'"':
            return at - text.at
        if at[0] < 0x20 or at[0] == c'\\' or at[0] >= 0x80:
            return -1
        at += 1
    return -1


cdef inline object _ascii(const uint8_t* start, Py_ssize_t size):
    cdef object made
    if size == 0:
        return ""
    made = PyUnicode_New(size, 127)
    memcpy(PyUnicode_DATA(made), start, size)
    return made


cdef object _plain_string(Cursor* text):
    """A string; ``text`` is at its opening quote."""
    cdef Py_ssize_t size
    cdef object made
    text.at += 1
    size = _plain_size(text)
    if size < 0:
        return _NOT_PLAIN
    made = _ascii(text.at, size)
    text.at += size + 1
    return made


cdef const uint8_t* _plain_name(Cursor* text, Py_ssize_t* size) noexcept:
    """Where the name of a member begins, read up to and with its colon; NULL: not plain. A wrapper's name
    (`__type__`) is not."""
    cdef const uint8_t* start
    if _skip_blank(text) != c'"':
        return NULL
    text.at += 1
    start = text.at
    size[0] = _plain_size(text)
    if size[0] <= 0 or start[0] == c'_':
        return NULL
    text.at += size[0] + 1
    if _skip_blank(text) != c':':
        return NULL
    text.at += 1
    return start


cdef inline bint _is(const uint8_t* name, Py_ssize_t size, const char* known, Py_ssize_t known_size) noexcept:
    return size == known_size and memcmp(name, known, known_size) == 0


cdef inline str _name(const uint8_t* start, Py_ssize_t size):
    """As `read_name`, which keeps what it has made; of any size."""
    cdef Cursor text
    if size > 255:
        return _ascii(start, size)
    text.at = start
    text.end = start + size
    return read_name(&text, <size_t> size)


cdef inline int _plain_next(Cursor* text, uint8_t close) noexcept:
    """Behind an item: 1 when another follows, 0 when the container is closed (and read), -1: not plain."""
    cdef uint8_t byte = _skip_blank(text)
    if byte == c',':
        text.at += 1
        return 1
    if byte == close:
        text.at += 1
        return 0
    return -1


cdef object _plain_object(Cursor* text, int depth):
    """A dict; ``text`` is behind the opening brace."""
    cdef dict made = {}
    cdef Py_ssize_t size = 0
    cdef const uint8_t* name
    cdef object value
    cdef int more = 1
    if _skip_blank(text) == c'}':
        text.at += 1
        return made
    while more:
        name = _plain_name(text, &size)
        if name == NULL:
            return _NOT_PLAIN
        value = _plain_value(text, depth)
        if value is _NOT_PLAIN:
            return _NOT_PLAIN
        made[_name(name, size)] = value
        more = _plain_next(text, c'}')
        if more < 0:
            return _NOT_PLAIN
    return made


cdef object _plain_array(Cursor* text, int depth):
    """A list; ``text`` is behind the opening bracket."""
    cdef list made = []
    cdef object value
    cdef int more = 1
    if _skip_blank(text) == c']':
        text.at += 1
        return made
    while more:
        value = _plain_value(text, depth)
        if value is _NOT_PLAIN:
            return _NOT_PLAIN
        made.append(value)
        more = _plain_next(text, c']')
        if more < 0:
            return _NOT_PLAIN
    return made


cdef object _plain_number(Cursor* text):
    """A natural number of at most 18 digits; a fraction or an exponent behind it ends no item, so is not
    plain."""
    cdef const uint8_t* start = text.at
    cdef int64_t number = 0
    while text.at < text.end and c'0' <= text.at[0] <= c'9':
        if text.at - start >= ORJSON_INT_DIGITS:
            return _NOT_PLAIN
        number = 10 * number + (text.at[0] - c'0')
        text.at += 1
    if start[0] == c'0' and text.at - start > 1:
        return _NOT_PLAIN
    return number


cdef inline bint _is_word(Cursor* text, const char* word, Py_ssize_t size) noexcept:
    if text.end - text.at < size or memcmp(text.at, word, size) != 0:
        return False
    text.at += size
    return True


cdef object _plain_value(Cursor* text, int depth):
    cdef uint8_t byte = _skip_blank(text)
    if byte == c'"':
        return _plain_string(text)
    if byte == c'{' or byte == c'[':
        if depth >= PLAIN_DEPTH:
            return _NOT_PLAIN
        text.at += 1
        return _plain_object(text, depth + 1) if byte == c'{' else _plain_array(text, depth + 1)
    if c'0' <= byte <= c'9':
        return _plain_number(text)
    if byte == c't' and _is_word(text, b"true", 4):
        return True
    if byte == c'f' and _is_word(text, b"false", 5):
        return False
    if byte == c'n' and _is_word(text, b"null", 4):
        return None
    return _NOT_PLAIN


cdef int _plain_info(Cursor* text, Delivery delivery) except -1:
    """The members of ``delivery_info``; 0: not plain."""
    cdef Py_ssize_t size = 0
    cdef const uint8_t* name
    cdef object value
    cdef int more
    if _skip_blank(text) != c'{':
        return 0
    text.at += 1
    more = _skip_blank(text) != c'}'
    if not more:
        text.at += 1
    while more:
        name = _plain_name(text, &size)
        if name == NULL:
            return 0
        value = _plain_value(text, 0)
        if value is _NOT_PLAIN:
            return 0
        if _is(name, size, b"exchange", 8):
            if not PyUnicode_CheckExact(value):
                return 0
            delivery.exchange = value
        elif _is(name, size, b"routing_key", 11):
            if not PyUnicode_CheckExact(value):
                return 0
            delivery.routing_key = value
        elif _is(name, size, b"redelivered", 11):
            delivery.redelivered = bool(value)
        more = _plain_next(text, c'}')
        if more < 0:
            return 0
    return 1


cdef int _plain_basic(dict basic, str name, object value) except -1:
    """Keep one property; 0: of the wrong type."""
    if value is None:
        basic.pop(name, None)
        return 1
    if name in _NUMBER_PROPERTIES:
        if not PyLong_CheckExact(value):
            return 0
    elif not PyUnicode_CheckExact(value) and name in _TEXT_PROPERTIES:
        return 0
    basic[name] = value
    return 1


cdef int _plain_properties(Cursor* text, Delivery delivery) except -1:
    """The members of ``properties``, its brace not read yet; 0: not plain, or the body is not in base64."""
    cdef dict basic = {}
    cdef bint base64 = False
    cdef Py_ssize_t size = 0
    cdef const uint8_t* name
    cdef object value
    cdef int more = 1
    if _skip_blank(text) != c'{':
        return 0
    text.at += 1
    while more:
        name = _plain_name(text, &size)
        if name == NULL:
            return 0
        if _is(name, size, b"delivery_info", 13):
            if not _plain_info(text, delivery):
                return 0
        else:
            value = _plain_value(text, 0)
            if value is _NOT_PLAIN:
                return 0
            if _is(name, size, b"delivery_tag", 12):
                delivery.tag = value
            elif _is(name, size, b"body_encoding", 13):
                base64 = PyUnicode_CheckExact(value) and value == "base64"
            elif not _plain_basic(basic, _name(name, size), value):
                return 0
        more = _plain_next(text, c'}')
        if more < 0:
            return 0
    delivery._properties = basic
    return base64 and PyUnicode_CheckExact(delivery.tag)


cdef int _plain_member(
    Cursor* text, const uint8_t* name, Py_ssize_t size, Delivery delivery
) except -1:
    """A member of the envelope that is not its body; 0: not plain."""
    cdef object value
    if _is(name, size, b"properties", 10):
        return _plain_properties(text, delivery)
    value = _plain_value(text, 0)
    if value is _NOT_PLAIN:
        return 0
    if _is(name, size, b"headers", 7):
        if not PyDict_CheckExact(value):
            return 0
        delivery._headers = value
    elif _is(name, size, b"content-type", 12):
        if not (value is None or PyUnicode_CheckExact(value)):
            return 0
        delivery._content_type = value
    elif _is(name, size, b"content-encoding", 16):
        if not (value is None or PyUnicode_CheckExact(value)):
            return 0
        delivery._content_encoding = value
    return 1


cdef Delivery _plain_envelope(bytes data):
    """The delivery of an envelope that is plain as a whole, or None."""
    cdef Cursor text
    cdef const uint8_t* body = NULL
    cdef Py_ssize_t body_size = 0
    cdef Py_ssize_t size = 0
    cdef const uint8_t* name
    cdef Delivery delivery = Delivery.__new__(Delivery)
    cdef int more = 1
    text.at = <const uint8_t*> PyBytes_AS_STRING(data)
    text.end = text.at + PyBytes_GET_SIZE(data)
    delivery.exchange = delivery.routing_key = ""
    if _skip_blank(&text) != c'{':
        return None
    text.at += 1
    while more:
        name = _plain_name(&text, &size)
        if name == NULL:
            return None
        if not _is(name, size, b"body", 4):
            if not _plain_member(&text, name, size, delivery):
                return None
        elif _skip_blank(&text) != c'"':
            return None
        else:
            body = text.at + 1  # what is in it base64 decides
            text.at = <const uint8_t*> memchr(body, c'"', text.end - body)
            if text.at == NULL:
                return None
            body_size = text.at - body
            text.at += 1
        more = _plain_next(&text, c'}')
        if more < 0:
            return None
    if text.at != text.end or body == NULL or delivery._properties is None:
        return None
    return _plain_completed(delivery, body, body_size)


cdef Delivery _plain_completed(Delivery delivery, const uint8_t* body, Py_ssize_t size):
    """The delivery with its body, complete."""
    try:
        delivery._body = _decoded_base64(body, size)
    except DecodeError:
        return None
    if delivery._headers is None:
        delivery._headers = {}
    elif delivery._headers.get("redelivered") is True:
        delivery.redelivered = True
    delivery.epoch = 0
    delivery.queue = delivery.consumer_tag = ""
    return delivery
