# What the Redis transport says and hears for each message: commands in RESP (the Redis serialization
# protocol), and the answer of its claiming script (engine/transport/redis_scripts.py, CLAIM).

cdef bytes _resp_text(object word):
    if PyUnicode_CheckExact(word):
        return (<str> word).encode("utf-8")
    return str(word).encode("utf-8")


cdef char* _put_size(char* at, char mark, Py_ssize_t size) noexcept:
    """``$12`` and a line's end; where it ends. At most 24 bytes."""
    cdef char[20] digits
    cdef int count = 0
    while True:
        digits[count] = c'0' + <char> (size % 10)
        count += 1
        size //= 10
        if size == 0:
            break
    at[0] = mark
    at += 1
    while count:
        count -= 1
        at[0] = digits[count]
        at += 1
    at[0] = c'\r'
    at[1] = c'\n'
    return at + 2


cdef Py_ssize_t _size_width(Py_ssize_t size) noexcept:
    """What `_put_size` takes."""
    cdef Py_ssize_t width = 4
    while size >= 10:
        size //= 10
        width += 1
    return width


cpdef bytes encode_command(object words):
    """One command: bytes as they are, anything else as its text."""
    cdef list parts = []
    cdef Py_ssize_t room = 0
    cdef Py_ssize_t size
    cdef object word
    cdef bytes part
    cdef bytes made
    cdef char* at
    for word in words:
        part = <bytes> word if PyBytes_CheckExact(word) else _resp_text(word)
        parts.append(part)
        size = PyBytes_GET_SIZE(part)
        room += _size_width(size) + size + 2
    room += _size_width(len(parts))
    keep_warm(room)
    made = PyBytes_FromStringAndSize(NULL, room)
    at = _put_size(PyBytes_AS_STRING(made), c'*', len(parts))
    for part in parts:
        at = _put_size(at, c'$', PyBytes_GET_SIZE(part))
        memcpy(at, PyBytes_AS_STRING(part), PyBytes_GET_SIZE(part))
        at += PyBytes_GET_SIZE(part)
        at[0] = c'\r'
        at[1] = c'\n'
        at += 2
    return made


cpdef bytes encode_push(bytes head, Message message, str delivery_tag):
    """A whole command whose last word is the envelope: ``head``, the word's size, the envelope."""
    cdef _EnvelopeWriter writer = _EnvelopeWriter.__new__(_EnvelopeWriter)
    cdef Py_ssize_t head_size = PyBytes_GET_SIZE(head)
    cdef Py_ssize_t gap = head_size + 24
    cdef char[24] size
    cdef char* begin
    cdef Py_ssize_t count
    _write_envelope(writer, message, delivery_tag, gap)
    begin = PyBytes_AS_STRING(writer.target) + gap
    count = _put_size(size, c'$', writer.at - begin) - size
    writer.raw(b"\r\n", 2)
    begin -= count
    memcpy(begin, size, count)
    begin -= head_size
    memcpy(begin, PyBytes_AS_STRING(head), head_size)
    return writer.taken(gap - count - head_size)


cdef bint _is_text_of(object text, bytes data):
    return PyUnicode_CheckExact(text) and PyUnicode_IS_COMPACT_ASCII(text) and (
        PyUnicode_GET_LENGTH(text) == PyBytes_GET_SIZE(data)
    ) and memcmp(PyUnicode_DATA(text), PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)) == 0


cdef object _tag(bytes tag):
    """As text; bytes when it is none, for a command takes them as they are."""
    try:
        return tag.decode("utf-8")
    except UnicodeDecodeError:
        return tag


cpdef list decode_claims(
    list answer, tuple queues, object epoch, object context, set held, object on_unreadable
):
    """The deliveries of a claim's answer, flat [tag, index of the list, envelope, ...]; their tags are added
    to ``held``. One that is no envelope becomes a delivery of its bytes, and ``on_unreadable(queue, error)``
    is told."""
    cdef list found = []
    cdef Py_ssize_t count = len(queues)
    cdef Py_ssize_t at
    cdef Delivery delivery
    cdef bytes tag
    cdef object queue
    for at in range(0, len(answer) - 2, 3):
        queue = queues[<Py_ssize_t> answer[at + 1] % count]
        tag = answer[at]
        try:
            delivery = decode_envelope(answer[at + 2])
        except DecodeError as error:
            on_unreadable(queue, error)
            delivery = Delivery(answer[at + 2])
        if not _is_text_of(delivery.tag, tag):
            delivery.tag = _tag(tag)
        delivery.epoch = epoch
        delivery.queue = queue
        delivery.context = context
        held.add(delivery.tag)
        found.append(delivery)
    return found


cpdef dict held_tags(object deliveries, object epoch, set held):
    """Tags of this epoch's deliveries that are in ``held``, by their context; they are held no more."""
    cdef dict found = {}
    cdef list tags = None
    cdef object last = None
    cdef Delivery delivery
    for delivery in deliveries:
        if delivery.context is None or delivery.epoch != epoch or delivery.tag not in held:
            continue
        held.discard(delivery.tag)
        if tags is None or delivery.context is not last:
            last = delivery.context
            tags = found.setdefault(last, [])
        tags.append(delivery.tag)
    return found
