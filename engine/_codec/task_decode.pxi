# Celery's task messages (W1, W2) read: protocol 2, and what protocol 1 and hybrid messages mean in its terms.
#
# Sources: celery/app/amqp.py (as_task_v1), celery/worker/strategy.py, celery/worker/request.py. Every field's
# type is checked, so that a worker meets none it does not expect; a naive eta means UTC.

from datetime import datetime
import re

cdef object _datetime = datetime
cdef object _read_datetime = datetime.fromisoformat

# What Python 3.10's `fromisoformat` does not read but Celery does: Z, offsets without a colon, any number of
# decimals, a bare hour.
cdef object _match_iso8601 = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(?::(\d\d)(?:[.,](\d{1,12}))?)?\s?(Z|z|[+-]\d\d(?::?\d\d)?)?", re.ASCII
).fullmatch

cdef enum:
    F_SKIP, F_TASK, F_ID, F_SHADOW, F_ETA, F_EXPIRES, F_GROUP, F_GROUP_INDEX, F_RETRIES, F_TIMELIMIT,
    F_ROOT_ID, F_PARENT_ID, F_ARGSREPR, F_KWARGSREPR, F_ORIGIN, F_IGNORE_RESULT, F_NESTING, F_STAMPED_HEADERS,
    F_STAMPS,

# Protocol fields by name. Skipped are those that say nothing a worker needs: `lang` and `meth` describe the
# client, `compression` the body, `redelivered` is kombu's note on a restored Redis message.
cdef dict _FIELDS = {
    "lang": F_SKIP, "meth": F_SKIP, "compression": F_SKIP, "redelivered": F_SKIP,
    "task": F_TASK, "id": F_ID, "shadow": F_SHADOW, "eta": F_ETA, "expires": F_EXPIRES, "group": F_GROUP,
    "group_index": F_GROUP_INDEX, "retries": F_RETRIES, "timelimit": F_TIMELIMIT, "root_id": F_ROOT_ID,
    "parent_id": F_PARENT_ID, "argsrepr": F_ARGSREPR, "kwargsrepr": F_KWARGSREPR, "origin": F_ORIGIN,
    "ignore_result": F_IGNORE_RESULT, "replaced_task_nesting": F_NESTING,
    "stamped_headers": F_STAMPED_HEADERS, "stamps": F_STAMPS,
}

cdef dict _FIELD_NAMES = {field: name for name, field in _FIELDS.items()}

cdef tuple _JSON_ENCODINGS = ("utf-8", "utf8", "binary")


cdef object _wrong(str name, object value, str wanted):
    return DecodeError(f"task message: {name} is a {type(value).__name__}, not {wanted}")


cdef object _text(str name, object value):
    if PyUnicode_CheckExact(value):
        return value
    raise _wrong(name, value, "a string")


cdef object _count(str name, object value):
    if not PyLong_CheckExact(value):
        raise _wrong(name, value, "an integer")
    if value < 0:
        raise DecodeError(f"task message: {name} is negative")
    return value


cdef object _seconds(object value):
    cdef double seconds
    if value is None or (PyLong_CheckExact(value) and -(1 << 63) <= value < 1 << 63):  # it fits a double
        return value
    if PyFloat_CheckExact(value):
        seconds = PyFloat_AS_DOUBLE(value)
        if seconds - seconds == 0.0:
            return value
    raise DecodeError("task message: timelimit holds something other than seconds")


cdef object _moment(str name, object value):
    """ISO 8601 that `datetime.fromisoformat` of every supported Python reads."""
    if isinstance(value, _datetime):
        return value.isoformat()
    if not PyUnicode_CheckExact(value):
        raise _wrong(name, value, "an ISO 8601 time")
    if not value:
        return None
    try:
        _read_datetime(value)
        return value
    except ValueError:
        return _respelled_moment(name, value)


cdef object _respelled_moment(str name, str value):
    cdef object match = _match_iso8601(value)
    if match is not None:
        day, minutes, seconds, decimals, offset = match.groups()
        offset = "" if offset is None else "+00:00" if offset in "Zz" else offset
        if len(offset) in (3, 5):
            offset = offset[:3] + ":" + (offset[3:] or "00")
        try:
            return _read_datetime(
                f"{day}T{minutes}:{seconds or '00'}.{(decimals or '0')[:6].ljust(6, '0')}{offset}"
            ).isoformat()
        except ValueError:
            pass
    raise DecodeError(f"task message: {name} is no ISO 8601 time: {value[:40]!r}")


cdef int _set_timelimit(TaskMessage message, object value) except -1:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise DecodeError("task message: timelimit is not [hard, soft]")
    message.time_limit = _seconds(value[0])
    message.soft_time_limit = _seconds(value[1])
    return 0


cdef int _set_stamped_headers(TaskMessage message, object value) except -1:
    if not isinstance(value, (list, tuple)):
        raise _wrong("stamped_headers", value, "a list of strings")
    for name in value:
        _text("a stamped header", name)
    message.stamped_headers = list(value) or None
    return 0


cdef int _set_field(TaskMessage message, int field, str name, object value) except -1:
    """One protocol field from the wire, its type checked; what only informs people is made a string."""
    if field == F_TASK:
        message.task = _text(name, value)
    elif field == F_ID:
        message.id = _text(name, value)
    elif field == F_RETRIES:
        message.retries = _count(name, value)
    elif field == F_TIMELIMIT:
        _set_timelimit(message, value)
    elif field == F_ROOT_ID:
        message.root_id = _text(name, value)
    elif field == F_PARENT_ID:
        message.parent_id = _text(name, value)
    elif field == F_ARGSREPR:
        message.argsrepr = str(value)
    elif field == F_KWARGSREPR:
        message.kwargsrepr = str(value)
    elif field == F_ORIGIN:
        message.origin = str(value)
    elif field == F_SHADOW:
        message.shadow = str(value)
    elif field == F_ETA:
        message.eta = _moment(name, value)
    elif field == F_EXPIRES:
        message.expires = _moment(name, value)
    elif field == F_GROUP:
        message.group = _text(name, value)
    elif field == F_GROUP_INDEX:
        message.group_index = _count(name, value)
    elif field == F_IGNORE_RESULT:
        if not isinstance(value, int):
            raise _wrong(name, value, "true or false")
        message.ignore_result = bool(value)
    elif field == F_NESTING:
        message.replaced_task_nesting = _count(name, value)
    elif field == F_STAMPED_HEADERS:
        _set_stamped_headers(message, value)
    elif field == F_STAMPS:
        if not isinstance(value, dict):
            raise _wrong(name, value, "a mapping")
        message.stamps = value or None  # Celery writes {} for none
    return 0


cdef int _set_headers(TaskMessage message, dict headers) except -1:
    cdef Py_ssize_t position = 0
    cdef PyObject* name
    cdef PyObject* value
    cdef PyObject* field
    cdef dict own = None
    while PyDict_Next(headers, &position, &name, &value):
        field = PyDict_GetItemWithError(_FIELDS, <object> name)
        if field == NULL:
            if own is None:
                own = {}
            own[<object> name] = <object> value
        elif <object> value is not None:
            _set_field(message, <int> <object> field, <object> name, <object> value)
    message.headers = own
    return 0


# -- headers straight from the wire: a worker needs a dozen fields of them, and no dict ------------------

cdef object _COMPRESSION = "compression"


cdef inline bint _same(const uint8_t* at, const char* name, size_t size) noexcept:
    return memcmp(at, name, size) == 0


cdef int _field_at(const uint8_t* at, size_t size) noexcept:
    """The field of that name; -1 for a name that is none of the protocol's."""
    if size == 2:
        return F_ID if _same(at, b"id", 2) else -1
    if size == 3:
        return F_ETA if _same(at, b"eta", 3) else -1
    if size == 4:
        if _same(at, b"task", 4):
            return F_TASK
        return F_SKIP if _same(at, b"lang", 4) or _same(at, b"meth", 4) else -1
    if size == 5:
        return F_GROUP if _same(at, b"group", 5) else -1
    if size == 6:
        if _same(at, b"origin", 6):
            return F_ORIGIN
        return F_SHADOW if _same(at, b"shadow", 6) else F_STAMPS if _same(at, b"stamps", 6) else -1
    if size == 7:
        if _same(at, b"root_id", 7):
            return F_ROOT_ID
        return F_RETRIES if _same(at, b"retries", 7) else F_EXPIRES if _same(at, b"expires", 7) else -1
    if size == 8:
        return F_ARGSREPR if _same(at, b"argsrepr", 8) else -1
    if size == 9:
        if _same(at, b"timelimit", 9):
            return F_TIMELIMIT
        return F_PARENT_ID if _same(at, b"parent_id", 9) else -1
    if size == 10:
        return F_KWARGSREPR if _same(at, b"kwargsrepr", 10) else -1
    if size == 11:
        if _same(at, b"group_index", 11):
            return F_GROUP_INDEX
        return F_SKIP if _same(at, b"redelivered", 11) else -1
    if size == 13:
        return F_IGNORE_RESULT if _same(at, b"ignore_result", 13) else -1
    if size == 15:
        return F_STAMPED_HEADERS if _same(at, b"stamped_headers", 15) else -1
    return F_NESTING if size == 21 and _same(at, b"replaced_task_nesting", 21) else -1


cdef int _set_raw_headers(TaskMessage message, Delivery delivery, bint* compressed) except -1:
    """As `_set_headers` of the delivery's headers, which are not kept."""
    cdef Cursor cursor
    cdef Cursor inner
    cdef const uint8_t* start
    cdef size_t size
    cdef int field
    cdef dict own = None
    delivery.locate()
    if not delivery._flags & FLAG_HEADERS:
        return 0
    raw_cursor(delivery._raw, delivery._headers_at, &cursor)
    enter(&cursor, &inner, 1)
    while inner.at < inner.end:
        start = inner.at
        size = read_u8(&inner)
        field = _field_at(read_span(&inner, size), size)
        if field >= 0:
            value = read_value(&inner, 1)
            if value is not None and field != F_SKIP:
                _set_field(message, field, <str>_FIELD_NAMES[field], value)
            continue
        inner.at = start
        name = read_short_name(&inner)
        value = read_value(&inner, 1)
        if name == _COMPRESSION:
            compressed[0] = bool(value)
        else:
            if own is None:
                own = {}
            own[name] = value
    message.headers = own
    return 0


cdef list _list_or_none(str name, object value):
    if value is None or PyList_CheckExact(value):
        return value
    if isinstance(value, (list, tuple)):
        return list(value)
    raise _wrong(name, value, "a list")


cdef int _set_arguments(TaskMessage message, object args, object kwargs, bint checked) except -1:
    """`checked`: the keys came from JSON and are strings."""
    if not isinstance(args, (list, tuple)):
        raise _wrong("args", args, "a list")
    if not isinstance(kwargs, dict):
        raise _wrong("kwargs", kwargs, "a mapping")
    if not checked:
        for name in kwargs:
            if not isinstance(name, str):
                raise _wrong("a key of kwargs", name, "a string")
    message.args = args
    message.kwargs = kwargs
    return 0


cdef int _set_embed(TaskMessage message, dict embed) except -1:
    message.callbacks = _list_or_none("callbacks", embed.get("callbacks"))
    message.errbacks = _list_or_none("errbacks", embed.get("errbacks"))
    message.chain = _list_or_none("chain", embed.get("chain"))
    message.chord = embed.get("chord")
    if message.chord is not None and not isinstance(message.chord, dict):
        raise _wrong("chord", message.chord, "a signature")
    return 0


cdef int _set_body_2(TaskMessage message, object body, bint checked) except -1:
    if not isinstance(body, (list, tuple)) or len(body) != 3:
        raise DecodeError("task message: the body is not [args, kwargs, embed]")
    _set_arguments(message, body[0], body[1], checked)
    cdef object embed = body[2]
    if embed is not None:
        if not isinstance(embed, dict):
            raise _wrong("embed", embed, "a mapping")
        if embed:
            _set_embed(message, <dict?> embed)
    return 0


cdef int _set_body_1(TaskMessage message, dict body, bint checked) except -1:
    """Protocol 1, and hybrid: the fields sit in the body."""
    cdef PyObject* field
    for name, value in body.items():
        field = PyDict_GetItemWithError(_FIELDS, name)
        if field != NULL and value is not None:
            _set_field(message, <int> <object> field, name, value)
    if message.group is None and body.get("taskset") is not None:
        message.group = _text("taskset", body["taskset"])
    _set_arguments(message, body.get("args", ()), body.get("kwargs", {}), checked)
    _set_embed(message, body)
    message.chain = None  # protocol 1 has none
    return 0


cdef object _read_body(Delivery delivery, bint compressed, object loads, object unpack, bint* checked):
    cdef object content_type = delivery.get_content_type()
    cdef object encoding = delivery.get_content_encoding()
    cdef bytes body = delivery._body
    if compressed and unpack is not None:
        body = unpack(delivery)
        compressed = False
    if content_type == "application/json" and not compressed and (
        encoding is None or encoding == "utf-8" or encoding.lower() in _JSON_ENCODINGS
    ):
        checked[0] = True
        return json_decode(body)
    checked[0] = False
    if loads is not None:
        return loads(body, content_type, encoding)
    if compressed:
        raise ContentDisallowed("the body is compressed; nothing was given to decompress it with")
    raise ContentDisallowed(f"the body is {content_type!r} in {encoding!r}; only JSON in UTF-8 is read here")


cpdef TaskMessage decode_task(Delivery delivery, object loads=None, object unpack=None):
    """The task a delivery carries; DecodeError says which part of it is wrong.

    Plain JSON is read here, anything else by `loads(body, content_type, content_encoding)`, which asks the
    accept list. A compressed body (its MIME type stands in the header `compression`) is what
    `unpack(delivery)` makes of it; without it, it goes to `loads` as it came. Without `loads` what is not
    plain JSON is ContentDisallowed. A `root_id` that was left out is the task's own id.
    """
    cdef TaskMessage message = TaskMessage.__new__(TaskMessage)
    cdef dict headers
    cdef dict properties
    cdef bint checked = False
    cdef bint compressed = False
    cdef bint is_raw = delivery._headers is None and delivery._raw is not None
    cdef object body
    message.retries = 0
    message.replaced_task_nesting = 0
    if is_raw:
        _set_raw_headers(message, delivery, &compressed)
    else:
        headers = delivery.get_headers()
        compressed = bool(headers.get(_COMPRESSION))
        _set_headers(message, headers)
    body = _read_body(delivery, compressed, loads, unpack, &checked)
    if isinstance(body, dict):
        _set_body_1(message, <dict?> body, checked)
        _set_headers(message, delivery.get_headers())  # they count more
    elif message.task is not None:
        _set_body_2(message, body, checked)
    if not message.task:
        raise DecodeError("task message: neither a header nor the body names the task")
    if not message.id:
        raise DecodeError("task message: it has no id")
    if message.root_id is None:
        message.root_id = message.id
    if delivery._properties is None and delivery._raw is not None:
        read_origin(delivery, message)
    else:
        properties = delivery.get_properties()
        message.reply_to = properties.get("reply_to") or None
        message.correlation_id = properties.get("correlation_id")
    return message
