# Which messages are to be run at once. `engine.worker.intake` deals with the others.


cdef class Sorter:
    """Sorts deliveries.

    A subclass has ``unreadable(delivery, error)``, ``unknown(delivery, message)``, ``decided_already(job)``,
    ``timely(delivery, message, known)``, called for messages that need them.

    Args:
        decode: gives the task message of a delivery; raises CodecError.
        known: the tasks this child has met, by name; ``find(name)`` adds one, or returns None.
        tombstones, revoked: by task id; with anything in them every message is looked up.
    """

    cdef object decode
    cdef dict known
    cdef object find
    cdef object tombstones
    cdef object revoked

    def __init__(self, decode, dict known not None, find, tombstones, revoked):
        self.decode = decode
        self.known = known
        self.find = find
        self.tombstones = tombstones
        self.revoked = revoked

    cpdef Job sort(self, object delivery):
        """The job to run, or None when the message is dealt with."""
        cdef TaskMessage message
        cdef Known known
        cdef Job job
        cdef PyObject* found
        try:
            message = self.decode(delivery)
        except CodecError as error:
            self.unreadable(delivery, error)
            return None
        found = PyDict_GetItemWithError(self.known, message.task)
        known = <Known>found if found != NULL else self.find(message.task)
        job = Job.__new__(Job)
        job.delivery = delivery
        job.message = message
        job.known = known
        job.outcome = UNDECIDED
        if (delivery.redelivered or self.tombstones or self.revoked) and self.decided_already(job):
            return None
        if (message.eta is not None or message.expires is not None) and not self.timely(
            delivery, message, known
        ):
            return None
        if known is None:
            self.unknown(delivery, message)
            return None
        return job
