"""Waiting for an answer in the read itself, not in a poll(2) before it: 1.5 µs of CPU less for each.

Such a socket blocks. A read gives up after `PATIENCE_S`, so that whoever waits looks at his deadline; all
else that is done with it says by a flag that it must not wait. `receive` is the read: Python's own functions
would wait anew after each signal, for as long as signals come.

gevent and eventlet put their own sockets in the place of Python's, whose descriptors never block so that
others may run: there nobody waits in the read.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct

from engine._keepalive import ReceiveError, receive

__all__ = ["PATIENCE_S", "ReceiveError", "be_patient", "receive"]

#: A read waits so long at most.
PATIENCE_S = 1.0
_LIMIT = struct.pack("@ll", int(PATIENCE_S), 0)


def be_patient(sock: socket.socket) -> int:
    """Let its reads wait. The flags of what must not wait: 0 where the system has no such limit or the socket
    is another library's, and then nothing on this socket waits."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _LIMIT)
        sock.setblocking(True)
        if os.get_blocking(sock.fileno()):
            return socket.MSG_DONTWAIT
    sock.setblocking(False)
    return 0
