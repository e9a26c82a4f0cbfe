"""`engine run` from the outside: its options reach the worker, its mistakes are told."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner

from engine.cli.commands import cli
from tests.cli.command import engine

Wait = Callable[[Callable[[], object], str], None]
Start = Callable[..., subprocess.Popen[bytes]]


def test_options_become_the_workers() -> None:
    from engine.cli.run import run, worker_options

    words = ["a", "-c", "3", "-Q", "x, y", "-n", "n@%h", "-l", "DEBUG", "--json-logs", "--prefetch", "7"]
    words += ["--max-tasks-per-child", "8", "--max-memory-per-child", "9000", "--time-limit", "2.5"]
    words += ["--soft-time-limit", "2", "--drain-deadline", "11", "--pidfile", "p.pid"]
    context = run.make_context("run", words)
    options = worker_options({k: v for k, v in context.params.items() if k not in ("words", "app_path")})
    assert (options.concurrency, options.queues, options.hostname) == (3, ("x", "y"), "n@%h")
    assert (options.loglevel, options.json_logs, options.prefetch) == ("DEBUG", True, 7)
    assert (options.max_tasks_per_child, options.max_memory_per_child_kib) == (8, 9000)
    assert (options.time_limit, options.soft_time_limit) == (2.5, 2.0)
    assert (options.drain_deadline_s, options.pidfile) == (11.0, "p.pid")


def test_what_is_not_given_is_left_to_the_app() -> None:
    from engine.cli.run import run, worker_options
    from engine.worker import WorkerOptions

    context = run.make_context("run", ["a"])
    given = {k: v for k, v in context.params.items() if k not in ("words", "app_path")}
    assert worker_options(given) == WorkerOptions()


def test_every_option_of_a_worker_is_in_the_help() -> None:
    shown = CliRunner().invoke(cli, ["run", "--help"]).output
    for option in ("--concurrency", "--queues", "--hostname", "--json-logs", "--drain-deadline", "--pidfile"):
        assert option in shown


def test_a_worker_reads_its_queues_and_logs_json(shop: Path, start_worker: Start) -> None:
    start_worker("-c", "1", "-Q", "mail", "--json-logs", "--pidfile", "worker.pid")
    done = engine("call", "shop", "shop.add", "2", "2", "--queue", "mail", "--wait", cwd=shop)
    assert done.stdout == "4\n", done.stderr
    assert int((shop / "worker.pid").read_text()) > 0
    lines = (shop / "worker-0.log").read_text().splitlines()
    assert lines
    assert all(json.loads(line) for line in lines)


def test_sigterm_ends_it_in_order_and_removes_the_pidfile(
    shop: Path, start_worker: Start, wait_for: Wait
) -> None:
    process = start_worker("-c", "2", "--pidfile", "worker.pid")
    pidfile = shop / "worker.pid"
    wait_for(lambda: "ready" in (shop / "worker-0.log").read_text(), "the worker is ready")
    assert int(pidfile.read_text()) == process.pid
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == 0
    assert not pidfile.exists()


def test_an_app_that_cannot_be_loaded_ends_it_with_its_reason(shop: Path) -> None:
    (shop / "broken.py").write_text("raise RuntimeError('no licence')\n")
    done = engine("run", "broken", cwd=shop)
    assert done.returncode in (1, 2)
    assert "no licence" in done.stderr + done.stdout


def test_a_module_that_is_not_there_is_told(shop: Path) -> None:
    done = engine("run", "no_such_module", cwd=shop)
    assert done.returncode in (1, 2)
    assert "no_such_module" in done.stderr + done.stdout
