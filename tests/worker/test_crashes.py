"""Children that die: replaced, their tasks given to others, and a task that kills every child is put away."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from engine.errors import TimeLimitExceeded, WorkerLost
from engine.model import QueueSpec
from tests.worker.conftest import Place
from tests.worker.harness import Worker, wait_for


def test_a_killed_child_is_replaced_and_its_task_runs_again(place: Place) -> None:
    with place.worker() as worker:
        place.send("work", "long", 3)
        wait_for(lambda: place.ledger.count("start", "long"), what="the task to start")
        os.kill(place.ledger.pid_of("start", "long"), signal.SIGKILL)
        wait_for(lambda: place.ledger.count("start", "long") == 2, timeout=30, what="the second run")
        wait_for(lambda: place.ledger.finished()["long"] == 1, what="the task to finish")
        wait_for(lambda: len(worker.children()) == 2, what="two children")
        assert worker.stop() == 0
    assert "killed by SIGKILL" in worker.log()
    assert "in task tests.worker.sample_app.work" in worker.log()


def test_a_poison_task_is_put_away_and_its_neighbours_are_not_blamed(place: Place) -> None:
    with place.worker(prefetch=8) as worker:
        place.send_many("work", range(20))
        poison = place.send("die", "poison")
        place.send_many("work", range(20, 40))
        with pytest.raises(WorkerLost, match="3 times"):
            poison.get(timeout=60)
        wait_for(lambda: len(place.ledger.finished()) == 40, what="the neighbours")
        wait_for(lambda: place.ready(f"{place.queue}.dead") == 1, what="the dead letter")
        assert place.send("add", 1, 1).get(timeout=20) == 2
        assert worker.stop() == 0
    assert place.ledger.count("start", "poison") == 3
    assert set(place.ledger.finished().values()) == {1}
    assert place.ready() == 0


@pytest.mark.parametrize("code", [0, 3])
def test_a_task_that_ends_its_process_is_put_away_whatever_the_exit_code(
    sqlite_place: Place, code: int
) -> None:
    place = sqlite_place
    with place.worker() as worker:
        ends = place.send("exits", code)
        with pytest.raises(WorkerLost, match="3 times"):
            ends.get(timeout=60)
        assert place.send("add", 1, 1).get(timeout=20) == 2
        assert worker.stop() == 0
    assert place.ledger.count("start", "exits") == 3
    assert worker.log().count(f"died (exit code {code}) in task tests.worker.sample_app.exits[") == 3
    assert place.ready(f"{place.queue}.dead") == 1


@pytest.mark.parametrize(("first", "files"), [(0, 0), (3, 0), (3, 40)])
def test_a_task_that_closes_the_workers_descriptors_is_put_away(place: Place, first: int, files: int) -> None:
    with place.worker(prefetch=8) as worker:
        place.send_many("work", range(20))
        closes = place.send("closes", first, files)
        place.send_many("work", range(20, 40))
        with pytest.raises(WorkerLost, match="3 times"):
            closes.get(timeout=60)
        wait_for(lambda: len(place.ledger.finished()) == 40, what="the neighbours")
        assert place.send("add", 1, 1).get(timeout=20) == 2
        assert worker.stop() == 0
    assert place.ledger.count("start", "closes") == 3
    assert "descriptors were closed in its process) in task tests.worker.sample_app.closes[" in worker.log()
    assert place.ready() == 0


@pytest.mark.parametrize("how", ["sys.stderr.close()", "sys.stdout.close()", "os.close(2)"])
def test_a_task_that_closes_its_standard_streams_does_no_harm(sqlite_place: Place, how: str) -> None:
    place = sqlite_place
    (place.folder / "closing_app.py").write_text(
        "import os, sys\n"
        "from tests.worker.sample_app import app\n"
        "app.conf.worker_redirect_stdouts = False\n"
        "@app.task(name='tests.worker.sample_app.closing')\n"
        f"def closing():\n    {how}\n"
    )
    with place.worker(app="closing_app:app", concurrency=1) as worker:
        place.send("closing").get(timeout=20)
        assert place.send("add", 1, 1).get(timeout=20) == 2
        assert worker.stop() == 0
    assert worker.log().count("succeeded in") == 2
    assert " died " not in worker.log()


def test_a_task_that_must_not_run_again_after_a_crash(place: Place) -> None:
    with place.worker() as worker:
        lost = place.send("die_once", "once")
        with pytest.raises(WorkerLost, match="SIGKILL"):
            lost.get(timeout=30)
        assert place.send("add", 1, 1).get(timeout=20) == 2
        assert worker.stop() == 0
    assert place.ledger.count("start", "once") == 1
    assert place.ready() == place.ready(f"{place.queue}.dead") == 0


def test_a_buried_id_may_be_sent_again(sqlite_place: Place) -> None:
    with sqlite_place.worker(concurrency=1, prefetch=1) as worker:
        first = sqlite_place.send("die", "poison")
        with pytest.raises(WorkerLost):
            first.get(timeout=60)
        sqlite_place.send("work", "second", task_id=first.id)
        wait_for(lambda: sqlite_place.ledger.finished()["second"] == 1, what="the second task of that id")
        assert worker.stop() == 0


def test_hard_time_limit(place: Place) -> None:
    with place.worker() as worker:
        late = place.send("hard", "a")
        with pytest.raises(TimeLimitExceeded, match=r"0\.6"):
            late.get(timeout=40)
        frames = [line for line in late.traceback.splitlines() if line.startswith("  File ")]
        assert len(frames) == 1, "the traceback says where the task was, and nothing else"
        assert "sample_app.py" in frames[0]
        assert place.send("add", 1, 1).get(timeout=20) == 2
        assert worker.stop() == 0
    assert place.ledger.count("start", "a") == 1
    assert place.ledger.count("finish", "a") == 0
    assert place.ready() == 0


def test_the_messages_own_limit_comes_first(sqlite_place: Place) -> None:
    with sqlite_place.worker(concurrency=1, time_limit=0.3):
        sqlite_place.send("work", "fine", 0.8, time_limit=20).get(timeout=20)
        assert sqlite_place.ledger.finished()["fine"] == 1
        with pytest.raises(TimeLimitExceeded):
            sqlite_place.send("work", "late", 20).get(timeout=20)


def test_acknowledged_early_is_lost_with_its_child_and_told(place: Place) -> None:
    with place.worker(concurrency=2) as worker:
        lost = place.send("early", "e")
        with pytest.raises(WorkerLost):
            lost.get(timeout=20)
        assert place.send("add", 1, 1).get(timeout=20) == 2
        assert worker.stop() == 0
    assert place.ledger.count("start", "e") == 1


def test_children_are_recycled_by_tasks_and_by_memory(sqlite_place: Place) -> None:
    place = sqlite_place
    with place.worker(max_tasks_per_child=5) as worker:
        place.send_many("work", range(40))
        wait_for(lambda: len(place.ledger.finished()) == 40, timeout=40, what="all tasks")
        assert worker.stop() == 0
    pids = [line[2] for line in place.ledger.lines() if line[0] == "finish"]
    assert len(set(pids)) >= 8
    assert max(pids.count(pid) for pid in pids) <= 5
    assert set(place.ledger.finished().values()) == {1}
    with place.worker(concurrency=1, max_memory_per_child_kib=1000) as small:
        first = place.send("whoami").get(timeout=20)
        second = place.send("whoami").get(timeout=20)
        assert first["pid"] != second["pid"]
        assert "KiB of memory" in small.log()
        assert small.stop() == 0


def test_memory_that_is_kept_for_large_bodies_recycles_no_child(sqlite_place: Place) -> None:
    with sqlite_place.worker(concurrency=1) as unbounded:
        _, used_kib = sqlite_place.send("weigh", "").get(timeout=20)
        assert unbounded.stop() == 0
    with sqlite_place.worker(concurrency=1, max_memory_per_child_kib=used_kib + 20 * 1024) as worker:
        texts = ["x" * (6 << 20)] * 8
        pids = {sqlite_place.send("weigh", text).get(timeout=20)[0] for text in texts}
        assert len(pids) == 1, worker.log()
        assert worker.stop() == 0


def test_a_worker_whose_app_cannot_be_imported_says_why(sqlite_place: Place) -> None:
    (sqlite_place.folder / "broken_app.py").write_text("import nothing_of_that_name\n")
    worker = Worker(sqlite_place.folder, sqlite_place.environ, app="broken_app:app", expects_ready=False)
    with worker:
        assert worker.wait() == 1
    lines = worker.log().splitlines()
    assert lines[0].endswith("stopping: the app could not be loaded:")
    assert lines[1:] == [
        "Traceback (most recent call last):",
        f'  File "{sqlite_place.folder}/broken_app.py", line 1, in <module>',
        "    import nothing_of_that_name",
        "ModuleNotFoundError: No module named 'nothing_of_that_name'",
    ]
    assert worker.descendants_alive() == []


def test_a_child_that_does_not_start_is_killed(sqlite_place: Place) -> None:
    (sqlite_place.folder / "slow_boot.py").write_text(
        "import time\n"
        "from tests.worker.sample_app import app\n"
        "from engine.signals import worker_process_init\n\n"
        "@worker_process_init.connect(weak=False)\n"
        "def boot(**_):\n"
        "    time.sleep(60)\n"
    )
    sqlite_place.environ["ENGINE_WORKER_PROC_ALIVE_TIMEOUT"] = "1"
    worker = sqlite_place.worker(app="slow_boot:app", expects_ready=False, concurrency=1, max_boot_failures=1)
    with worker:
        assert worker.wait(20) == 1
    assert ": boot, " in worker.log()
    assert "in boot" in worker.log(), "where it hung is told"


def test_children_that_die_at_boot_end_the_worker(sqlite_place: Place) -> None:
    (sqlite_place.folder / "fragile_app.py").write_text(
        "import os\n"
        "from engine.signals import worker_process_init\n"
        "from tests.worker.sample_app import app\n"
        "@worker_process_init.connect\n"
        "def boot(**_):\n"
        "    print('cannot reach the licence server', flush=True)\n"
        "    os._exit(9)\n"
    )
    worker = Worker(sqlite_place.folder, sqlite_place.environ, app="fragile_app:app", expects_ready=False)
    with worker:
        assert worker.wait(30) == 1
    assert "children died at boot" in worker.log()
    assert "exit code 9" in worker.log()


def test_a_wrong_password_ends_the_worker_with_its_reason(rabbitmq, tmp_path, unique) -> None:  # type: ignore[no-untyped-def]
    url = rabbitmq.url.replace("://", "://nobody:secret@").replace("guest:guest@", "")
    place = Place(url, None, unique, tmp_path)
    worker = Worker(tmp_path, place.environ, expects_ready=False)
    with worker:
        assert worker.wait(30) == 1
    assert "secret" not in worker.log()
    assert "Traceback" not in worker.log()
    told = [line for line in worker.log().splitlines() if " INFO " not in line]
    assert len(told) == 1, worker.log()
    assert "stopping: " in told[0]
    assert "check user, password and virtual host" in told[0]


@pytest.mark.amqp
def test_a_queue_that_is_not_as_declared_ends_the_worker_with_one_line(  # type: ignore[no-untyped-def]
    rabbitmq, tmp_path: Path, unique: str
) -> None:
    place = Place(rabbitmq.url, None, unique, tmp_path)
    transport = place.app.open_transport()
    transport.declare(QueueSpec(unique, durable=False))
    worker = Worker(tmp_path, place.environ, expects_ready=False)
    with worker:
        assert worker.wait(30) == 1
    transport.delete_queue(unique)
    transport.close()
    told = [line for line in worker.log().splitlines() if " INFO " not in line]
    assert len(told) == 1, worker.log()
    assert f"stopping: queue '{unique}' exists with durable false, and durable true is asked for" in told[0]
    assert "Delete the queue, use another name, or set durable to false" in told[0]


def test_a_folder_is_no_app(sqlite_place: Place) -> None:
    worker = Worker(sqlite_place.folder, sqlite_place.environ, app=".", expects_ready=False)
    with worker:
        assert worker.wait() == 1
    assert [line.partition("stopping: ")[2] for line in worker.log().splitlines()] == [
        "the app could not be loaded: '.' is a folder: name the module or the file in it, e.g. app:app"
    ]


def test_stacks_are_dumped_on_request(sqlite_place: Place) -> None:
    with sqlite_place.worker(concurrency=1) as worker:
        sqlite_place.send("work", "long", 1.5)
        wait_for(lambda: sqlite_place.ledger.count("start", "long"), what="the task to start")
        worker.send_signal(signal.SIGUSR1)
        wait_for(lambda: "in work" in worker.log(), what="the stack of the task")
        wait_for(lambda: sqlite_place.ledger.finished()["long"], what="the task to finish all the same")


def test_a_success_that_is_stored_is_not_run_again(place: Place) -> None:
    """The child dies between the result and the acknowledgement."""
    place.environ["ENGINE_WORKER_DEDUPLICATE_SUCCESSFUL_TASKS"] = "true"
    with place.worker(concurrency=1) as worker:
        result = place.send("succeed_and_die", "once")
        wait_for(
            lambda: "was finished before: acknowledged" in worker.log(),
            timeout=30,
            what="its second delivery",
        )
        assert result.get(timeout=20) == "once"
        follower = place.app.signature("tests.worker.sample_app.work", ("after",), immutable=True)
        place.send("succeed_and_die", "followed", link=follower)
        wait_for(lambda: place.ledger.count("start", "followed") == 2, timeout=30, what="the second run")
    assert place.ledger.count("start", "once") == 1


def test_a_template_that_dies_with_a_child_on_order(sqlite_place: Place) -> None:
    """The child it was to fork never comes: another one takes its place, and the worker can be stopped."""
    with sqlite_place.worker(concurrency=2) as worker:
        wait_for(lambda: len(worker.children()) == 2, what="the children")
        # a fork on its way to be a child is seen beside it for a moment
        [template] = wait_for(lambda: found if len(found := worker.template()) == 1 else None, what="it")
        template.suspend()
        worker.children()[0].kill()
        wait_for(lambda: "died" in worker.log(), what="the death to be noticed")
        wait_for(lambda: len(worker.children()) == 1, what="it to be reaped")
        time.sleep(0.6)  # two looks of the supervisor: it orders another
        template.kill()
        wait_for(lambda: "loading the app again" in worker.log(), what="the template's death to be noticed")
        wait_for(lambda: len(worker.children()) == 2, timeout=10, what="the other child")
        assert worker.stop() == 0
