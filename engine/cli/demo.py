"""``engine demo``: counts a folder's words with a real worker, and checks the sums against plain Python."""

from __future__ import annotations

import os
import secrets
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from engine.cli.exit_codes import ExitCode

_NOT_SOURCE = ("__pycache__", "site-packages", "dist-packages", ".git")


@click.command(epilog="Example: engine demo ~/src --concurrency 2 --broker redis://localhost")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), required=False)
@click.option(
    "-b", "--broker", metavar="URL", help="Default: a SQLite file in a temporary folder; no server."
)
@click.option(
    "-c", "--concurrency", type=click.IntRange(min=1), default=4, show_default=True, help="Processes."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N files.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def demo(folder: Path | None, broker: str | None, concurrency: int, limit: int | None, as_json: bool) -> int:
    """Count the lines, words and tokens of all files in FOLDER, one task a file.

    FOLDER is Python's standard library when none is given. The sums must be those of a plain loop in one
    process; otherwise the exit status is 1.
    """
    root = (folder or Path(sysconfig.get_paths()["stdlib"])).resolve()
    files = sorted(find_files(root))[:limit]
    if not files:
        raise click.UsageError(f"there are no files in {root}")
    with tempfile.TemporaryDirectory(prefix="engine-demo-") as scratch:
        found = _run(
            files, broker or f"sqlite:///{scratch}/demo.db", concurrency, Path(scratch), quiet=as_json
        )
    found = {"folder": str(root), **found}
    if as_json:
        from engine.cli.output import print_json

        print_json(found)
    else:
        _print(found)
    return ExitCode.OK if found["equal"] else ExitCode.FAILURE


def find_files(root: Path) -> Iterator[str]:
    """Every plain file below ``root``, without caches and installed packages; links to folders stay out."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _NOT_SOURCE]
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                yield path


def _run(files: list[str], broker: str, concurrency: int, scratch: Path, *, quiet: bool) -> dict[str, Any]:
    from engine.cli.demo_run import add_up, count_in_background, count_plainly
    from engine.cli.progress import Bar
    from engine.transport import mask_url

    queue = f"demo-{secrets.token_hex(4)}"
    with Bar(enabled=not quiet) as bar:
        background = count_in_background(files, broker, queue, concurrency, scratch, bar)
        plain = count_plainly(files, bar)
    totals, plain_totals = add_up(background.counts), add_up(plain.counts)
    return {
        "broker": mask_url(broker),
        "concurrency": concurrency,
        "tasks": len(files),
        "seconds": round(background.seconds, 3),
        "tasks_per_second": round(len(files) / background.seconds, 1),
        "plain_seconds": round(plain.seconds, 3),
        "totals": totals,
        "plain_totals": plain_totals,
        "equal": totals == plain_totals,
    }


def _print(found: dict[str, Any]) -> None:
    from engine.cli.output import print_table

    totals, plain = found["totals"], found["plain_totals"]
    click.echo(f"{found['tasks']:,} tasks, {found['concurrency']} processes, broker {found['broker']}")
    print_table(
        ["", "by the engine", "by a plain loop"],
        [[name, _shown(value), _shown(plain[name])] for name, value in totals.items()],
    )
    rate, seconds, alone = found["tasks_per_second"], found["seconds"], found["plain_seconds"]
    click.echo(
        f"{rate:,.0f} tasks a second: {seconds:.1f} s, publishing included; one process alone {alone:.1f} s"
    )
    click.echo("the sums agree" if found["equal"] else "engine: THE SUMS DIFFER", err=not found["equal"])


def _shown(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value[:16]
