# cython: language_level=3
"""A native thread that keeps one socket alive while user code runs; and a wait for one socket's bytes.

Rules of the thread
-----
* The thread never takes the GIL and never runs Python: a C call that holds the GIL cannot stop it.
* All signals are blocked in it, so handlers stay with the main thread.
* The main thread writes only while the keeper is disarmed; one mutex covers a whole send, so ``disarm``
  returns with no send under way and says what a full socket left of the last record.
* ``arm`` wakes nobody: the thread looks up every quarter of the interval anyway. That keeps arm and disarm at
  the cost of an uncontended mutex; the price is that a record may come a quarter of the interval late.
* In a forked child the thread does not exist: ``stop`` joins nothing there and leaves the mutex alone.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.types cimport pid_t
from posix.unistd cimport getpid


cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    enum: SIG_SETMASK
    int sigfillset(sigset_t *signals)


cdef extern from "<sys/socket.h>" nogil:
    enum: MSG_DONTWAIT
    enum: MSG_NOSIGNAL
    ssize_t send(int fd, const void *data, size_t size, int flags)
    ssize_t recv(int fd, void *data, size_t size, int flags)


cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_t:
        pass
    ctypedef struct pthread_attr_t:
        pass
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef struct pthread_condattr_t:
        pass
    int pthread_create(
        pthread_t *thread, pthread_attr_t *attributes, void *(*run)(void *) noexcept nogil, void *argument
    )
    int pthread_join(pthread_t thread, void **result)
    int pthread_attr_init(pthread_attr_t *attributes)
    int pthread_attr_setstacksize(pthread_attr_t *attributes, size_t size)
    int pthread_attr_destroy(pthread_attr_t *attributes)
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)
    int pthread_condattr_init(pthread_condattr_t *attributes)
    int pthread_condattr_setclock(pthread_condattr_t *attributes, int clock)
    int pthread_condattr_destroy(pthread_condattr_t *attributes)
    int pthread_cond_init(pthread_cond_t *condition, pthread_condattr_t *attributes)
    int pthread_cond_signal(pthread_cond_t *condition)
    int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, timespec *deadline)
    int pthread_cond_destroy(pthread_cond_t *condition)
    int pthread_sigmask(int how, sigset_t *new, sigset_t *old)


# The thread touches no TLS-heavy library and no deep call: 128 KiB is far more than it uses.
cdef enum:
    STACK_BYTES = 131072
    TORN_RETRY_NS = 100000000


# What the two threads share. Everything but ``fd`` and ``interval_ns`` is written under the mutex, or by the
# main thread while the keeper is disarmed (the thread then reads only ``armed`` and ``stopping``).
cdef struct Shared:
    pthread_mutex_t mutex
    pthread_cond_t condition
    int fd
    long long interval_ns
    long long last_ns
    bint armed
    bint stopping
    int error
    long long sent
    long long sent_since_arm
    char *records  # all of them end to end
    size_t *ends  # where each ends in ``records``
    size_t count
    size_t position  # the next to send
    char *repeat
    size_t repeat_size
    size_t torn  # bytes of the current record that are out already


# Tracing, in a coverage build, takes the GIL: what the thread runs is left out of it.
@cython.linetrace(False)
cdef inline long long _now_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <long long>now.tv_sec * 1000000000 + now.tv_nsec


@cython.linetrace(False)
cdef size_t _current(Shared *shared, char **start) noexcept nogil:
    """The record to send next, or size 0 when there is none left."""
    cdef size_t begin
    if shared.position < shared.count:
        begin = shared.ends[shared.position - 1] if shared.position else 0
        start[0] = shared.records + begin
        return shared.ends[shared.position] - begin
    start[0] = shared.repeat
    return shared.repeat_size


@cython.linetrace(False)
cdef void _send_current(Shared *shared, long long now) noexcept nogil:
    """Send the current record, or the rest of a torn one. Called with the mutex held; never blocks."""
    cdef char *start = NULL
    cdef size_t size = _current(shared, &start)
    cdef ssize_t written
    if size == 0:
        return
    written = send(shared.fd, start + shared.torn, size - shared.torn, MSG_DONTWAIT | MSG_NOSIGNAL)
    if written < 0:
        # A full socket has bytes under way, which is as good as a heartbeat: try again later.
        if errno != EAGAIN and errno != EINTR:
            shared.error = errno
        return
    shared.torn += <size_t>written
    if shared.torn < size:
        return
    shared.torn = 0
    shared.last_ns = now
    shared.sent += 1
    shared.sent_since_arm += 1
    if shared.position < shared.count:
        shared.position += 1


@cython.linetrace(False)
cdef void *_run(void *argument) noexcept nogil:
    cdef Shared *shared = <Shared *>argument
    cdef long long now, wake, due
    cdef long long tick = shared.interval_ns // 4
    cdef timespec deadline
    pthread_mutex_lock(&shared.mutex)
    while not shared.stopping:
        now = _now_ns()
        wake = now + tick
        if shared.armed and shared.error == 0:
            if shared.torn or now >= shared.last_ns + shared.interval_ns:
                _send_current(shared, now)
            due = shared.last_ns + shared.interval_ns
            if now < due < wake:
                wake = due
            if shared.torn and wake > now + TORN_RETRY_NS:
                wake = now + TORN_RETRY_NS
        deadline.tv_sec = <long>(wake // 1000000000)
        deadline.tv_nsec = <long>(wake % 1000000000)
        pthread_cond_timedwait(&shared.condition, &shared.mutex, &deadline)
    pthread_mutex_unlock(&shared.mutex)
    return NULL


class ReceiveError(OSError):
    """See ``_keepalive.pyi``."""


def receive(int fd, buffer):
    """One recv(2); see ``_keepalive.pyi``."""
    cdef Py_buffer view
    cdef ssize_t size
    PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    try:
        with nogil:
            size = recv(fd, view.buf, <size_t>view.len, 0)
        if size < 0:
            if errno == EINTR:
                PyErr_CheckSignals()
            elif errno != EAGAIN:
                PyErr_SetFromErrno(ReceiveError)
        return size
    finally:
        PyBuffer_Release(&view)


cdef tuple _NOTHING_SENT = (0, b"")


@cython.final
cdef class Keeper:
    """Writes prepared records to a socket while it is armed; see ``_keepalive.pyi`` for the contract."""

    cdef Shared *shared
    cdef pthread_t thread
    cdef bint running
    cdef pid_t pid

    def __cinit__(self, int fd, double interval_s):
        cdef pthread_condattr_t attributes
        if not interval_s > 0:
            raise ValueError(f"interval_s must be positive, not {interval_s}")
        self.shared = <Shared *>malloc(sizeof(Shared))
        if self.shared == NULL:
            raise MemoryError
        memset(self.shared, 0, sizeof(Shared))
        self.shared.fd = fd
        self.shared.interval_ns = <long long>(interval_s * 1e9)
        self.shared.last_ns = _now_ns()
        pthread_mutex_init(&self.shared.mutex, NULL)
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(&self.shared.condition, &attributes)
        pthread_condattr_destroy(&attributes)
        self.pid = getpid()

    def __init__(self, int fd, double interval_s):
        pass  # for the signature; __cinit__ has done it

    def __dealloc__(self):
        if self.shared == NULL:
            return
        self._end()
        if self.pid == getpid():  # a mutex that was held at the fork must not be destroyed
            pthread_cond_destroy(&self.shared.condition)
            pthread_mutex_destroy(&self.shared.mutex)
        free(self.shared.records)
        free(self.shared.ends)
        free(self.shared.repeat)
        free(self.shared)

    def start(self):
        """Start the thread. Once."""
        cdef pthread_attr_t attributes
        cdef sigset_t blocked, before
        cdef int failure
        if self.running:
            raise RuntimeError("this keeper runs already")
        self.shared.stopping = False
        sigfillset(&blocked)
        pthread_attr_init(&attributes)
        pthread_attr_setstacksize(&attributes, STACK_BYTES)
        pthread_sigmask(SIG_SETMASK, &blocked, &before)
        failure = pthread_create(&self.thread, &attributes, _run, self.shared)
        pthread_sigmask(SIG_SETMASK, &before, NULL)
        pthread_attr_destroy(&attributes)
        if failure:
            raise OSError(failure, "cannot start the keepalive thread")
        self.running = True
        self.pid = getpid()

    def arm(self, records=None, repeat=None):
        """From now on send ``records`` in order, then ``repeat`` for ever; None for both: as last time."""
        if records is not None or repeat is not None:
            self._load(records, repeat)
        pthread_mutex_lock(&self.shared.mutex)
        self.shared.sent_since_arm = 0
        self.shared.armed = True
        pthread_mutex_unlock(&self.shared.mutex)

    def disarm(self):
        """Stop; nothing is sent after return. (records begun since arm, the rest of a torn one)."""
        cdef Shared *shared = self.shared
        cdef char *start = NULL
        cdef size_t size
        cdef bytes rest = b""
        cdef long long sent
        pthread_mutex_lock(&shared.mutex)
        shared.armed = False
        sent = shared.sent_since_arm
        shared.sent_since_arm = 0
        pthread_mutex_unlock(&shared.mutex)
        if shared.torn:
            size = _current(shared, &start)
            rest = start[shared.torn:size]
            shared.torn = 0
            shared.sent += 1
            sent += 1
            if shared.position < shared.count:
                shared.position += 1
        elif sent == 0:
            return _NOTHING_SENT
        return (sent, rest)

    def touch(self):
        """Traffic flowed just now."""
        if not self.shared.armed:
            self.shared.last_ns = _now_ns()
            return
        pthread_mutex_lock(&self.shared.mutex)
        self.shared.last_ns = _now_ns()
        pthread_mutex_unlock(&self.shared.mutex)

    def stop(self):
        """End the thread. Idempotent; never raises."""
        self._end()

    @property
    def error(self):
        """The errno of the send that failed, or 0. After an error the thread sends no more."""
        return self.shared.error

    @property
    def sent(self):
        """Records sent since ``start``."""
        return self.shared.sent

    cdef int _end(self) except -1:
        if not self.running:
            return 0
        self.running = False
        if self.pid != getpid():
            return 0
        pthread_mutex_lock(&self.shared.mutex)
        self.shared.stopping = True
        self.shared.armed = False
        pthread_cond_signal(&self.shared.condition)
        pthread_mutex_unlock(&self.shared.mutex)
        pthread_join(self.thread, NULL)  # it holds no lock we need and never blocks: this takes microseconds
        return 0

    cdef int _load(self, records, repeat) except -1:
        """Replace what is to be sent. The copies are the thread's own, so no reference is held."""
        cdef list parts = list(records) if records is not None else []
        cdef bytes joined = b"".join(parts)
        cdef bytes again = bytes(repeat) if repeat is not None else b""
        cdef size_t index, end = 0, count = <size_t>len(parts)
        cdef Shared *shared = self.shared
        cdef char *data = <char *>malloc(<size_t>len(joined) + 1)
        cdef size_t *ends = <size_t *>malloc((count + 1) * sizeof(size_t))
        cdef char *repeated = <char *>malloc(<size_t>len(again) + 1)
        if data == NULL or ends == NULL or repeated == NULL:
            free(data)
            free(ends)
            free(repeated)
            raise MemoryError
        memcpy(data, <const char *>joined, <size_t>len(joined))
        memcpy(repeated, <const char *>again, <size_t>len(again))
        for index in range(count):
            end += <size_t>len(parts[index])
            ends[index] = end
        pthread_mutex_lock(&shared.mutex)
        shared.records, data = data, shared.records
        shared.ends, ends = ends, shared.ends
        shared.repeat, repeated = repeated, shared.repeat
        shared.count = count
        shared.position = 0
        shared.torn = 0
        shared.repeat_size = <size_t>len(again)
        pthread_mutex_unlock(&shared.mutex)
        free(data)
        free(ends)
        free(repeated)
        return 0
