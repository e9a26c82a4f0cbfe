# What is written grows in a WriteBuffer; what is read is walked by a Cursor that checks every step.
#
# A WriteBuffer starts in storage of its own, doubles when it must, and lets lengths be filled in after what
# they count was written; what outgrew that storage stands in the bytes object it becomes. A Cursor is two
# pointers into bytes that somebody else keeps alive; every read first asks `cursor_need`, so no read passes
# the end of its parent. All numbers are big-endian (AMQP 4.2.1).

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object text)
    void* PyUnicode_DATA(object text)
    object PyUnicode_DecodeUTF8(const char* data, Py_ssize_t size, const char* errors)
    int _PyBytes_Resize(PyObject** data, Py_ssize_t size) except -1
    Py_ssize_t PY_SSIZE_T_MAX


cdef enum:
    INLINE_SIZE = 1024
    LARGE_BLOCK = 128 * 1024
    MOST_WARM = 16 * 1024 * 1024

cdef size_t kept_warm = LARGE_BLOCK  # up to which size that has been seen to


cdef inline void keep_warm(size_t size) noexcept:
    """Let what is freed of such blocks stay with the process for the next ones. glibc's heap takes blocks up
    to the size of the largest that it has unmapped, and keeps twice that (mallopt(3), M_MMAP_THRESHOLD); so
    it is shown one, which nobody ever touches. Else each block is mapped anew, or cut off the heap's end and
    got again, and its page faults cost more than all that is done with its bytes."""
    global kept_warm
    cdef size_t shown
    if size > kept_warm:
        shown = min(size * 4, <size_t>MOST_WARM)
        kept_warm = shown // 4 if shown < MOST_WARM else <size_t>PY_SSIZE_T_MAX
        PyMem_RawFree(PyMem_RawMalloc(shown))


@cython.internal
@cython.final
@cython.freelist(4)
cdef class WriteBuffer:
    cdef uint8_t* data
    cdef size_t used
    cdef size_t size
    cdef PyObject* outgrown  # a bytes object of `size` that nobody else has seen yet
    cdef uint8_t[INLINE_SIZE] inline_storage

    def __cinit__(self):
        self.data = self.inline_storage
        self.size = INLINE_SIZE
        self.used = 0
        self.outgrown = NULL

    def __dealloc__(self):
        Py_XDECREF(self.outgrown)

    cdef inline uint8_t* reserve(self, size_t more) except NULL:
        """Room for ``more`` bytes; where they go. The caller writes them and raises ``used``."""
        if self.size - self.used < more:
            self.grow(more)
        return self.data + self.used

    cdef int grow(self, size_t more) except -1:
        # to no more than what is needed where that is much: the C library serves sizes that come again best
        cdef size_t size = max(self.size * 2, self.used + more)
        if more > <size_t>PY_SSIZE_T_MAX // 2 - self.used:
            raise MemoryError
        self.data = self.inline_storage  # so that nothing points into an object that could not grow
        keep_warm(size)
        if self.outgrown == NULL:
            first = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
            Py_INCREF(first)
            self.outgrown = <PyObject*>first
            memcpy(PyBytes_AS_STRING(first), self.inline_storage, self.used)
        else:
            _PyBytes_Resize(&self.outgrown, <Py_ssize_t>size)
        self.data = <uint8_t*>PyBytes_AS_STRING(<object>self.outgrown)
        self.size = size
        return 0

    cdef inline int write_u8(self, uint8_t value) except -1:
        self.reserve(1)[0] = value
        self.used += 1
        return 0

    cdef inline int write_u16(self, uint16_t value) except -1:
        put_u16(self.reserve(2), value)
        self.used += 2
        return 0

    cdef inline int write_u32(self, uint32_t value) except -1:
        put_u32(self.reserve(4), value)
        self.used += 4
        return 0

    cdef inline int write_u64(self, uint64_t value) except -1:
        put_u64(self.reserve(8), value)
        self.used += 8
        return 0

    cdef inline int write_bytes(self, const void* source, size_t count) except -1:
        if count:
            memcpy(self.reserve(count), source, count)
            self.used += count
        return 0

    cdef int write_text(self, object text, int width, str what) except -1:
        """A str as UTF-8 behind its length, which takes ``width`` bytes: 1 (short) or 4 (long)."""
        cdef const char* source
        cdef Py_ssize_t count
        cdef uint8_t* target
        if PyUnicode_IS_COMPACT_ASCII(text):
            source = <const char*>PyUnicode_DATA(text)
            count = PyUnicode_GET_LENGTH(text)
        else:
            try:
                source = PyUnicode_AsUTF8AndSize(text, &count)
            except UnicodeEncodeError:
                return self.write_octets(encode_surrogates(text), width, what)
        check_text_size(count, width, what)
        target = self.reserve(width + count)
        if width == 1:
            target[0] = <uint8_t>count
        else:
            put_u32(target, <uint32_t>count)
        memcpy(target + width, source, count)
        self.used += width + count
        return 0

    cdef int write_octets(self, bytes value, int width, str what) except -1:
        """Bytes behind their length."""
        cdef Py_ssize_t count = PyBytes_GET_SIZE(value)
        check_text_size(count, width, what)
        if width == 1:
            self.write_u8(<uint8_t>count)
        else:
            self.write_u32(<uint32_t>count)
        return self.write_bytes(PyBytes_AS_STRING(value), count)

    cdef inline size_t begin_length(self) except? 0:
        """Leave four bytes for a length; where they are, for ``end_length``."""
        self.write_u32(0)
        return self.used

    cdef inline int end_length(self, size_t start) except -1:
        """Fill in the length of all that was written since ``begin_length`` gave ``start``."""
        cdef size_t count = self.used - start
        if count > 0xFFFFFFFF:
            raise MessageTooLarge(f"{count} bytes do not fit the 32-bit length that AMQP gives a table")
        put_u32(self.data + start - 4, <uint32_t>count)
        return 0

    cdef bytes as_bytes(self):
        """What was written. The buffer is of no use after that."""
        if self.outgrown == NULL:
            return PyBytes_FromStringAndSize(<char*>self.data, self.used)
        self.data = self.inline_storage
        self.size = 0
        _PyBytes_Resize(&self.outgrown, <Py_ssize_t>self.used)
        whole = <object>self.outgrown
        Py_XDECREF(self.outgrown)
        self.outgrown = NULL
        return whole


cdef inline void put_u16(uint8_t* at, uint16_t value) noexcept:
    at[0] = <uint8_t>(value >> 8)
    at[1] = <uint8_t>value


cdef inline void put_u32(uint8_t* at, uint32_t value) noexcept:
    at[0] = <uint8_t>(value >> 24)
    at[1] = <uint8_t>(value >> 16)
    at[2] = <uint8_t>(value >> 8)
    at[3] = <uint8_t>value


cdef inline void put_u64(uint8_t* at, uint64_t value) noexcept:
    put_u32(at, <uint32_t>(value >> 32))
    put_u32(at + 4, <uint32_t>value)


cdef inline uint16_t get_u16(const uint8_t* at) noexcept:
    return <uint16_t>((<uint16_t>at[0] << 8) | at[1])


cdef inline uint32_t get_u32(const uint8_t* at) noexcept:
    return (<uint32_t>at[0] << 24) | (<uint32_t>at[1] << 16) | (<uint32_t>at[2] << 8) | at[3]


cdef inline uint64_t get_u64(const uint8_t* at) noexcept:
    return (<uint64_t>get_u32(at) << 32) | get_u32(at + 4)


cdef inline int check_text_size(Py_ssize_t count, int width, str what) except -1:
    if width == 1 and count > 255:
        raise EncodeError(f"{what} is {count} bytes long; AMQP allows at most 255 there")
    if count > 0xFFFFFFFF:
        raise MessageTooLarge(f"{what} is {count} bytes long; AMQP allows at most 4294967295 there")
    return 0


cdef bytes encode_surrogates(object text):
    """A str with lone surrogates: those that stand for bytes which were no UTF-8 become these bytes again."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


# ---------------------------------------------------------------------------------------------- reading

cdef struct Cursor:
    const uint8_t* at
    const uint8_t* end


cdef inline size_t cursor_left(Cursor* cursor) noexcept:
    return <size_t>(cursor.end - cursor.at)


cdef inline int cursor_need(Cursor* cursor, size_t count) except -1:
    if cursor_left(cursor) < count:
        raise DecodeError(f"{count} bytes should follow, there are only {cursor_left(cursor)}")
    return 0


cdef inline uint8_t read_u8(Cursor* cursor) except? 0:
    cursor_need(cursor, 1)
    cursor.at += 1
    return cursor.at[-1]


cdef inline uint16_t read_u16(Cursor* cursor) except? 0:
    cursor_need(cursor, 2)
    cursor.at += 2
    return get_u16(cursor.at - 2)


cdef inline uint32_t read_u32(Cursor* cursor) except? 0:
    cursor_need(cursor, 4)
    cursor.at += 4
    return get_u32(cursor.at - 4)


cdef inline uint64_t read_u64(Cursor* cursor) except? 0:
    cursor_need(cursor, 8)
    cursor.at += 8
    return get_u64(cursor.at - 8)


cdef inline const uint8_t* read_span(Cursor* cursor, size_t count) except NULL:
    """Where the next ``count`` bytes begin."""
    cursor_need(cursor, count)
    cursor.at += count
    return cursor.at - count


cdef inline str read_text(Cursor* cursor, size_t count):
    """UTF-8; a byte that is none becomes a lone surrogate, which writes back as that byte (PEP 383)."""
    return PyUnicode_DecodeUTF8(<const char*>read_span(cursor, count), count, b"surrogateescape")


cdef inline str read_short_text(Cursor* cursor):
    return read_text(cursor, read_u8(cursor))


cdef inline str read_short_name(Cursor* cursor):
    """A short string that is likely to come again: an exchange, a key, a header's name."""
    return read_name(cursor, read_u8(cursor))


# Names come again and again; making a str and its hash each time costs more than comparing a few bytes with
# the one made last time. Direct-mapped: a name that falls on another's slot replaces it. ASCII only.
cdef enum:
    NAME_SLOTS = 1024  # a power of two; at most 255 bytes each

cdef PyObject* name_slots[NAME_SLOTS]


cdef inline size_t name_slot(const uint8_t* at, size_t count) noexcept:
    cdef uint64_t first = 0
    cdef uint64_t last = 0
    if count >= 8:
        memcpy(&first, at, 8)
        memcpy(&last, at + count - 8, 8)
    else:
        memcpy(&first, at, count)
    first = (first ^ (last * <uint64_t>0x9E3779B97F4A7C15) ^ count) * <uint64_t>0xD6E8FEB86659FD93
    return <size_t>(first >> 54)


cdef str read_name(Cursor* cursor, size_t count):
    cdef const uint8_t* at = read_span(cursor, count)
    cdef size_t slot
    cdef PyObject* known
    if count == 0:
        return ""
    slot = name_slot(at, count)
    known = name_slots[slot]
    if (
        known != NULL
        and <size_t>PyUnicode_GET_LENGTH(<object>known) == count
        and memcmp(PyUnicode_DATA(<object>known), at, count) == 0
    ):
        return <str>known
    text = PyUnicode_DecodeUTF8(<const char*>at, count, b"surrogateescape")
    if PyUnicode_IS_ASCII(text):
        Py_INCREF(text)
        name_slots[slot] = <PyObject*>text
        Py_XDECREF(known)
    return <str>text
