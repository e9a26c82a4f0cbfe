"""Signals: who is called, with what, and what a receiver cannot break."""

from __future__ import annotations

import gc
import logging
from typing import Any

import pytest

from engine.app import Engine
from engine.outbox import Outbox
from engine.signals import Signal, after_task_publish, before_task_publish


def test_receivers_get_signal_sender_and_names() -> None:
    signal, calls = Signal("s"), []

    @signal.connect
    def receiver(**given: Any) -> str:
        calls.append(given)
        return "answer"

    assert signal.send(sender="me", value=1) == [(receiver, "answer")]
    assert calls == [{"signal": signal, "sender": "me", "value": 1}]


def test_only_for_its_sender() -> None:
    signal, calls = Signal("s"), []

    class Sender:
        name = "tasks.add"

    @signal.connect(sender="tasks.add")
    def receiver(sender: Any, **_: Any) -> None:
        calls.append(sender)

    for sender in ("tasks.add", "other", Sender):
        signal.send(sender=sender)
    assert calls == ["tasks.add", Sender]


def test_false_while_nobody_listens() -> None:
    signal = Signal("s")
    assert not signal

    def receiver(**_: Any) -> None: ...

    signal.connect(receiver)
    signal.connect(receiver)
    assert len(signal.send()) == 1
    assert signal.disconnect(receiver)
    assert not signal.disconnect(receiver)
    assert not signal


def test_receivers_are_held_weakly_unless_told_otherwise() -> None:
    signal = Signal("s")

    class Listener:
        def hear(self, **_: Any) -> None: ...

    listener = Listener()
    signal.connect(listener.hear)
    signal.connect(lambda **_: None, weak=False)
    assert len(signal.send()) == 2
    del listener
    gc.collect()
    assert len(signal.send()) == 1


def test_dispatch_uid_keeps_it_single() -> None:
    signal = Signal("s")
    for _ in range(2):
        signal.connect(lambda **_: None, weak=False, dispatch_uid="one")
    assert len(signal.send()) == 1
    assert signal.disconnect(dispatch_uid="one")


def test_what_a_receiver_raises_goes_no_further(caplog: pytest.LogCaptureFixture) -> None:
    signal, after = Signal("s"), []

    def bad(**_: Any) -> None:
        raise ValueError("mine")

    def good(**_: Any) -> None:
        after.append(1)

    signal.connect(bad)
    signal.connect(good)
    with caplog.at_level(logging.ERROR):
        answers = signal.send()
    assert isinstance(answers[0][1], ValueError)
    assert after == [1]
    assert "of signal s raised" in caplog.text


def test_publishing_is_announced_and_headers_may_be_added() -> None:
    app, heard, box = Engine("signals", broker="memory://signals"), [], Outbox()

    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    @before_task_publish.connect
    def before(sender: str, headers: dict[str, Any], **given: Any) -> None:
        headers["trace"] = "t1"
        heard.append(("before", sender, given["routing_key"], given["body"][0]))

    @after_task_publish.connect
    def after(sender: str, headers: dict[str, Any], **_: Any) -> None:
        heard.append(("after", sender, headers["trace"]))

    try:
        add.apply_async((1, 2), producer=box)
    finally:
        before_task_publish.disconnect(before)
        after_task_publish.disconnect(after)
    name = add.name
    assert heard == [("before", name, "celery", (1, 2)), ("after", name, "t1")]
    assert box.messages[0].headers is not None
    assert box.messages[0].headers["trace"] == "t1"
