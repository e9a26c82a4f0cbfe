"""Running a check in a forked child."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable


def in_child(check: Callable[[], bool]) -> bool:
    """Whether ``check`` is true in a forked child; what it raises there is printed and counts as false."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if check() else 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
