"""``engine report``: versions, platform and settings, for a bug report. No password is in it."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import click

from engine.cli.exit_codes import ExitCode
from engine.cli.target import app_option, load

PACKAGES = (
    "celery",
    "kombu",
    "amqp",
    "redis",
    "hiredis",
    "orjson",
    "click",
    "rich",
    "psutil",
    "msgpack",
    "zstandard",
)


@click.command(epilog="Example: engine report app:app --json")
@click.argument("app_word", metavar="[APP]", required=False)
@app_option
@click.option("--all", "all_settings", is_flag=True, help="Show every setting, not only those that were set.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def report(app_word: str | None, app_path: str | None, all_settings: bool, as_json: bool) -> int:
    """Show versions, platform and, for an APP, its tasks and settings with secrets masked."""
    found: dict[str, Any] = {"versions": versions(), "platform": describe_platform()}
    path = app_word or app_path
    if path is not None:
        found["app"] = describe_app(path, all_settings)
    if as_json:
        from engine.cli.output import print_json

        print_json(found)
    else:
        for section, values in found.items():
            click.echo(f"{section}:")
            width = max(map(len, values), default=0)
            for name, value in values.items():
                click.echo(f"  {name:<{width}}  {value}")
    return ExitCode.OK


def versions() -> dict[str, str]:
    """Ours and those of what we stand on; a dash for what is not installed."""
    from engine import __version__

    found = {
        "engine": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    found["apsw"], found["sqlite"] = _apsw()
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "–"
    return found


def _apsw() -> tuple[str, str]:
    try:
        import apsw
    except ImportError:
        return "–", "–"
    return apsw.apsw_version(), apsw.sqlite_lib_version()


def describe_platform() -> dict[str, str]:
    """The machine, as far as it matters."""
    import os

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()).strip() or "–",
        "cpus": str(cpus),
    }


def describe_app(path: str, all_settings: bool) -> dict[str, Any]:
    """The app's name, tasks and settings, masked."""
    app = load(path)
    masked = app.conf.masked()
    chosen = masked if all_settings else {name: masked[name] for name in app.conf.changed}
    tasks = sorted(name for name in app.tasks if not name.startswith("celery."))
    shown = {"broker_url": masked["broker_url"], "result_backend": masked["result_backend"], **chosen}
    return {"main": app.main, "tasks": ", ".join(tasks) or "none", **shown}
