"""The longest write transaction is noted, waiting in line apart."""

import os
import time
from pathlib import Path

from engine.bench import sqlite_writes
from engine.transport.sqlite_database import Database


def test_the_longest_write_of_all_processes(tmp_path: Path) -> None:
    assert sqlite_writes.longest_s(tmp_path) is None
    pid = os.fork()
    if pid == 0:  # the class is changed for good: not in the process of the tests
        sqlite_writes.watch(str(tmp_path))
        database = Database(tmp_path / "engine.db")
        for pause_s in (0.0, 0.05, 0.0):
            with database.write(), database.write():
                time.sleep(pause_s)
        database.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    longest_s = sqlite_writes.longest_s(tmp_path)
    assert longest_s is not None
    assert 0.05 <= longest_s < 5
    sqlite_writes.forget(tmp_path)
    assert sqlite_writes.longest_s(tmp_path) is None
