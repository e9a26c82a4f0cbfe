"""The entry points that the supervisor passes to the template by name: the only place where all parts meet.

Nothing here is imported by the supervisor. The template imports it once the app's process exists, so that its
children share the memory of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Any

from engine import __version__, coroutines, signals
from engine.errors import ConfigurationError, EngineError
from engine.settings_unbuilt import asked_in_vain
from engine.transport import mask_url
from engine.worker import boot, logs, processes, redirect
from engine.worker.assembly import Life
from engine.worker.boot import become_child
from engine.worker.failure import failure_text
from engine.worker.link import GaveUp
from engine.worker.options import WorkerOptions
from engine.worker.template import Birth

log = logging.getLogger("engine.worker")


def load(app_path: str, options: WorkerOptions) -> Any:
    """Import the app and all its tasks, and settle who logs."""
    from engine.loader import load_app

    logs.step_back()
    app = load_app(app_path)
    app.load()
    _set_up_logging(app, options)
    _preload(app)
    return app


def _set_up_logging(app: Any, options: WorkerOptions) -> None:
    """As Celery: a receiver of ``setup_logging`` does it all; else it is the worker's, or the app's own."""
    conf = app.conf
    level = logs.level_number(conf.worker_redirect_stdouts_level, "worker_redirect_stdouts_level")
    about = {
        "loglevel": logging.getLevelName(options.loglevel.upper()),
        "logfile": None,
        "format": logs.LINE_FORMAT,
        "colorize": conf.worker_log_color,
    }
    if signals.setup_logging and signals.setup_logging.send(sender=None, **about):
        logs.take_over(hijack=False)
        return
    logs.take_over(conf.worker_hijack_root_logger)
    logs.set_color(conf.worker_log_color)
    if signals.after_setup_logger:
        signals.after_setup_logger.send(sender=None, logger=logging.getLogger(), **about)
    if conf.worker_redirect_stdouts:
        redirect.install(level)


def _preload(app: Any) -> None:
    """Import what every child would import after its fork. Nothing is opened."""
    from engine.transport import split_failover, transport_class

    for url in split_failover(app.conf.broker_read_url or app.conf.broker_url):
        transport_class(url).preload(url, app.transport_options())
    app.producer  # noqa: B018 - made, not connected
    store = app.open_store()
    if store is not None:
        store.close()


def describe(app: Any, options: WorkerOptions) -> dict[str, Any]:
    """What the supervisor and the banner need to know: names, masked URLs, and the options as they hold."""
    conf = app.conf
    warnings = _unsupported(app)
    controlled = _can_be_controlled(app, warnings)
    names = sorted(name for name in app.tasks if not name.startswith("celery."))
    concurrency = options.concurrency or int(conf.worker_concurrency or 0) or processes.usable_cpus()
    drain = conf.worker_drain_deadline if options.drain_deadline_s is None else options.drain_deadline_s
    return {
        "version": __version__,
        "app": app.main or type(app).__name__,
        "broker": mask_url(_text(conf.broker_read_url or conf.broker_url)),
        "results": mask_url(app.result_url) if app.result_url else None,
        "queues": [spec.name for spec in app.topology.consume_specs(options.queues, options.nodename())],
        "tasks": names,
        "task_count": len(names),
        "warnings": warnings,
        "remote_control": controlled,
        "state_db": conf.worker_state_db if controlled else None,
        "effective": {
            "concurrency": concurrency,
            "drain_deadline_s": drain,
            "max_crashes_per_task": conf.worker_quarantine_after,
            "log_color": conf.worker_log_color,
            "boot_deadline_s": options.boot_deadline_s or conf.worker_proc_alive_timeout,
            "soft_shutdown_s": conf.worker_soft_shutdown_timeout,
        },
    }


def prepare(app: Any, options: WorkerOptions) -> Life:
    """Do what all children would do alike, in the template, before the first of them. The life that each of
    them gets a copy of."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("engine"):  # loggers remember whether anybody listens
            logging.getLogger(name).isEnabledFor(logging.DEBUG)
    app.topology  # noqa: B018 - made once, as what messages are accepted
    # a child may register the serializer first, or will tell that it is missing
    with contextlib.suppress(ConfigurationError):
        app.decode  # noqa: B018
    boot.prepare()
    return Life(app, options)


def _unsupported(app: Any) -> list[str]:
    """What the app asks for and this worker does not do: said, not ignored."""
    told = []
    limited = sorted(name for name, task in app.tasks.items() if getattr(task, "rate_limit", None))
    if limited and not app.conf.worker_disable_rate_limits:
        told.append(f"rate limits are not enforced by this worker: {', '.join(limited[:10])}")
    in_vain = asked_in_vain(app.conf)
    if in_vain:
        told.append(f"set, but without effect yet: {', '.join(in_vain)}")
    return told


def _can_be_controlled(app: Any, warnings: list[str]) -> bool:
    """Whether a control child is to be started; why not, if it was wanted, is added to the warnings."""
    from engine.mailbox import Mailbox
    from engine.transport import split_failover, transport_class

    conf = app.conf
    if not conf.worker_enable_remote_control:
        return False
    Mailbox.of(conf)  # settings that exclude each other are told at the start
    url = split_failover(conf.broker_read_url or conf.broker_url)[0]
    if "fanout" in transport_class(url).capabilities.exchanges:
        return True
    warnings.append(f"no remote control, and tasks cannot be revoked: {mask_url(url)} cannot broadcast")
    return False


def _text(url: Any) -> str:
    return url if isinstance(url, str) else ";".join(map(str, url))


def announce(app: Any, event: str, options: WorkerOptions) -> None:
    """Send the app's own signal of that name."""
    signal = getattr(signals, event)
    if signal:
        signal.send(sender=app, hostname=options.nodename())
        if event == "worker_ready":  # children are still to come: what it did to signals is not for them
            boot.prepare()


def run_control_child(app: Any, birth: Birth) -> int:
    """The control child's whole life; its exit code. It runs no code of the app's, and sends no signals."""
    from engine.worker.control_child import ControlLife

    life = ControlLife(app, birth)
    become_child("engine-control", birth.recorder_fd, life.ask_to_stop)
    try:
        life.live()
    except EngineError as error:
        birth.control.send({"op": "failed", "text": failure_text(error)})
        return 1
    finally:
        app.close()
        logging.shutdown()
    return 0


def run_child(app: Any, life: Life, birth: Birth) -> int:
    """A child's whole life, in the process that was just forked for it; its exit code."""
    life.begin(birth)
    become_child(f"engine-child-{birth.slot}", birth.recorder_fd, lambda: life.ask_to_stop("signal"))
    signals.worker_process_init.send(sender=None)
    code = 0
    try:
        life.live()
    except EngineError as error:
        gave_up = isinstance(error, GaveUp)
        fatal = not life.was_ready and not gave_up
        text = failure_text(error)
        birth.control.send({"op": "failed", "text": text, "fatal": fatal, "gave_up": gave_up})
        if life.was_ready:  # before that, the supervisor tells it
            log.error("this child cannot go on: %s", text)
        code = 1
    finally:
        signals.worker_process_shutdown.send(sender=None, pid=os.getpid(), exitcode=code)
        coroutines.close()
        app.close()
        redirect.release()
        logging.shutdown()
    return code
