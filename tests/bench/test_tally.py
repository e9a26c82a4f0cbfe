"""Counting over processes through mapped files."""

import os
import time
from pathlib import Path

from engine.bench.tally import Tally, read_tallies


def test_nothing_was_counted_in_an_empty_folder(tmp_path: Path) -> None:
    assert read_tallies(tmp_path).tasks == 0


def test_counts_are_seen_at_once_and_stamped(tmp_path: Path) -> None:
    before_s = time.monotonic()
    tally = Tally(tmp_path)
    for _ in range(3):
        tally.add()
    done = read_tallies(tmp_path)
    assert (done.tasks, done.processes) == (3, 1)
    assert before_s <= done.first_s <= done.last_s <= time.monotonic()


def test_each_process_counts_for_itself_after_fork(tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    tally.add()
    children = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            for _ in range(5):
                tally.add()
            os._exit(0)
        children.append(pid)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    done = read_tallies(tmp_path)
    assert (done.tasks, done.processes) == (11, 3)


def test_when_the_last_process_began_and_how_long_they_slept(tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    tally.begin()
    tally.slept(2_000_000_000)
    tally.add()
    pid = os.fork()
    if pid == 0:
        tally.begin()
        tally.slept(500_000_000)
        tally.add()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    done = read_tallies(tmp_path)
    assert done.slept_s == 2.5
    assert done.first_s < done.joined_s <= done.last_s


def test_a_file_that_is_just_being_made_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "1.tally").write_bytes(b"")
    assert read_tallies(tmp_path).processes == 0
