# Celery's task messages (W1): the value, and how it is written as protocol 2. task_decode.pxi reads it.
#
# Sources: celery/app/amqp.py (as_task_v2), celery/worker/request.py. Traps kept in mind: `timelimit` is
# [hard, soft]; `chain` is reversed, the next step is its last item; a missing `ignore_result` leaves it to
# the task's own setting, False overrules that setting.

# Headers a broker adds when it dead-letters or counts; sent out again, RabbitMQ would take the message for
# one that goes in a circle and drop it.
cdef tuple _BROKER_HEADERS = (
    "x-death", "x-first-death-exchange", "x-first-death-queue", "x-first-death-reason",
    "x-last-death-exchange", "x-last-death-queue", "x-last-death-reason", "x-delivery-count",
)

cdef bytes _NO_EMBED = b',{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'


@cython.freelist(64)
cdef class TaskMessage:
    """A Celery task message (protocol 2), before encoding and after decoding. Its fields: `_codec.pxd`."""

    def __init__(
        self,
        task,
        id,
        args=(),
        kwargs=None,
        *,
        eta=None,
        expires=None,
        group=None,
        group_index=None,
        retries=0,
        time_limit=None,
        soft_time_limit=None,
        root_id=None,
        parent_id=None,
        shadow=None,
        argsrepr=None,
        kwargsrepr=None,
        origin=None,
        ignore_result=None,
        replaced_task_nesting=0,
        stamped_headers=None,
        stamps=None,
        headers=None,
        callbacks=None,
        errbacks=None,
        chain=None,
        chord=None,
        reply_to=None,
        correlation_id=None,
    ):
        self.task = task
        self.id = id
        self.args = args
        self.kwargs = {} if kwargs is None else kwargs
        self.eta = eta
        self.expires = expires
        self.group = group
        self.group_index = group_index
        self.retries = retries
        self.time_limit = time_limit
        self.soft_time_limit = soft_time_limit
        self.root_id = root_id
        self.parent_id = parent_id
        self.shadow = shadow
        self.argsrepr = argsrepr
        self.kwargsrepr = kwargsrepr
        self.origin = origin
        self.ignore_result = ignore_result
        self.replaced_task_nesting = replaced_task_nesting
        self.stamped_headers = stamped_headers
        self.stamps = stamps
        self.headers = headers
        self.callbacks = callbacks
        self.errbacks = errbacks
        self.chain = chain
        self.chord = chord
        self.reply_to = reply_to
        self.correlation_id = correlation_id

    cdef tuple _state(self):
        return (
            self.task, self.id, self.args, self.kwargs, self.eta, self.expires, self.group, self.group_index,
            self.retries, self.time_limit, self.soft_time_limit, self.root_id, self.parent_id, self.shadow,
            self.argsrepr, self.kwargsrepr, self.origin, self.ignore_result, self.replaced_task_nesting,
            self.stamped_headers, self.stamps, self.headers, self.callbacks, self.errbacks, self.chain,
            self.chord, self.reply_to, self.correlation_id,
        )

    def __eq__(self, other):
        """All fields equal; the arguments also when one side has them as a tuple and the other as a list."""
        if not isinstance(other, TaskMessage):
            return NotImplemented
        cdef tuple ours = self._state()
        cdef tuple theirs = (<TaskMessage> other)._state()
        return ours[:2] == theirs[:2] and list(ours[2]) == list(theirs[2]) and ours[3:] == theirs[3:]

    __hash__ = None

    def __repr__(self):  # arguments may be secret
        return f"<TaskMessage task={self.task!r} id={self.id!r}>"

    def __reduce__(self):
        return _task_from_state, self._state()


def _task_from_state(*state):
    cdef TaskMessage message = TaskMessage.__new__(TaskMessage)
    (
        message.task, message.id, message.args, message.kwargs, message.eta, message.expires, message.group,
        message.group_index, message.retries, message.time_limit, message.soft_time_limit, message.root_id,
        message.parent_id, message.shadow, message.argsrepr, message.kwargsrepr, message.origin,
        message.ignore_result, message.replaced_task_nesting, message.stamped_headers, message.stamps,
        message.headers, message.callbacks, message.errbacks, message.chain, message.chord, message.reply_to,
        message.correlation_id,
    ) = state
    return message


# ------------------------------------------------------------------------------------------------- encoding


cdef int _add_user_headers(dict headers, object own) except -1:
    """Merged at the top level and last, as Celery does."""
    headers.update(own)
    for name in _BROKER_HEADERS:
        if name in own:
            headers.pop(name, None)
    return 0


cdef dict _lean_headers(TaskMessage task):
    cdef dict headers = {"task": task.task, "id": task.id}
    if task.root_id is not None and task.root_id != task.id:
        headers["root_id"] = task.root_id
    if task.parent_id is not None:
        headers["parent_id"] = task.parent_id
    if task.eta is not None:
        headers["eta"] = task.eta
    if task.expires is not None:
        headers["expires"] = task.expires
    if task.group is not None:
        headers["group"] = task.group
    if task.group_index is not None:
        headers["group_index"] = task.group_index
    if task.retries:
        headers["retries"] = task.retries
    if task.time_limit is not None or task.soft_time_limit is not None:
        headers["timelimit"] = [task.time_limit, task.soft_time_limit]
    if task.ignore_result is not None:
        headers["ignore_result"] = task.ignore_result
    if task.replaced_task_nesting:
        headers["replaced_task_nesting"] = task.replaced_task_nesting
    if task.shadow is not None:
        headers["shadow"] = task.shadow
    if task.argsrepr is not None:
        headers["argsrepr"] = task.argsrepr
    if task.kwargsrepr is not None:
        headers["kwargsrepr"] = task.kwargsrepr
    if task.origin is not None:
        headers["origin"] = task.origin
    if task.stamped_headers:
        headers["stamped_headers"] = task.stamped_headers
    if task.stamps:
        headers["stamps"] = task.stamps
    return headers


cdef dict _full_headers(TaskMessage task):
    return {
        "lang": "py",
        "task": task.task,
        "id": task.id,
        "shadow": task.shadow,
        "eta": task.eta,
        "expires": task.expires,
        "group": task.group,
        "group_index": task.group_index,
        "retries": task.retries,
        "timelimit": [task.time_limit, task.soft_time_limit],
        "root_id": task.root_id or task.id,
        "parent_id": task.parent_id,
        "argsrepr": task.argsrepr,
        "kwargsrepr": task.kwargsrepr,
        "origin": task.origin,
        "ignore_result": task.ignore_result,
        "replaced_task_nesting": task.replaced_task_nesting,
        "stamped_headers": task.stamped_headers,
        "stamps": {} if task.stamps is None else task.stamps,
    }


cpdef dict encode_task_headers(TaskMessage task, bint lean=True):
    """The headers of a protocol-2 message.

    Lean leaves out what a worker assumes by itself (tests/interop/test_lean_headers.py runs real Celery
    workers on such messages); otherwise every header Celery sends, in its order. The task's own `headers`
    are merged at the top level, without those a broker added when it dead-lettered the message.
    """
    cdef dict headers
    if not isinstance(task.task, str) or not isinstance(task.id, str):
        raise EncodeError(f"the task's name and id are strings, not {task.task!r} and {task.id!r}")
    headers = _lean_headers(task) if lean else _full_headers(task)
    if task.headers:
        _add_user_headers(headers, task.headers)
    return headers


cpdef bytes encode_task_body(TaskMessage task):
    """`[args, kwargs, {callbacks, errbacks, chain, chord}]` as JSON."""
    cdef object args = task.args
    cdef object kwargs = task.kwargs
    if not isinstance(args, (list, tuple)):
        raise EncodeError(f"task arguments are a list or tuple, not {type(args).__name__}")
    if not isinstance(kwargs, dict):
        if not isinstance(kwargs, _Mapping):
            raise EncodeError(f"task keyword arguments are a mapping, not {type(kwargs).__name__}")
        kwargs = dict(kwargs)
    if not (task.callbacks is None and task.errbacks is None and task.chain is None and task.chord is None):
        return json_encode([args, kwargs, {
            "callbacks": task.callbacks, "errbacks": task.errbacks, "chain": task.chain, "chord": task.chord,
        }])
    return _plain_body(args, kwargs)


cdef bytes _plain_body(object args, object kwargs):
    """The body of a task with nothing to follow it. Grown in place, because arguments may be large."""
    cdef object text = json_encode([args, kwargs])
    cdef Py_ssize_t size = PyBytes_GET_SIZE(text) - 1  # without the closing bracket, which _NO_EMBED brings
    cdef PyObject* body = <PyObject*>text
    Py_INCREF(text)
    text = None  # the only reference is ours now
    _PyBytes_Resize(&body, size + PyBytes_GET_SIZE(_NO_EMBED))
    text = <object>body
    Py_XDECREF(body)
    memcpy(PyBytes_AS_STRING(text) + size, PyBytes_AS_STRING(_NO_EMBED), PyBytes_GET_SIZE(_NO_EMBED))
    return text
