"""`engine call` and `engine result`, with a real worker on the embedded broker."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.results.base import ResultMeta
from engine.results.sqlite import SqliteStore
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


def test_negative_numbers_are_arguments_and_unknown_options_are_not(shop: Path) -> None:
    for words in (["-1", "2"], ["--", "-1", "2"], ["-.5", "-2e3", "--countdown", "60"]):
        done = engine("call", "shop", "shop.add", *words, cwd=shop)
        assert done.returncode == 0, done.stderr
    done = engine("call", "shop", "shop.add", "--wiat", "2", cwd=shop)
    assert done.returncode == 2
    assert "did you mean --wait?" in done.stderr
    done = engine("call", "shop", "shop.add", "-x", "2", cwd=shop)
    assert done.returncode == 2
    assert "goes after --" in done.stderr


@pytest.mark.parametrize("option", ["--countdown", "--timeout"])
@pytest.mark.parametrize("value", ["nan", "1e300", "inf"])
def test_times_that_are_none_are_refused_in_one_line(shop: Path, option: str, value: str) -> None:
    if option == "--timeout" and value != "nan":
        return  # as good as for ever
    done = engine("call", "shop", "shop.add", "1", "2", option, value, cwd=shop)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert option.strip("-") in done.stderr


def test_json_is_json_also_without_a_result(shop: Path) -> None:
    done = engine("call", "shop", "shop.add", "1", "2", "--wait", "--timeout", "0.1", "--json", cwd=shop)
    assert done.returncode == 5
    shown = json.loads(done.stdout)
    assert shown["status"] == "PENDING"
    done = engine("result", "shop", shown["task_id"], "--json", cwd=shop)
    assert done.returncode == 4
    assert json.loads(done.stdout) == shown


def test_texts_from_elsewhere_cannot_colour_the_screen(shop: Path) -> None:
    store = SqliteStore(f"sqlite:///{shop}/engine.db")
    error = {"exc_type": "ValueError", "exc_message": ["\x1b[31mred\r"], "exc_module": "builtins"}
    store.store([ResultMeta("bad", "FAILURE", error, "line 1\n\x1b[31mline 2")])
    store.store([ResultMeta("half", "SUCCESS", "\ud800 of a pair")])
    store.store([ResultMeta("nan", "SUCCESS", [float("nan"), 1.5])])
    store.close()
    done = engine("call", "shop", "shop.add", "1", "2", "--task-id", "\x1b[31m", cwd=shop)
    assert done.stdout == "\\x1b[31m\n"
    assert "\x1b" not in engine("result", "shop", "\x1b[31m?", cwd=shop).stderr
    done = engine("result", "shop", "bad", cwd=shop)
    assert done.stderr.startswith("FAILURE: ValueError: \\x1b[31mred\\x0d\nline 1\n\\x1b[31mline 2\n")
    assert engine("result", "shop", "half", cwd=shop).stdout == "\\ud800 of a pair\n"
    half = engine("result", "shop", "half", "--json", cwd=shop).stdout
    assert json.loads(half)["result"] == "\ud800 of a pair"
    strict = engine("result", "shop", "nan", "--json", cwd=shop).stdout
    assert json.loads(strict, parse_constant=pytest.fail)["result"] == [None, 1.5]
