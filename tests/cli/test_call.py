"""`engine call` and `engine result`, with a real worker on the embedded broker."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.cli.command import engine


def test_call_waits_for_the_result(shop: Path, start_worker: Callable[..., object]) -> None:
    start_worker("-c", "1")
    done = engine("call", "shop", "shop.add", "2", "3", "--wait", cwd=shop)
    assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr
    done = engine("call", "-A", "shop:app", "shop.add", "--kwargs", '{"x": "a", "y": "b"}', "-w", cwd=shop)
    assert (done.returncode, done.stdout) == (0, "ab\n"), done.stderr
    done = engine("call", "shop.py", "shop.many", "--args", "[2]", "--wait", cwd=shop)
    assert json.loads(done.stdout) == {"items": [0, 1], "name": "Zoë"}
    assert "Zoë" in done.stdout


def test_a_task_that_failed_is_status_1_with_its_error(
    shop: Path, start_worker: Callable[..., object]
) -> None:
    start_worker("-c", "1")
    done = engine("call", "shop", "shop.fail", "no reason", "--wait", cwd=shop)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("FAILURE: ValueError: no reason\n")
    assert "Traceback" in done.stderr
    done = engine("call", "shop", "shop.fail", "no reason", "--wait", "--json", cwd=shop)
    assert done.returncode == 1
    assert json.loads(done.stdout)["status"] == "FAILURE"


def test_the_id_leads_to_the_result(shop: Path, start_worker: Callable[..., object]) -> None:
    task_id = engine("call", "shop", "shop.add", "20", "3", cwd=shop).stdout.strip()
    nothing = engine("result", "shop", task_id, cwd=shop)
    assert nothing.returncode == 4
    assert task_id in nothing.stderr
    late = engine("result", "shop", task_id, "--wait", "--timeout", "0.2", cwd=shop)
    assert late.returncode == 5
    assert "is a worker reading its queue?" in late.stderr
    start_worker("-c", "1")
    assert engine("result", "shop", task_id, "--wait", cwd=shop).stdout == "23\n"
    stored = json.loads(engine("result", "shop", task_id, "--json", cwd=shop).stdout)
    assert (stored["status"], stored["result"], stored["task_id"]) == ("SUCCESS", 23, task_id)


def test_a_task_nobody_knows_names_the_nearest(shop: Path) -> None:
    done = engine("call", "shop", "shop.ad", cwd=shop)
    assert done.returncode == 4
    assert "did you mean 'shop.add'?" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    forced = engine("call", "shop", "others.task", "--force", "--json", "--task-id", "id-1", cwd=shop)
    assert json.loads(forced.stdout) == {"task_id": "id-1", "task": "others.task", "state": "PENDING"}


def test_arguments_the_task_does_not_take_are_one_line(shop: Path) -> None:
    done = engine("call", "shop", "shop.add", "1", cwd=shop)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "add" in done.stderr


def test_waiting_without_a_result_store_sends_nothing(shop: Path) -> None:
    environ = {"ENGINE_RESULT_BACKEND": "disabled://"}
    done = engine("call", "shop", "shop.add", "1", "2", "--wait", cwd=shop, environ=environ)
    assert done.returncode == 2
    assert "result_backend" in done.stderr
    assert engine("queues", "shop", cwd=shop).returncode == 4
