# Outcomes that wait for their settling, and what is asked of all of them at once.

cdef enum:
    KEY_BYTES = 48  # `engine.worker.finished`


cdef class Pending:
    """Jobs that have ended and are not settled. `engine.worker.settling` settles them."""

    cdef public list pending
    cdef public double oldest_mono_s

    def __cinit__(self, *args, **kwargs):
        self.pending = []

    cpdef int add(self, Job job, double now) except -1:
        """An outcome to be settled soon; ``now`` is when it ended."""
        if not self.pending:
            self.oldest_mono_s = now
        self.pending.append(job)
        return 0


def to_store(list jobs not None):
    """Those whose result is to be stored."""
    cdef Job job
    return [job for job in jobs if job.outcome.store]


def deliveries_to(int finish, list jobs not None):
    """The deliveries of the jobs that end so."""
    cdef Job job
    return [job.delivery for job in jobs if job.finish == finish]


def are_plain(list jobs not None):
    """Whether all of them are to be settled, and none has anything to publish before."""
    cdef Job job
    for job in jobs:
        if job.finish == NOTHING or job.outcome.publish:
            return False
    return True


def publish_nothing(list jobs not None):
    """Whether none of them has anything to publish."""
    cdef Job job
    for job in jobs:
        if job.outcome.publish:
            return False
    return True


def have_tombstones(list jobs not None):
    """Whether any of them has a tombstone that may be taken down."""
    cdef Job job
    for job in jobs:
        if job.tombstone_id is not None:
            return True
    return False


def finished_keys(list jobs not None):
    """The keys of those that are done with, KEY_BYTES each, end to end; one that is too long is left out."""
    cdef Job job
    cdef Py_ssize_t size
    cdef Py_ssize_t count = 0
    cdef char* at
    cdef bytes retries
    cdef bytes keys = PyBytes_FromStringAndSize(NULL, len(jobs) * KEY_BYTES)
    at = PyBytes_AS_STRING(keys)
    for job in jobs:
        if job.known is None or (job.finish != ACK and job.finish != NOTHING):
            continue
        size = put_text(at, KEY_BYTES, job.message.id)
        retries = b"/0;" if job.message.retries == 0 else b"/%d;" % job.message.retries
        if size + PyBytes_GET_SIZE(retries) > KEY_BYTES:
            continue
        memcpy(at + size, PyBytes_AS_STRING(retries), PyBytes_GET_SIZE(retries))
        size += PyBytes_GET_SIZE(retries)
        memset(at + size, b" ", KEY_BYTES - size)
        at += KEY_BYTES
        count += 1
    return keys if count == len(jobs) else keys[: count * KEY_BYTES]
