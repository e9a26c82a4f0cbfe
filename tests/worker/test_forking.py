"""Forking many processes at once that belong to a subreaper."""

from __future__ import annotations

import itertools
import os
import resource

import pytest

from engine.worker import processes
from engine.worker.forking import fork_detached
from tests.forked import in_child


def test_each_runs_its_own_number_and_belongs_to_the_subreaper() -> None:
    def run() -> bool:
        processes.become_subreaper()
        read_fd, write_fd = os.pipe()

        def body(number: int) -> int:
            os.write(write_fd, b"%d %d\n" % (number, os.getpid()))
            return number

        pids = fork_detached(3, body)
        codes = {pid: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids}
        assert codes == {pid: number for number, pid in enumerate(pids)}
        lines = {tuple(map(int, line.split())) for line in os.read(read_fd, 4096).splitlines()}
        assert lines == set(enumerate(pids))
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, 0)  # the one in the middle is gone too
        return True

    assert in_child(run)


def test_the_one_in_the_middle_ends_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> bool:
        processes.become_subreaper()
        forked = itertools.count()
        fork = os.fork

        def fork_twice() -> int:
            if next(forked) == 2:
                raise RuntimeError
            return fork()

        monkeypatch.setattr(os, "fork", fork_twice)
        here = os.getpid()
        read_fd, write_fd = os.pipe()
        try:
            pids = fork_detached(2, lambda number: 0)
        finally:
            if os.getpid() != here:
                os.write(write_fd, b"it went on")
        os.close(write_fd)
        assert len(pids) == 1
        assert os.read(read_fd, 64) == b""
        return True

    assert in_child(run)


def test_a_system_without_room_is_told() -> None:
    def run() -> bool:
        if os.getuid() == 0:
            os.setuid(54321)  # root is not bound by the limit
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        with pytest.raises(OSError, match="temporarily unavailable"):
            fork_detached(2, lambda number: 0)
        return True

    assert in_child(run)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be a user that has no other process")
def test_those_that_were_forked_before_the_room_ended_are_told() -> None:
    def run() -> bool:
        processes.become_subreaper()
        read_fd, write_fd = os.pipe()

        def body(_number: int) -> int:
            os.close(write_fd)
            os.read(read_fd, 1)  # until the end of file
            return 0

        os.setuid(54322)
        resource.setrlimit(resource.RLIMIT_NPROC, (3, 3))  # this one, the middle, one more
        pids = fork_detached(2, body)
        os.close(write_fd)
        assert len(pids) == 1
        return os.waitpid(pids[0], 0) == (pids[0], 0)

    assert in_child(run)
