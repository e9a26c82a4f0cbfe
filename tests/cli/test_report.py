"""`engine report`: versions, platform, settings; no secrets."""

import json
from pathlib import Path

from tests.cli.command import engine


def test_versions_of_what_matters(tmp_path: Path) -> None:
    shown = json.loads(engine("report", "--json", cwd=tmp_path).stdout)
    versions = shown["versions"]
    assert versions["engine"].startswith("0.")
    assert versions["python"].startswith("CPython 3.")
    assert tuple(map(int, versions["sqlite"].split("."))) >= (3, 51, 3)
    for name in ("kombu", "redis", "orjson", "click", "apsw"):
        assert versions[name][0].isdigit(), name
    assert int(shown["platform"]["cpus"]) >= 1
    assert "app" not in shown


def test_an_apps_settings_are_shown_without_passwords(shop: Path) -> None:
    secret = {
        "ENGINE_BROKER_URL": "amqp://shop:canary1@mq1//;amqp://shop:canary2@mq2//",
        "ENGINE_RESULT_BACKEND": "redis://:canary3@cache/0",
        "ENGINE_BROKER_PASSWORD": "canary4",
        "ENGINE_WORKER_CONCURRENCY": "3",
    }
    for options in ((), ("--all",), ("--json",)):
        done = engine("report", "shop", *options, cwd=shop, environ=secret)
        assert done.returncode == 0, done.stderr
        assert "canary" not in done.stdout + done.stderr
        assert "mq2" in done.stdout
        assert "shop.add" in done.stdout
        assert "worker_concurrency" in done.stdout
    shown = engine("report", "shop", "--all", cwd=shop, environ=secret).stdout
    assert "task_default_queue" in shown


def test_a_broken_app_is_one_line(shop: Path) -> None:
    done = engine("report", "shop:nothing", cwd=shop)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "nothing" in done.stderr
