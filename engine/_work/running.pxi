# The stack of what runs here and now. `engine.context` is what the library reads it by.

stack = ContextVar("engine_task_stack", default=None)
cdef object _stack = stack


@cython.freelist(8)
cdef class Running:
    """One entry of the stack: a task, its request, and what lies below.

    In a worker the request is made when it is first asked for, by ``maker.request(message, delivery)``: most
    tasks never look at it.
    """

    cdef readonly object task
    cdef readonly object below
    cdef object made
    cdef object maker
    cdef TaskMessage message
    cdef object delivery

    def __init__(self, task, request, below):
        self.task = task
        self.made = request
        self.below = below

    @property
    def request(self):
        return self.get_request()

    cdef object get_request(self):
        cdef object made
        if self.made is None and self.maker is not None:
            made = self.maker.request(self.message, self.delivery)
            if self.made is None:  # another of the task's threads may have been faster: its outbox counts
                self.made = made
        return self.made


cdef Running running_job(Job job, object maker):
    """The entry of a job that starts in a worker."""
    cdef Running running = Running.__new__(Running)
    running.task = job.known.task
    running.maker = maker
    running.message = job.message
    running.delivery = job.delivery
    running.below = get_value(_stack)
    return running
