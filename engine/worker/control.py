"""Control messages between supervisor, template and children: small JSON objects over a socket pair.

Rules
-----
* The sockets are SOCK_SEQPACKET: a message comes whole or not at all, so there is no framing to get wrong.
* Sending never blocks: what the peer has not taken yet waits in a backlog, which ``flush`` tries again.
* End of file is a message of its own kind: the peer is gone. A child whose supervisor is gone finishes its
  task and exits; so every process closes, right after a fork, the ends that are not its own.
* File descriptors travel with a message (SCM_RIGHTS); whoever receives them owns them.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any

MAX_MESSAGE_BYTES = 64 * 1024
MAX_FDS = 128  #: descriptors that travel with one message; Linux takes 253
_ANCILLARY_BYTES = socket.CMSG_LEN(MAX_FDS * array.array("i").itemsize)
#: made once, as plain numbers: the flags of an enum are joined by much Python, which each child would run
_RECEIVE = int(socket.MSG_CMSG_CLOEXEC)
_RECEIVE_NOW = int(socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT)
_SEND_NOW = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode
_decode = json.JSONDecoder().decode


class Channel:
    """One end of a control connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._backlog: deque[bytes] = deque()
        self.eof = False  #: the peer is gone; what it said before may still be there to read
        self._read_all = False

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Two connected ends."""
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(left), cls(right)

    @classmethod
    def from_fd(cls, fd: int) -> Channel:
        """The end that a received descriptor stands for."""
        return cls(socket.socket(fileno=fd))

    def fileno(self) -> int:
        return self._sock.fileno()

    # -- send ------------------------------------------------------------------------------------------

    def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> bool:
        """Send, or keep for later when the peer is slow. False when the peer is gone. Raises ValueError for a
        message that is too large (a mistake of ours)."""
        data = _encode(message).encode()
        if len(data) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a control message of {len(data)} bytes; {MAX_MESSAGE_BYTES} are allowed")
        if fds:
            return self._transmit(data, fds)
        self._backlog.append(data)
        return self.flush()

    def flush(self) -> bool:
        """Send what waits, as far as the peer takes it. False when the peer is gone."""
        while self._backlog:
            if not self._transmit(self._backlog[0], ()):
                return not self.eof
            self._backlog.popleft()
        return not self.eof

    def _transmit(self, data: bytes, fds: Sequence[int]) -> bool:
        if self.eof:
            return False
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._sock.sendmsg([data], ancillary, _SEND_NOW)
        except BlockingIOError:
            return False
        except OSError:  # EPIPE, ECONNRESET, EBADF: whatever it is called, nobody listens
            self.eof = True
            return False
        return True

    # -- receive ---------------------------------------------------------------------------------------

    def receive(self) -> list[dict[str, Any]]:
        """What has come, without waiting; sets ``eof`` when the peer is gone."""
        messages = []
        while (item := self._next(_RECEIVE_NOW)) is not None:
            messages.append(item[0])
            _close_all(item[1])
        return messages

    def wait(self) -> tuple[dict[str, Any], list[int]] | None:
        """Block for one message and its descriptors; None when the peer is gone."""
        return self._next(_RECEIVE)

    def _next(self, flags: int) -> tuple[dict[str, Any], list[int]] | None:
        if self._read_all:
            return None
        try:
            # not socket.recv_fds: before Python 3.12 it ignores its flags
            data, ancillary, _flags, _address = self._sock.recvmsg(MAX_MESSAGE_BYTES, _ANCILLARY_BYTES, flags)
        except BlockingIOError:
            return None
        except ConnectionResetError:  # it went without reading all of ours; told once, before its last words
            self.eof = True
            return self._next(flags)
        except OSError:
            data = b""
        if not data:
            self.eof = self._read_all = True
            return None
        message: dict[str, Any] = _decode(data.decode())
        return message, _descriptors(ancillary)

    def close(self) -> None:
        self.eof = self._read_all = True
        self._sock.close()


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
