# cython: language_level=3
"""What a child does for every task: from a delivery to a settled outcome.

This file is only the hub: shared imports and includes, one compile unit made of rooms by step. Each room's
classes are bases: what a plain task needs is done here, and whatever is rare (hooks, failures, signals, time
limits, redeliveries, ETAs, what follows a task) is a method of the Python class that is made from it, called
only then. Rules: no socket, no broker, no file but the scoreboard's memory; the thread's GIL is never given
up in here.
"""

cimport cython
from cpython.contextvars cimport PyContextVar_Reset, PyContextVar_Set, get_value
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.dict cimport PyDict_Check, PyDict_GetItemWithError
from cpython.list cimport PyList_AsTuple, PyList_CheckExact
from cpython.ref cimport PyObject
from cpython.tuple cimport PyTuple_CheckExact
from cpython.unicode cimport PyUnicode_CheckExact
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from contextvars import ContextVar

from engine import forks
from engine._codec cimport TaskMessage
from engine.errors import CodecError


cdef extern from "Python.h":
    object PyObject_Call(object function, object args, PyObject* kwargs)
    bint PyCoro_CheckExact(object thing)
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size)
    void PyErr_Clear()


cdef extern from "<fcntl.h>" nogil:
    enum: F_GETFD
    int fcntl(int fd, int command, ...)


cdef inline double mono_s() noexcept nogil:
    """``time.monotonic()``."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <double>now.tv_sec + <double>now.tv_nsec * 1e-9


include "_work/memory.pxi"
include "_work/outcome.pxi"
include "_work/record.pxi"
include "_work/pace.pxi"
include "_work/running.pxi"
include "_work/run.pxi"
include "_work/sorting.pxi"
include "_work/settling.pxi"
include "_work/turn.pxi"
