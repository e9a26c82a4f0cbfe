"""Signatures, chains and groups: Celery's JSON shape, and how they run."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from celery import Celery
from celery import chain as celery_chain
from celery import group as celery_group
from celery import signature as celery_signature
from celery.canvas import Signature as CelerySignature

from engine.app import Engine
from engine.canvas import chain, chord, group, signature
from engine.codec import json_encode
from engine.errors import ConfigurationError, NotRegistered, QueueNotFound
from engine.outbox import Outbox
from engine.signature import Signature
from tests.inline_worker import run_all

celery = Celery("oracle", broker="memory://", set_as_current=False)


@celery.task(name="t.add")
def celery_add(a: int, b: int = 0) -> int:
    return a + b


@pytest.fixture
def app(unique: str) -> Engine:
    return Engine("t", broker=f"memory://{unique}")


@pytest.fixture
def add(app: Engine) -> Any:
    @app.task(name="t.add")
    def add(a: int, b: int = 0) -> int:
        return a + b

    return add


def plain(value: Any) -> Any:
    return json.loads(json_encode(value))


def sent(call: Any) -> list[dict[str, Any]]:
    """Headers and arguments of what a call publishes."""
    box = Outbox()
    call(producer=box)
    return [
        {**(m.headers or {}), "embed": json.loads(m.body)[2], "args": json.loads(m.body)[0]}
        for m in box.messages
    ]


# -- the shape -----------------------------------------------------------------------------------------


def test_a_signature_is_celerys_dict(add: Any) -> None:
    ours = add.s(1, b=2).set(countdown=5, queue="q")
    theirs = celery_add.s(1, b=2).set(countdown=5, queue="q")
    assert plain(ours) == json.loads(json.dumps(theirs))
    assert plain(add.si(3)) == json.loads(json.dumps(celery_add.si(3)))


@pytest.mark.parametrize(
    "make",
    [
        lambda add, chain, group: chain(add.s(1, 2), add.s(3)),
        lambda add, chain, group: group(add.s(1, 2), add.s(3, 4)),
        lambda add, chain, group: chain(add.s(1), group(add.s(2), add.s(3))),
        lambda add, chain, group: add.s(1) | add.s(2) | add.s(3),
        lambda add, chain, group: chain(chain(add.s(1), add.s(2)), add.s(3)),
    ],
)
def test_chains_and_groups_are_celerys_dicts(add: Any, make: Any) -> None:
    ours, theirs = make(add, chain, group), make(celery_add, celery_chain, celery_group)
    assert plain(ours) == json.loads(json.dumps(theirs))


def test_celery_reads_ours_and_we_read_celerys(add: Any, app: Engine) -> None:
    ours = chain(add.s(1, 2), group(add.s(3), add.s(4)))
    read = celery_signature(plain(ours), app=celery)
    assert isinstance(read, CelerySignature)
    assert repr(read).startswith("t.add(1, 2) | ")
    theirs = json.loads(json.dumps(celery_chain(celery_add.s(1, 2), celery_group(celery_add.s(3)))))
    back = signature(theirs, app=app)
    assert isinstance(back, chain)
    assert [step.task for step in back.tasks] == ["t.add", "t.add"]
    assert all(type(step) is Signature for step in back.tasks)


def test_the_wire_of_a_chain_is_celerys(add: Any) -> None:
    box = Outbox()
    ours = chain(add.s(1, 2), add.s(3), add.s(4)).set(task_id="last")
    result = ours.apply_async(producer=box)
    (message,) = box.messages
    embed = json.loads(message.body)[2]
    assert [step["args"] for step in embed["chain"]] == [[4], [3]]
    assert embed["chain"][0]["options"]["task_id"] == "last" == result.id
    assert (message.headers or {})["id"] == result.parent.parent.id
    tasks, _ = celery_chain(celery_add.s(1, 2), celery_add.s(3), celery_add.s(4)).prepare_steps(
        (), {}, list(celery_chain(celery_add.s(1, 2), celery_add.s(3), celery_add.s(4)).tasks), app=celery
    )
    theirs = json.loads(json.dumps(tasks[:-1]))
    for step in (*theirs, *embed["chain"]):
        step.pop("chord_size", None)
        step["options"] = {k: v for k, v in step["options"].items() if k not in ("task_id", "reply_to")}
    assert embed["chain"] == theirs


# -- signatures ----------------------------------------------------------------------------------------


def test_partial_arguments_go_first(add: Any) -> None:
    (call,) = sent(lambda **o: add.s(2).apply_async((1,), **o))
    assert call["args"] == [1, 2]
    (call,) = sent(lambda **o: add.si(2).apply_async((1,), **o))
    assert call["args"] == [2]


def test_clone_set_and_replace_do_not_touch_the_original(add: Any) -> None:
    original = add.s(1).set(queue="a")
    clone = original.clone((5,), {"b": 1}, queue="b")
    assert (clone.args, clone.kwargs, clone.options) == ((5, 1), {"b": 1}, {"queue": "b"})
    assert original.replace(args=(9,)).args == (9,)
    assert (original.args, original.options) == ((1,), {"queue": "a"})
    assert clone.type is add


def test_links_are_kept_once(add: Any) -> None:
    sig = add.s(1)
    for _ in range(2):
        sig.link(add.s(2))
        sig.on_error(add.s(3))
    assert [len(sig.options[name]) for name in ("link", "link_error")] == [1, 1]


def test_freeze_gives_the_id_ahead(add: Any) -> None:
    sig = add.s(1, 2)
    result = sig.freeze()
    assert sig.id == result.id
    assert sig.freeze().id == result.id
    (call,) = sent(lambda **o: sig.apply_async(**o))
    assert call["id"] == result.id


def test_copies_and_pickles(add: Any, app: Engine) -> None:
    sig = add.s(1, 2)
    assert copy.deepcopy(sig) == dict(sig)
    assert pickle.loads(pickle.dumps(sig)) == sig
    assert sig() == 3
    assert repr(add.s(1, b=2)) == "t.add(1, b=2)"


def test_a_name_alone_is_enough_to_send(app: Engine) -> None:
    sig = app.signature("far.task", (1,), options={"queue": "far"})
    box = Outbox()
    sig.apply_async(producer=box)
    assert box.messages[0].routing_key == "far"
    with pytest.raises(NotRegistered, match=r"far\.task"):
        sig()


# -- running -------------------------------------------------------------------------------------------


def test_a_chain_runs(app: Engine, add: Any) -> None:
    result = (add.s(1, 2) | add.s(10) | add.s(100)).delay()
    ran = run_all(app)
    assert [outcome.result for _, outcome in ran] == [3, 13, 113]
    assert result.get(timeout=1) == 113
    root = ran[0][0].id
    assert [(m.root_id, m.parent_id) for m, _ in ran] == [(root, None), (root, root), (root, ran[1][0].id)]
    assert result.parent.parent.get(timeout=1) == 3


def test_a_chain_stops_where_it_fails(app: Engine, add: Any) -> None:
    heard: list[Any] = []

    @app.task
    def fail(n: int) -> None:
        raise ValueError(n)

    @app.task
    def on_error(request: Any, exc: Exception, traceback: str) -> None:
        heard.append((request.task, repr(exc)))

    result = chain(add.s(1, 2), fail.s(), add.s(1)).on_error(on_error.s()).delay()
    assert [outcome.state for _, outcome in run_all(app)] == ["SUCCESS", "FAILURE"]
    assert heard == [(fail.name, "ValueError(3)")]
    with pytest.raises(ValueError, match="3"):
        result.get(timeout=1)


def test_callbacks_of_a_chain_are_those_of_its_last(app: Engine, add: Any) -> None:
    chain(add.s(1), add.s(2)).apply_async(link=add.s(10))
    assert [outcome.result for _, outcome in run_all(app)] == [1, 3, 13]


def test_a_chain_within_a_chain(app: Engine, add: Any) -> None:
    chain(add.s(1), chain(add.s(2), add.s(3)), add.s(4)).delay()
    assert run_all(app)[-1][1].result == 10
    add.apply_async((1,), link=chain(add.s(2), add.s(3)))
    assert run_all(app)[-1][1].result == 6


def test_a_group_runs(app: Engine, add: Any) -> None:
    result = group(add.s(n, n) for n in range(5)).delay()
    ran = run_all(app)
    assert result.get(timeout=1) == [0, 2, 4, 6, 8]
    assert {m.group for m, _ in ran} == {result.id}
    assert [m.group_index for m, _ in ran] == [0, 1, 2, 3, 4]
    assert (len(result), result.ready(), result.successful(), result.completed_count()) == (5, True, True, 5)


def test_a_group_at_the_end_of_a_chain(app: Engine, add: Any) -> None:
    result = chain(add.s(1, 1), group(add.s(10), chain(add.s(20), add.s(30)))).delay()
    run_all(app)
    assert result.get(timeout=1) == [12, 52]


def test_groups_nested_and_empty(app: Engine, add: Any) -> None:
    assert len(group(group(add.s(1), add.s(2)), add.s(3)).delay()) == 3
    assert group().delay().get() == []
    assert group(add.s(1)).skew(step=2).tasks[0].options == {"countdown": 1.0}


def test_a_group_that_cannot_be_published_says_so(app: Engine, add: Any) -> None:
    app.conf.task_create_missing_queues = False
    with pytest.raises(QueueNotFound):
        group(add.s(1), add.s(2).set(queue="nope")).delay()
    assert run_all(app) == []


@pytest.mark.parametrize(
    "make", [lambda s: chord([s], s), lambda s: group(s) | s, lambda s: chain(group(s), s)]
)
def test_chords_are_refused_before_anything_is_sent(add: Any, make: Any) -> None:
    with pytest.raises(ConfigurationError, match="chords are not implemented: nothing was sent"):
        make(add.s(1))


def test_tasks_calling_canvas_remember_their_children(app: Engine, add: Any) -> None:
    @app.task
    def parent() -> None:
        group(add.s(1), add.s(2)).delay()

    result = parent.delay()
    run_all(app)
    (child,) = result.children
    assert child.get(timeout=1) == [1, 2]
    assert [value for _, value in result.collect()] == [None, 1, 2]
