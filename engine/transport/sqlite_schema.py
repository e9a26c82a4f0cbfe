"""The tables of an SQLite broker, and the statements on the hot path. Text only.

A message's `owner` says where it is: READY, DELAYED, or the id of the consumer that holds it. All three are
integers of six bytes, so a claim overwrites the row in place instead of rewriting it with its body. One index
leads to all of them: what is ready in a queue by priority and age, and what a dead consumer held.

`deliveries` counts how often it was given back; `due_ms` stands only while DELAYED; `expires_ms` is wall
time. A queue's id is never used again, so a message held while its queue is deleted can't slip into the next
one of that name.
"""

# ruff: noqa: S608 - what is put into statements here are this module's own constants
from __future__ import annotations

from functools import lru_cache

#: "Engn", so that ``file engine.db`` and we ourselves know whose file it is (PRAGMA application_id).
APPLICATION_ID = 0x456E676E
SCHEMA_VERSION = 1

READY = 1 << 40
DELAYED = READY + 1
FIRST_OWNER = READY + 16

SCHEMA = f"""
CREATE TABLE meta(
  key TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO meta VALUES('topology', 1);

CREATE TABLE queues(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE,
  arguments TEXT NOT NULL
);
CREATE TABLE exchanges(
  name TEXT PRIMARY KEY,
  type TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE bindings(
  exchange TEXT NOT NULL,
  queue INTEGER NOT NULL REFERENCES queues(id),
  routing_key TEXT NOT NULL,
  arguments TEXT NOT NULL,
  PRIMARY KEY(exchange, queue, routing_key, arguments)
) WITHOUT ROWID;

CREATE TABLE messages(
  id INTEGER PRIMARY KEY,
  owner INTEGER NOT NULL,
  queue INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  deliveries INTEGER NOT NULL DEFAULT 0,
  since_ms INTEGER NOT NULL,
  due_ms INTEGER,
  expires_ms INTEGER,
  envelope BLOB NOT NULL,
  body BLOB NOT NULL
);
CREATE INDEX messages_by_place ON messages(owner, queue, priority DESC, id);
CREATE INDEX messages_by_due ON messages(due_ms) WHERE due_ms IS NOT NULL;
CREATE INDEX messages_by_expiry ON messages(expires_ms) WHERE expires_ms IS NOT NULL;

CREATE TABLE owners(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  pid INTEGER NOT NULL,
  queues TEXT NOT NULL
);
INSERT INTO sqlite_sequence VALUES('owners', {FIRST_OWNER});

CREATE TABLE results(
  task_id TEXT PRIMARY KEY,
  status TEXT NOT NULL,
  expires_ms INTEGER,
  meta BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX results_by_expiry ON results(expires_ms) WHERE expires_ms IS NOT NULL;
CREATE TABLE groups(
  group_id TEXT PRIMARY KEY,
  expires_ms INTEGER,
  members BLOB NOT NULL
) WITHOUT ROWID;

PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""

INSERT_MESSAGE = (
    "INSERT INTO messages(owner, queue, priority, since_ms, due_ms, expires_ms, envelope, body) "
    "VALUES(?, ?, ?, ?, ?, ?, ?, ?)"
)
PEEK = f"SELECT 1 FROM messages WHERE owner = {READY} AND queue = ? LIMIT 1"
ACK = "DELETE FROM messages WHERE id = ? AND owner = ?"
GIVE_BACK = (
    f"UPDATE messages SET owner = {READY}, deliveries = deliveries + 1 "
    "WHERE id = ? AND owner = ? RETURNING queue"
)
GIVE_BACK_ALL = (
    f"UPDATE messages SET owner = {READY}, deliveries = deliveries + 1 WHERE owner = ? RETURNING queue"
)
DROP_READY = f"DELETE FROM messages WHERE owner = {READY} AND queue = ?"
DROP_DELAYED = f"DELETE FROM messages WHERE owner = {DELAYED} AND queue = ?"
PARK = f"UPDATE messages SET owner = {DELAYED}, due_ms = ? WHERE id = ? AND owner = ?"
NEXT_DUE = "SELECT min(due_ms) FROM messages WHERE due_ms IS NOT NULL"
PROMOTE = (
    f"UPDATE messages SET owner = {READY}, due_ms = NULL WHERE id IN "
    "(SELECT id FROM messages WHERE due_ms <= ? ORDER BY due_ms LIMIT 1000) RETURNING queue"
)
NEXT_EXPIRY = (
    f"SELECT expires_ms FROM messages WHERE expires_ms IS NOT NULL AND owner IN ({READY}, {DELAYED}) "
    "ORDER BY expires_ms LIMIT 1"
)
EXPIRED = (
    "SELECT id, queue, envelope, body FROM messages WHERE expires_ms <= ? "
    f"AND owner IN ({READY}, {DELAYED}) LIMIT 1000"
)


@lru_cache
def claim_statement(queues: int) -> str:
    """Claim from that many queues, the most urgent and oldest first.

    Parameters: owner, limit, then the queue ids. Each queue's stretch of the index has the wanted order
    already, so SQLite merges them row by row and stops at the limit: neither a deep queue nor many of them
    cost sorting. RETURNING has no order of its own."""
    candidates = " UNION ALL ".join(
        f"SELECT id, priority FROM messages WHERE owner = {READY} AND queue = ?{number + 3}"
        for number in range(queues)
    )
    chosen = f"{candidates} ORDER BY 2 DESC, 1 LIMIT ?2"
    return (
        f"UPDATE messages SET owner = ?1 WHERE id IN (SELECT id FROM ({chosen})) "
        "RETURNING id, queue, priority, deliveries, expires_ms, envelope, body"
    )
