# A native thread that keeps one socket alive while user code runs, without the GIL, all signals blocked.

from typing import final

class ReceiveError(OSError):
    """What the system says of a read. A class of its own: the handler of a signal that comes meanwhile may
    raise an OSError too, as TimeoutError, and that is for whoever set it."""

def receive(fd: int, buffer: bytearray | memoryview) -> int:
    """Wait for bytes as long as a blocking socket waits (SO_RCVTIMEO, see socket(7); for ever without it),
    and read them into the buffer. How many; 0 at the end; -1 when none came in that time or a signal came:
    Python's own functions would wait anew after each. Raises ReceiveError, and what a signal's handler
    raises."""

@final
class Keeper:
    """Writes prepared records to a socket while it is armed. One a connection; made after fork.

    The main thread does all other writes, and only while the keeper is disarmed; so a record is never torn
    by another. Records are bytes ready for the raw socket: for plain AMQP the heartbeat frame, over TLS
    heartbeat frames encrypted ahead, for Redis a lease renewal. Sends are MSG_DONTWAIT; what a full socket
    left of a record is finished first, by the thread or by ``disarm``.
    """

    def __init__(self, fd: int, interval_s: float) -> None: ...
    def start(self) -> None:
        """Start the thread (joined by ``stop``). Once."""
    def arm(self, records: list[bytes] | None = None, repeat: bytes | None = None) -> None:
        """From now on send the next of ``records`` (each once, in order), or ``repeat`` (for ever), each
        time ``interval_s`` has passed since the last ``touch`` or send, or up to a quarter of it later. None
        for both: as armed last time, going on after the last record sent."""
    def disarm(self) -> tuple[int, bytes]:
        """Stop; nothing is sent after return. (records sent since arm, the rest of a torn record that must
        be sent before anything else)."""
    def touch(self) -> None:
        """Traffic flowed just now."""
    def stop(self) -> None:
        """End the thread. Idempotent; never raises."""
    @property
    def error(self) -> int:
        """The errno of the send that failed, or 0. After an error the thread sends no more."""
    @property
    def sent(self) -> int:
        """Records sent since ``start``."""
