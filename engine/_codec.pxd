# What `engine._work` reads of the codec's values without going through Python.

cdef class TaskMessage:
    cdef public object task
    cdef public object id
    cdef public object args
    cdef public object kwargs
    cdef public object eta
    cdef public object expires
    cdef public object group
    cdef public object group_index
    cdef public object retries
    cdef public object time_limit
    cdef public object soft_time_limit
    cdef public object root_id
    cdef public object parent_id
    cdef public object shadow
    cdef public object argsrepr
    cdef public object kwargsrepr
    cdef public object origin
    cdef public object ignore_result
    cdef public object replaced_task_nesting
    cdef public object stamped_headers
    cdef public object stamps
    cdef public object headers
    cdef public object callbacks
    cdef public object errbacks
    cdef public object chain
    cdef public object chord
    cdef public object reply_to
    cdef public object correlation_id

    cdef tuple _state(self)
