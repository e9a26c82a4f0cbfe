# One run of one task, from its hooks to its outcome. What user code raises becomes an outcome, but for
# KeyboardInterrupt and its like, which go through. `engine.runner` is what is made of it.


cdef inline object call_task(object call, TaskMessage message):
    cdef object args = message.args
    cdef object kwargs = message.kwargs
    if PyList_CheckExact(args):
        args = PyList_AsTuple(args)
    elif not PyTuple_CheckExact(args):
        args = tuple(args)
    if kwargs:
        if not PyDict_Check(kwargs):  # `apply` takes any mapping, the C call a dict alone
            kwargs = dict(kwargs)
        return PyObject_Call(call, args, <PyObject*>kwargs)
    return PyObject_Call(call, args, NULL)


cdef class Runner:
    """Runs tasks. What a subclass adds is called when it is needed: `before`, `after`, `succeeded` for tasks
    with such hooks, `awaited` for coroutines, `follow_up` for calls with callbacks or a chain and `failed`
    when that fails, `raised` for what user code raises."""

    cpdef Outcome run(
        self, object app, Running running, TaskMessage message, object call, frozenset hooks, bint stores
    ):
        """Run ``call``, which is the task or its ``run``, once. ``stores``: whether the task keeps results,
        where the call says nothing. Raises nothing that user code raised as an error."""
        cdef double started_mono_s = mono_s()
        cdef object token = PyContextVar_Set(_stack, running)
        cdef Outcome outcome
        cdef object request
        try:
            outcome = self.outcome_of(app, running, message, call, hooks, stores)
            if hooks and "after_return" in hooks:
                self.after(running, message, outcome)
        finally:
            PyContextVar_Reset(_stack, token)
        request = running.made
        if request is not None and request.outbox:
            outcome.publish = [*request.outbox, *outcome.publish]
            request.outbox = []
        outcome.runtime_s = mono_s() - started_mono_s
        return outcome

    cdef Outcome outcome_of(
        self, object app, Running running, TaskMessage message, object call, frozenset hooks, bint stores
    ):
        cdef Outcome outcome
        cdef object result
        cdef object following = ()
        try:
            if hooks and "before_start" in hooks:
                self.before(running, message)
            result = call_task(call, message)
            if PyCoro_CheckExact(result):
                result = self.awaited(result)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # SystemExit and CancelledError included
            if forks.forked:
                forks.leave(error)
            return self.raised(app, running, message, error)
        if forks.forked:
            forks.leave()
        if message.callbacks or message.chain or message.chord:
            try:
                following = self.follow_up(app, running, message, result)
            except Exception as error:  # what follows does not take the result, or it cannot be written
                return self.failed(app, running, message, error)
        if hooks and "on_success" in hooks:
            self.succeeded(running, message, result)
        outcome = Outcome.__new__(Outcome)
        outcome.state = "SUCCESS"
        outcome.result = result
        # the call's word counts before the task's (celery/app/task.py, get_actual_ignore_result)
        outcome.store = stores if message.ignore_result is None else not message.ignore_result
        outcome.publish = following
        return outcome
