# A child's task record in the scoreboard's shared memory. `engine.worker.scoreboard` reads it, and has the
# layout: sequence, phase, started, deadline, 48 bytes of the id, 40 of the name, sequence.

cdef enum:
    ID_BYTES = 48
    NAME_BYTES = 40


cdef struct Record:
    uint64_t head
    uint64_t phase
    double started_mono_s
    double deadline_mono_s
    char task_id[ID_BYTES]
    char name[NAME_BYTES]
    uint64_t tail


cdef Py_ssize_t put_text(char* place, Py_ssize_t room, object text) except -1:
    """As much of a text in UTF-8 as there is room for; how many bytes all of it has. Lone surrogates, which
    JSON can bring, become ?."""
    cdef Py_ssize_t size = 0
    cdef const char* data = PyUnicode_AsUTF8AndSize(text, &size) if PyUnicode_CheckExact(text) else NULL
    cdef bytes encoded
    if data == NULL:
        PyErr_Clear()
        encoded = str(text).encode("utf-8", "replace")
        data, size = PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded)
    memcpy(place, data, min(size, room))
    return size


cdef int fill(char* place, Py_ssize_t room, object text) except -1:
    """The first bytes of a text, the rest zero."""
    cdef Py_ssize_t size = put_text(place, room, text)
    if size < room:
        memset(place + size, 0, room - size)
    return 0


@cython.final
cdef class TaskRecord:
    """Writes what a child runs. One writer a record; readers see by the sequence whether it was whole."""

    cdef Py_buffer view
    cdef Record* at
    cdef uint32_t* word
    cdef uint64_t sequence

    def __cinit__(self, mapping, Py_ssize_t record_at, Py_ssize_t word_at):
        PyObject_GetBuffer(mapping, &self.view, PyBUF_WRITABLE)
        if record_at < 0 or record_at + <Py_ssize_t>sizeof(Record) > self.view.len:
            raise ValueError(f"no record fits at byte {record_at} of {self.view.len}")
        if word_at < 0 or word_at + 4 > self.view.len:
            raise ValueError(f"no word fits at byte {word_at} of {self.view.len}")
        self.at = <Record*>(<char*>self.view.buf + record_at)
        self.word = <uint32_t*>(<char*>self.view.buf + word_at)

    def __init__(self, mapping, record_at, word_at):
        pass  # for the signature; __cinit__ has done it

    def __dealloc__(self):
        PyBuffer_Release(&self.view)

    cpdef int begin(
        self, object task_id, object name, double started_mono_s, double deadline_mono_s, int phase
    ) except -1:
        """A task is about to run: this is what a post-mortem will find."""
        cdef Record record
        self.sequence += 1
        record.head = record.tail = self.sequence
        record.phase = phase
        record.started_mono_s = started_mono_s
        record.deadline_mono_s = deadline_mono_s
        fill(record.task_id, ID_BYTES, task_id)
        fill(record.name, NAME_BYTES, name)
        memcpy(self.at, &record, sizeof(Record))
        return 0

    cpdef int phase(self, int phase) except -1:
        """The child goes on to another phase; the record stays as it is."""
        (<uint8_t*>&self.at.phase)[0] = <uint8_t>phase
        return 0
