"""Memory as the kernel counts it."""

import os
import subprocess
import sys

import psutil

from engine.bench.at_rest import pss_bytes


def test_pss_lies_between_what_is_ours_alone_and_what_is_resident() -> None:
    memory = psutil.Process(os.getpid()).memory_full_info()
    assert memory.uss * 0.9 <= pss_bytes(os.getpid()) <= memory.rss * 1.1


def test_a_process_that_is_gone_has_none() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert pss_bytes(process.pid) == 0
