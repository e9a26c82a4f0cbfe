# cython: language_level=3
"""Encodes and decodes what crosses the wire: bytes in, bytes out.

This file is only the hub: shared imports and includes, one compile unit made of rooms by wire format.
Rules: no socket, no clock, no thread; "need more data" is a value, never an exception; sizes are checked
before anything is allocated; every cdef function declares its error return. Input that came from a peer
can only raise the errors of `engine.errors`.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from engine.errors import DecodeError, EncodeError, MalformedFrame, MessageTooLarge

include "_codec/values.pxi"
