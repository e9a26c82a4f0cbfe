# One claimed message on its way through a child, what a child knows of its task, and how its run ended.

# what is to be done with the message, once its outcome is safe (`engine.worker.job` names them)
cdef enum:
    ACK = 0
    REQUEUE = 1
    DROP = 2
    NOTHING = 3


@cython.freelist(64)
cdef class Outcome:
    """How one run of a task ended: what is to be stored, published and done with the message."""

    cdef public object state
    cdef public object result
    cdef public object traceback
    cdef public bint store
    cdef public bint requeue
    cdef public object publish
    cdef public double runtime_s

    def __init__(
        self, state, result=None, traceback=None, store=True, requeue=False, publish=(), runtime_s=0.0
    ):
        self.state = state
        self.result = result
        self.traceback = traceback
        self.store = store
        self.requeue = requeue
        self.publish = publish
        self.runtime_s = runtime_s

    def __repr__(self):
        return f"<Outcome {self.state}>"


cdef class Known:
    """What a run needs of a registered task.

    In few places: with thousands of tasks in turn none of them is in the processor's cache, nor are their
    classes in Python's cache of attributes, so each further place costs a task some 0.1 to 0.5 µs."""

    cdef public object task
    cdef public Pace pace
    cdef public bint careful
    cdef public bint stores
    cdef public double hard_s
    cdef public double soft_s
    cdef frozenset hooks
    cdef object call

    def __init__(self, task, Pace pace not None, frozenset hooks not None):
        self.task = task
        self.pace = pace
        self.hooks = hooks
        self.call = task if "__call__" in hooks else task.run


cdef Outcome UNDECIDED = Outcome("PENDING", store=False)


@cython.freelist(64)
cdef class Job:
    """A delivery, its task message (without name and id when it could not be read), and how it ended."""

    cdef readonly object delivery
    cdef readonly TaskMessage message
    cdef readonly Known known
    cdef public Outcome outcome
    cdef public int finish
    cdef public object children
    cdef public object tombstone_id

    def __init__(self, delivery, TaskMessage message not None, Known known):
        self.delivery = delivery
        self.message = message
        self.known = known
        self.outcome = UNDECIDED  # shared and never changed: replaced when the job has run
        self.finish = ACK
