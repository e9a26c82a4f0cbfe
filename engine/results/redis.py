"""Results in Redis as Celery keeps them (celery/backends/redis.py, W8): SETEX and PUBLISH on the same name.

Rules
-----
* A batch is one round trip: a Lua script a few hundred results long stores, announces, and leaves a SUCCESS
  alone.
* Waiting is SUBSCRIBE, then GET, on the same connection (RESP 3): a result that comes between the two is not
  missed.
* Everything here may be done twice without harm, so a broken connection is opened again and the call
  repeated, a few times; then ConnectionLost is raised and nothing may be acknowledged.
* Opened lazily, anew in a forked process; the parent's connection is closed there without a word.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeVar

from engine.codec import json_decode, json_encode
from engine.errors import AccessRefused, ConnectionFailed, ConnectionLost, DecodeError, ResultError
from engine.results.base import READY_STATES, ResultMeta, ResultStore
from engine.transport.redis_address import RedisAddress
from engine.transport.redis_lua import sha1_of
from engine.transport.redis_wire import RedisWire, pack

T = TypeVar("T")

TASK_PREFIX = "celery-task-meta-"
GROUP_PREFIX = "celery-taskset-meta-"

_BATCH = 200  #: results a script call stores
_TRIES = 4
_FIRST_PAUSE_S = 0.1
_ASK_AGAIN_S = 20.0  #: a waiter also looks by itself: a silent connection is noticed

# KEYS the results. ARGV seconds to live (0: for ever) and value of each. Answer: how many were stored.
_STORE = """
local function succeeded(value)
  if string.find(value, '^%s*{%s*"status"%s*:%s*"') then
    return string.find(value, '^%s*{%s*"status"%s*:%s*"SUCCESS"') ~= nil
  end
  local ok, meta = pcall(cjson.decode, value)
  return ok and type(meta) == 'table' and meta.status == 'SUCCESS'
end
local stored = 0
for i, key in ipairs(KEYS) do
  local before = redis.call('GET', key)
  if not (before and succeeded(before)) then
    local life, value = ARGV[2 * i - 1], ARGV[2 * i]
    if life == '0' then redis.call('SET', key, value) else redis.call('SETEX', key, life, value) end
    redis.call('PUBLISH', key, value)
    stored = stored + 1
  end
end
return stored
"""
_STORE_SHA = sha1_of(_STORE)


class RedisStore(ResultStore):
    """Results in one Redis database.

    Args:
        url: ``redis://``, ``rediss://`` or ``redis+socket://``, with the database as path.
        expires_s: how long a result is kept; 0 or None keeps it for ever.
        failure_expires_s: the same for FAILURE; None means as ``expires_s``.
        key_prefix: ``global_keyprefix`` of result_backend_transport_options; as in Celery, ``_`` is added
            unless it ends in one of ``:_-.``
        ssl: ``redis_backend_use_ssl``.
        connect_timeout, reply_timeout: seconds.
        tries: how often a call is tried before ConnectionLost or ConnectionFailed is raised.
    """

    def __init__(
        self,
        url: str,
        *,
        expires_s: float | None = 86400,
        key_prefix: str = "",
        failure_expires_s: float | None = None,
        ssl: Mapping[str, Any] | bool | None = None,
        connect_timeout: float = 4.0,
        reply_timeout: float = 30.0,
        client_name: str = "engine-results",
        tries: int = _TRIES,
    ) -> None:
        self._address = RedisAddress.parse(url, ssl)
        self._life = _seconds(expires_s)
        self._failure_life = self._life if failure_expires_s is None else _seconds(failure_expires_s)
        self._prefix = key_prefix if not key_prefix or key_prefix[-1] in ":_-." else f"{key_prefix}_"
        self._connect_timeout = connect_timeout
        self._reply_timeout = reply_timeout
        self._client_name = client_name
        self._tries = max(1, tries)
        self._wire: RedisWire | None = None
        self._pid = 0
        self._subscribed: set[str] = set()
        self._news: dict[str, bytes] = {}  #: what was announced on the channels subscribed to
        self._leaving = b""  #: UNSUBSCRIBE, to be sent with the next command

    def __repr__(self) -> str:
        return f"<RedisStore {self._address}>"

    # -- storing ---------------------------------------------------------------------------------------

    def store(self, metas: Sequence[ResultMeta]) -> None:
        commands = [self._store_command(metas[at : at + _BATCH]) for at in range(0, len(metas), _BATCH)]
        if commands:
            self._repeat(lambda wire: self._run_store(wire, commands))

    def _store_command(self, metas: Sequence[ResultMeta]) -> list[Any]:
        keys = [self._key(meta.task_id) for meta in metas]
        words: list[Any] = []
        for meta in metas:
            words.append(self._failure_life if meta.status == "FAILURE" else self._life)
            words.append(json_encode(meta.to_wire()))
        return [len(keys), *keys, *words]

    def _run_store(self, wire: RedisWire, commands: list[list[Any]]) -> None:
        answers = self._ask(wire, *(pack("EVALSHA", _STORE_SHA, *words) for words in commands))
        for words, answer in zip(commands, answers, strict=True):
            if wire.is_error(answer) and str(answer).startswith("NOSCRIPT"):
                [answer] = self._ask(wire, pack("EVAL", _STORE, *words))
            self._checked(wire, answer)

    # -- reading ---------------------------------------------------------------------------------------

    def get(self, task_id: str) -> ResultMeta | None:
        return self.get_many([task_id]).get(task_id)

    def get_many(self, task_ids: Sequence[str]) -> dict[str, ResultMeta]:
        if not task_ids:
            return {}
        keys = [self._key(task_id) for task_id in task_ids]
        values = self._repeat(lambda wire: self._one(wire, pack("MGET", *keys)))
        pairs = zip(task_ids, values, strict=True)
        return {task_id: _decode(task_id, value) for task_id, value in pairs if value is not None}

    def wait(self, task_id: str, timeout: float | None) -> ResultMeta | None:
        return self._wait_as_last_time(task_id, timeout)

    def iter_ready(self, task_ids: Sequence[str], timeout: float | None) -> Generator[ResultMeta, None, None]:
        """Each as it comes, on one subscription; ends when all have come or after ``timeout`` seconds."""
        deadline_mono_s = None if timeout is None else time.monotonic() + timeout
        waited = {self._key(task_id): task_id for task_id in task_ids}
        try:
            while waited:
                for key, value in self._look(list(waited)).items():
                    meta = _decode(waited[key], value)
                    if meta.status in READY_STATES:
                        del waited[key]
                        yield meta
                if waited and not self._listen(waited, deadline_mono_s):
                    return
        finally:
            self._unsubscribe()

    def _look(self, keys: list[str]) -> dict[str, bytes]:
        """What is announced or stored of these; subscribed to them from here on."""
        if self._pid == os.getpid() and self._subscribed.issuperset(keys) and self._news:
            return {key: self._news.pop(key) for key in keys if key in self._news}
        values = self._repeat(lambda wire: self._subscribe_and_get(wire, keys))
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    def _subscribe_and_get(self, wire: RedisWire, keys: list[str]) -> list[bytes | None]:
        fresh = [key for key in keys if key not in self._subscribed]
        command = pack("MGET", *keys)
        if fresh:
            command = pack("SUBSCRIBE", *fresh) + command  # SUBSCRIBE is answered by pushes alone
            self._subscribed.update(fresh)
        found: list[bytes | None] = self._one(wire, command)
        return found

    def _listen(self, waited: Mapping[str, str], deadline_mono_s: float | None) -> bool:
        """Until one of these is announced, or it is time to look again; False at the deadline."""
        self._looks_first = False
        until = time.monotonic() + _ASK_AGAIN_S
        if deadline_mono_s is not None:
            until = min(until, deadline_mono_s)
        wire = self._wire
        while not any(key in waited for key in self._news):
            now = time.monotonic()
            if now >= until:
                return deadline_mono_s is None or now < deadline_mono_s
            if wire is None or not wire.connected or self._pid != os.getpid():
                return True  # somebody lost it: subscribe anew
            try:
                wire.poll_pushes()  # an announcement may have come along with the last reply: then the
                if not any(key in waited for key in self._news):  # socket would stay silent
                    wire.wait(until - now)
            except ConnectionLost:
                return True
        return True

    def _unsubscribe(self) -> None:
        subscribed, self._subscribed = self._subscribed, set()
        self._news.clear()
        if subscribed:
            self._leaving += pack("UNSUBSCRIBE", *subscribed)

    def forget(self, task_id: str) -> None:
        self._repeat(lambda wire: self._one(wire, pack("DEL", self._key(task_id))))

    # -- groups ----------------------------------------------------------------------------------------

    def save_group(self, group_id: str, task_ids: Sequence[Any]) -> None:
        """As Celery's ``GroupResult.as_tuple``: ids become ``[[id, None], None]``, others stay."""
        members = [[[member, None], None] if isinstance(member, str) else member for member in task_ids]
        value = json_encode({"result": [[group_id, None], members]})
        words = ("SETEX", self._group_key(group_id), self._life, value)
        command = pack(*words) if self._life else pack("SET", self._group_key(group_id), value)
        self._repeat(lambda wire: self._one(wire, command))

    def get_group(self, group_id: str) -> list[Any] | None:
        """The members: the id of a plain one, what is stored of a nested group."""
        value = self._repeat(lambda wire: self._one(wire, pack("GET", self._group_key(group_id))))
        if value is None:
            return None
        stored = json_decode(value)["result"]
        return [member if member[1] else member[0][0] for member in stored[1] or []]

    # -- the connection --------------------------------------------------------------------------------

    def close(self) -> None:
        wire, self._wire = self._wire, None
        self._subscribed = set()
        self._news.clear()
        self._leaving = b""
        if wire is not None:
            wire.abandon()

    def _key(self, task_id: str) -> str:
        return f"{self._prefix}{TASK_PREFIX}{task_id}"

    def _group_key(self, group_id: str) -> str:
        return f"{self._prefix}{GROUP_PREFIX}{group_id}"

    def _connected(self) -> RedisWire:
        wire = self._wire
        if wire is not None and wire.connected and self._pid == os.getpid():
            return wire
        self.close()
        wire = RedisWire(
            self._address,
            client_name=self._client_name,
            connect_timeout=self._connect_timeout,
            reply_timeout=self._reply_timeout,
            on_push=self._on_push,
        )
        wire.connect()
        self._wire, self._pid = wire, os.getpid()
        return wire

    def _on_push(self, push: list[Any]) -> None:
        if push[0] == b"message":
            key = push[1].decode()
            if key in self._subscribed:
                self._news[key] = push[2]

    def _repeat(self, call: Callable[[RedisWire], T]) -> T:
        """Do it, on a new connection when the old one breaks. Raises the last error after so many tries."""
        for attempt in range(1, self._tries + 1):
            try:
                return call(self._connected())
            except AccessRefused:
                raise
            except (ConnectionLost, ConnectionFailed):
                if attempt == self._tries:
                    raise
                time.sleep(_FIRST_PAUSE_S * 2 ** (attempt - 1))
        raise ConnectionLost(f"{self!r}: not tried")  # not reached: tries is at least 1

    def _ask(self, wire: RedisWire, *commands: bytes) -> list[Any]:
        leaving, self._leaving = self._leaving, b""
        try:
            wire.send(b"".join((leaving, *commands)))  # leaving is answered by pushes alone
            return wire.replies(len(commands))
        except BaseException:  # a signal handler's, perhaps between the two
            wire.abandon()
            raise

    def _one(self, wire: RedisWire, command: bytes) -> Any:
        return self._checked(wire, self._ask(wire, command)[0])

    def _checked(self, wire: RedisWire, answer: Any) -> Any:
        if not wire.is_error(answer):
            return answer
        if str(answer).startswith(("READONLY", "LOADING", "MASTERDOWN")):
            wire.abandon()
            raise ConnectionLost(f"Redis at {self._address} cannot store results now: {answer}")
        raise ResultError(f"Redis at {self._address} refused: {answer}")


def _seconds(expires_s: float | None) -> int:
    """Whole seconds, at least one; 0 for no expiry."""
    return max(1, int(expires_s)) if expires_s else 0


def _decode(task_id: str, value: bytes) -> ResultMeta:
    try:
        meta = json_decode(value)
    except DecodeError as error:
        raise ResultError(f"the stored result of task {task_id} is not JSON: {error}") from None
    if not isinstance(meta, dict):
        raise ResultError(f"the stored result of task {task_id} is not an object")
    meta.setdefault("task_id", task_id)
    return ResultMeta.from_wire(meta)
