# How long the runs of one task take. `engine.worker.prefetch` says what follows from it.

cdef enum:
    KNOWN_AFTER = 3

cdef double EASE = 0.2


@cython.final
cdef class Pace:
    """How long the runs of one task take: a mean that follows the latest ones.

    Args:
        short_s: with a mean below it the task is known to be short.
        long_s: with a mean above it the task is known to be long.
    """

    cdef readonly long long runs
    cdef readonly double mean_s
    cdef readonly bint short
    cdef double short_s
    cdef double long_s

    def __init__(self, double short_s, double long_s):
        self.short_s = short_s
        self.long_s = long_s

    cpdef int record(self, double duration_s) except -1:
        """One more run."""
        self.runs += 1
        self.mean_s += (duration_s - self.mean_s) * (EASE if self.runs > KNOWN_AFTER else 1.0 / self.runs)
        self.short = self.mean_s < self.short_s and self.runs >= KNOWN_AFTER
        return 0

    @property
    def long(self):
        """Known to be long: nothing should be held behind it."""
        return self.mean_s > self.long_s
