# cython: language_level=3
"""Encodes and decodes what crosses the wire: bytes in, bytes out.

This file is only the hub: shared imports and includes, one compile unit made of rooms by wire format.
Rules: no socket, no clock, no thread; "need more data" is a value, never an exception; sizes are checked
before anything is allocated; every cdef function declares its error return. Input that came from a peer
can only raise the errors of `engine.errors`.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_CheckExact, PyDict_GetItemWithError, PyDict_Next
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.list cimport PyList_CheckExact
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.mem cimport PyMem_Free, PyMem_RawFree, PyMem_RawMalloc, PyMem_Realloc
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from cpython.tuple cimport PyTuple_CheckExact
from cpython.unicode cimport PyUnicode_CheckExact, PyUnicode_GET_LENGTH
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memmove, memset

from collections.abc import Mapping as _Mapping

from engine.errors import ContentDisallowed, DecodeError, EncodeError, MalformedFrame, MessageTooLarge

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    bint PyUnicode_IS_COMPACT_ASCII(object text)

cdef extern from "<string.h>" nogil:
    void* memmem(const void* data, size_t size, const void* wanted, size_t wanted_size)

include "_codec/buffer.pxi"
include "_codec/values.pxi"
include "_codec/json_long.pxi"
include "_codec/json.pxi"
include "_codec/task_message.pxi"
include "_codec/task_decode.pxi"
include "_codec/base64.pxi"
include "_codec/redis_envelope.pxi"
include "_codec/redis_read.pxi"
include "_codec/redis_plain.pxi"
include "_codec/redis_command.pxi"
include "_codec/task_template.pxi"
include "_codec/amqp_table.pxi"
include "_codec/amqp_properties.pxi"
include "_codec/amqp_method.pxi"
include "_codec/amqp_encode.pxi"
include "_codec/amqp_decode.pxi"
