# Messages of one task that differ in nothing but id and arguments: the rest of the header table is encoded
# once. And ids, a block at a time.

cdef bytes _table_entry(str name, bytes value):
    """One entry of a field table: the name as a short string, then the value with its type."""
    cdef bytes text = name.encode("ascii")
    return bytes((len(text),)) + text + value


cdef bytes _IGNORE_RESULT = _table_entry("ignore_result", b"t")


@cython.final
cdef class TaskTemplate:
    """Makes lean protocol-2 messages of one task on one route; see `_codec.pyi`."""

    cdef object exchange
    cdef object routing_key
    cdef object delivery_mode
    cdef object priority
    cdef bytes head  # of the table, behind its length: the task's name, and the id up to its length

    def __init__(self, str task not None, *, exchange="", routing_key="", delivery_mode=2, priority=None):
        cdef bytes name = task.encode("utf-8", "surrogatepass")
        self.exchange = exchange
        self.routing_key = routing_key
        self.delivery_mode = delivery_mode
        self.priority = priority
        self.head = _table_entry("task", b"S" + len(name).to_bytes(4, "big") + name)
        self.head += _table_entry("id", b"S")

    cpdef Message message(
        self, str id, object args, object kwargs, object ignore_result=None, object reply_to=None
    ):
        cdef Message message
        if not (PyTuple_CheckExact(args) or PyList_CheckExact(args)) or not PyDict_CheckExact(kwargs):
            return None
        if id is None or not PyUnicode_IS_COMPACT_ASCII(id):
            return None
        message = Message.__new__(Message)
        message.body = _plain_body(args, kwargs)
        message.content_type = "application/json"
        message.content_encoding = "utf-8"
        message._raw_headers = self.table(id, ignore_result)
        message.exchange = self.exchange
        message.routing_key = self.routing_key
        message.delivery_mode = self.delivery_mode
        message.priority = self.priority
        message.correlation_id = id
        message.reply_to = reply_to
        return message

    cdef bytes table(self, str id, object ignore_result):
        cdef Py_ssize_t head_size = PyBytes_GET_SIZE(self.head)
        cdef Py_ssize_t id_size = PyUnicode_GET_LENGTH(id)
        cdef Py_ssize_t flag_size = 0 if ignore_result is None else PyBytes_GET_SIZE(_IGNORE_RESULT) + 1
        cdef Py_ssize_t size = head_size + 4 + id_size + flag_size
        cdef bytes table
        cdef uint8_t* at
        if size > 0x7FFFFFFF:
            raise MessageTooLarge("the task's name and id are too long for a header")
        table = PyBytes_FromStringAndSize(NULL, 4 + size)
        at = <uint8_t*>PyBytes_AS_STRING(table)
        put_u32(at, <uint32_t>size)
        memcpy(at + 4, PyBytes_AS_STRING(self.head), head_size)
        at += 4 + head_size
        put_u32(at, <uint32_t>id_size)
        memcpy(at + 4, PyUnicode_DATA(id), id_size)
        at += 4 + id_size
        if flag_size:
            memcpy(at, PyBytes_AS_STRING(_IGNORE_RESULT), flag_size - 1)
            at[flag_size - 1] = 1 if ignore_result else 0
        return table


cpdef list format_ids(bytes random):
    """Version-4 UUIDs as text (RFC 4122, section 4.4), one for each 16 of the random bytes."""
    cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(random)
    cdef Py_ssize_t count = PyBytes_GET_SIZE(random) // 16
    cdef Py_ssize_t index
    cdef list ids = []
    for index in range(count):
        ids.append(_format_id(at + 16 * index))
    return ids


cdef str _format_id(const uint8_t* at):
    cdef char[36] text
    cdef int index
    cdef int place = 0
    cdef uint8_t byte
    for index in range(16):
        byte = at[index]
        if index == 6:
            byte = (byte & 0x0F) | 0x40  # the version
        elif index == 8:
            byte = (byte & 0x3F) | 0x80  # the variant
        if index == 4 or index == 6 or index == 8 or index == 10:
            text[place] = c"-"
            place += 1
        text[place] = _HEX[byte >> 4]
        text[place + 1] = _HEX[byte & 15]
        place += 2
    return PyUnicode_DecodeUTF8(text, 36, NULL)
