"""The Lua that several scripts share, and how a script is known to Redis."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module

try:  # Python's own; hashlib's comes with OpenSSL: 2 ms of a process's start
    _sha1 = import_module("_sha1").sha1
except ImportError:  # a build without it
    _sha1 = import_module("hashlib").sha1


def sha1_of(text: str) -> str:
    """Its SHA-1 in hexadecimal digits."""
    digest: str = _sha1(text.encode(), usedforsecurity=False).hexdigest()
    return digest


@dataclass(frozen=True, slots=True)
class Script:
    """Lua and its SHA-1, by which Redis knows it."""

    source: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", sha1_of(self.source))


NOW = """
local function server_now()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end
"""

# split: '[message, "exchange", "key"]' -> message, exchange, key; nil when it is not of that form. The
# message is a JSON object, so the last two strings are found from the end; quotes inside a name must be
# escaped as \\u0022.
# insert: puts text at the begin of the object that is the value of a key.
# mark: the message with the flag that kombu and Celery read, in its delivery_info; as it is when it has it
# already or has another form. (kombu also writes it among the headers, where it would be the user's.)
MESSAGE = """
local function split(value)
  local from = math.max(1, #value - 2048)
  local tail = string.sub(value, from)
  local at, _, exchange, key = string.find(tail, ',%s*("[^"]*"),%s*("[^"]*")%]$')
  if not at then
    at, _, key = string.find(tail, ',%s*null,%s*("[^"]*")%]$')
    exchange = '""'
  end
  if not at then return nil end
  local names = cjson.decode('[' .. exchange .. ',' .. key .. ']')
  return string.sub(value, 2, from + at - 2), names[1], names[2]
end

local function insert(message, name, text, last)
  local quoted = '"' .. name .. '"'
  local _, at = string.find(message, quoted, 1, true)
  while at and last do
    local _, further = string.find(message, quoted, at + 1, true)
    if not further then break end
    at = further
  end
  if not at then return message end
  local _, open = string.find(message, '^%s*:%s*{', at + 1)
  if not open then return message end
  local comma = string.find(message, '^%s*}', open + 1) and '' or ','
  return string.sub(message, 1, open) .. text .. comma .. string.sub(message, open + 1)
end

local function checked(changed, message)
  return pcall(cjson.decode, changed) and changed or message
end

local function mark(message)
  if string.find(message, '"redelivered":%s*true') then return message end
  local flag = '"redelivered":true'
  return checked(insert(message, 'delivery_info', flag, true), message)
end
"""

# Waiting in turns: of all that wait for the same queues only the owners in two slots watch the lists, so that
# a message does not wake a whole fleet. Whoever stops watching hands its place to the one that began to wait
# last, by writing that one's baton key. A place ends by itself when its owner is not heard of for 12 s;
# everybody who waits also looks once a second.
TURNS = """
local function leave(token, slots, idle, batons, now)
  local watched = false
  for _, slot in ipairs(slots) do
    if redis.call('GET', slot) == token then
      redis.call('DEL', slot)
      watched = true
    end
  end
  redis.call('ZREM', idle, token)
  while watched do
    local last = redis.call('ZPOPMAX', idle)
    if not last[1] then break end
    if tonumber(last[2]) > now - 12 then
      redis.call('SET', batons .. last[1], '', 'PX', 1000)
      break
    end
  end
end

local function watches(token, slots)
  for _, slot in ipairs(slots) do
    if redis.call('GET', slot) == token then
      redis.call('PEXPIRE', slot, 12000)
      return true
    end
  end
  for _, slot in ipairs(slots) do
    if redis.call('SET', slot, token, 'NX', 'PX', 12000) then return true end
  end
  return false
end
"""

# Gives back what one owner holds. A tag whose index score is later than the owner's last lease was claimed by
# somebody else since (a kombu sweep restored it), and is not ours to touch.
RELEASE_CLAIMS = """
local function release(token, owners, unacked, index, claims)
  local deadline = tonumber(redis.call('ZSCORE', owners, token) or '1e18')
  local held = redis.call('HGETALL', claims)
  local ordered = {}
  for i = 1, #held, 2 do
    local score = tonumber(redis.call('ZSCORE', index, held[i]) or '2e18')
    if score <= deadline then ordered[#ordered + 1] = {score, held[i], held[i + 1], i} end
  end
  table.sort(ordered, function(a, b) return a[1] > b[1] or (a[1] == b[1] and a[4] > b[4]) end)
  local restored = 0
  for _, claim in ipairs(ordered) do
    local value = redis.call('HGET', unacked, claim[2])
    local message = value and split(value)
    if message then
      redis.call('RPUSH', claim[3], mark(message))
      redis.call('HDEL', unacked, claim[2])
      redis.call('ZREM', index, claim[2])
      restored = restored + 1
    end
  end
  redis.call('DEL', claims)
  redis.call('ZREM', owners, token)
  return restored
end
"""
