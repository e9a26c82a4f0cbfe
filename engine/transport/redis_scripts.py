"""What must happen in Redis in one step, as Lua; each script with its keys, arguments and answer.

Rules
-----
* A message is moved, never copied: it leaves its list and enters ``unacked`` in the same step.
* ``unacked`` values are kombu's, ``[message, exchange, routing key]``. Ours name the default exchange and the
  queue itself, so whoever restores them puts them back into the very queue they came from.
* The message's bytes are cut and joined, never decoded and encoded again: cjson turns an empty list into an
  object and rounds large integers.
* The clock is the server's (``TIME``). Keys of dead owners and binding tables are computed: no Redis Cluster.
* Redis lets a script that has already written go on when its memory is full (script.c, scriptVerifyOOM). So
  what only moves messages begins with a write that needs no memory, if only one that changes nothing.
"""

from __future__ import annotations

from engine.transport.redis_lua import MESSAGE, NOW, RELEASE_CLAIMS, TURNS, Script

# KEYS unacked, unacked_index, claims, owners, two watchers' slots, the idle, then the lists. ARGV limit,
# token, lease (s), mode, register (0/1), prefix of batons, then the ending of the unacked value for each
# queue. Lists are the queues times the steps, steps outermost. Answer: flat [tag, index of the list, message,
# ...]. A copy of a message that is in flight from the same queue (a publish that was retried) is dropped; the
# same tag from elsewhere gets a name of its own. Mode 1: the caller will wait if there is nothing; the answer
# is then [1] when it is to watch the lists, [0] when its baton. Mode 2: it was waiting and does so no more.
# Mode 0: neither.
#
# Scores rise within a claim: what is given back keeps its order. The filling, put in and taken out, makes
# Redis leave the compact form that keys of up to 128 short entries have: that one is searched from its start
# for each tag, which took half of the server's time. What is written is gathered: a call for each message
# costs more than its work, and so does Lua's way from a number to text.
CLAIM = Script(
    NOW
    + TURNS
    + """
local now = server_now()
local want, queues = tonumber(ARGV[1]), #ARGV - 6
local slots = {KEYS[5], KEYS[6]}
local sub, find, format = string.sub, string.find, string.format
local tags, values, lists, messages, count = {}, {}, {}, {}, 0
local answer = {}

local OURS = ',"body_encoding":"base64","delivery_tag":"'
local KOMBUS = ', "body_encoding": "base64", "delivery_tag": "'

local function tag_of(message)
  if sub(message, -3) == '"}}' and (sub(message, -81, -40) == OURS or sub(message, -85, -40) == KOMBUS) then
    local tag = sub(message, -39, -4)
    if not find(tag, '"', 1, true) and not find(tag, '\\\\', 1, true) then return tag end
  end
  local _, at = find(message, '"delivery_tag"', 1, true)
  if at and not find(message, '"delivery_tag"', at, true) then
    local tag = string.match(message, '^%s*:%s*"([^"\\\\]+)"', at + 1)
    if tag then return tag end
  end
  local ok, decoded = pcall(cjson.decode, message)
  if ok and type(decoded) == 'table' and type(decoded.properties) == 'table' then
    local tag = decoded.properties.delivery_tag
    if type(tag) == 'string' and tag ~= '' then return tag end
  end
  return 'engine-' .. redis.sha1hex(message)
end

local function record()
  local micros, n = math.floor(now * 1000000), 0
  local present = redis.call('HMGET', KEYS[1], unpack(tags))
  local fields, scores, origins = {}, {}, {}
  for i = 1, count do
    local tag, value = tags[i], values[i]
    local other = present[i] or present[tag]
    if other ~= value then
      if other then tag = tag .. format('~%d~%d', micros, i) end
      present[tag] = value
      fields[n + 1], fields[n + 2] = tag, value
      scores[n + 1], scores[n + 2] = format('%de-6', micros + i), tag
      origins[n + 1], origins[n + 2] = tag, KEYS[lists[i]]
      n = n + 2
      local at = #answer
      answer[at + 1], answer[at + 2], answer[at + 3] = tag, lists[i] - 8, messages[i]
    end
  end
  if n == 0 then return end
  local filling = n >= 16 and 'engine' .. string.rep('-', 60)
  if filling then
    redis.call('ZADD', KEYS[2], now, filling)
    redis.call('HSET', KEYS[3], filling, '')
  end
  redis.call('HSET', KEYS[1], unpack(fields))
  redis.call('ZADD', KEYS[2], unpack(scores))
  redis.call('HSET', KEYS[3], unpack(origins))
  redis.call('ZADD', KEYS[4], now + tonumber(ARGV[3]), ARGV[2])
  if filling then
    redis.call('ZREM', KEYS[2], filling)
    redis.call('HDEL', KEYS[3], filling)
  end
end

for list = 8, #KEYS do
  if want <= 0 then break end
  local popped = redis.call('RPOP', KEYS[list], want)
  if popped then
    want = want - #popped
    local ending = ARGV[7 + (list - 8) % queues]
    for i = 1, #popped do
      local message = popped[i]
      count = count + 1
      tags[count], messages[count], lists[count] = tag_of(message), message, list
      values[count] = '[' .. message .. ending
    end
  end
end
if count > 0 then record() end
if ARGV[4] == '2' or (ARGV[4] == '1' and #answer > 0) then
  leave(ARGV[2], slots, KEYS[7], ARGV[6], now)
elseif ARGV[4] == '1' and watches(ARGV[2], slots) then
  redis.call('ZREM', KEYS[7], ARGV[2])
  return {1}
elseif ARGV[4] == '1' then
  if ARGV[5] == '1' then
    redis.call('ZADD', KEYS[7], now, ARGV[2])
    redis.call('EXPIRE', KEYS[7], 60)
  end
  return {0}
end
return answer
"""
)

# KEYS two watchers' slots, the idle. ARGV token, prefix of batons. The owner waits no more. Answer: 1.
LEAVE = Script(
    NOW
    + TURNS
    + """
leave(ARGV[1], {KEYS[1], KEYS[2]}, KEYS[3], ARGV[2], server_now())
return 1
"""
)

# KEYS unacked, unacked_index, claims. ARGV tags. Answer: how many were not ours any more (they are left
# alone).
ACK = Script("""
local origins = redis.call('HMGET', KEYS[3], unpack(ARGV))
local mine = ARGV
for i = 1, #ARGV do
  if not origins[i] then
    mine = {}
    break
  end
end
if mine ~= ARGV then
  for i, tag in ipairs(ARGV) do
    if origins[i] then mine[#mine + 1] = tag end
  end
end
if #mine > 0 then
  redis.call('HDEL', KEYS[3], unpack(mine))
  redis.call('HDEL', KEYS[1], unpack(mine))
  redis.call('ZREM', KEYS[2], unpack(mine))
end
return #ARGV - #mine
""")

# KEYS unacked, unacked_index, claims. ARGV tags, in the order they were delivered. Each goes back to the end
# its list is read from, marked as redelivered. Answer: how many were not ours any more.
GIVE_BACK = Script(
    MESSAGE
    + """
local foreign = 0
redis.call('HDEL', KEYS[3], '')
for i = #ARGV, 1, -1 do
  local tag = ARGV[i]
  local list = redis.call('HGET', KEYS[3], tag)
  local value = list and redis.call('HGET', KEYS[1], tag)
  local message = value and split(value)
  if message then
    redis.call('RPUSH', list, mark(message))
    redis.call('HDEL', KEYS[3], tag)
    redis.call('HDEL', KEYS[1], tag)
    redis.call('ZREM', KEYS[2], tag)
  else
    foreign = foreign + 1
  end
end
return foreign
"""
)

# KEYS unacked, unacked_index, claims, then the lists that get the dead letter. ARGV tag, headers to add (JSON
# members without braces). Answer: 0, or 1 when it was not ours any more.
DEAD_LETTER = Script(
    MESSAGE
    + """
local tag = ARGV[1]
local value = redis.call('HEXISTS', KEYS[3], tag) == 1 and redis.call('HGET', KEYS[1], tag)
local message = value and split(value)
if not message then return 1 end
if not string.find(message, '"x-first-death-queue"', 1, true) then
  message = checked(insert(message, 'headers', ARGV[2]), message)
end
redis.call('HDEL', KEYS[3], tag)
for list = 4, #KEYS do redis.call('LPUSH', KEYS[list], message) end
redis.call('HDEL', KEYS[1], tag)
redis.call('ZREM', KEYS[2], tag)
return 0
"""
)

# KEYS unacked, unacked_index, claims, delayed. ARGV tag, due (unix s), visibility timeout (s). The message
# stays in unacked with a score that makes any sweep, kombu's too, restore it when it is due. Answer as
# DEAD_LETTER.
PARK = Script("""
if redis.call('HDEL', KEYS[3], ARGV[1]) == 0 then return 1 end
redis.call('ZADD', KEYS[2], tonumber(ARGV[2]) - tonumber(ARGV[3]), ARGV[1])
redis.call('ZADD', KEYS[4], ARGV[2], ARGV[1])
return 0
""")

# KEYS unacked, unacked_index, delayed. ARGV visibility timeout (s), ending of the unacked value, then triples
# tag, due (unix s), message. Answer: how many were parked.
PARK_NEW = Script("""
for i = 3, #ARGV, 3 do
  redis.call('HSET', KEYS[1], ARGV[i], '[' .. ARGV[i + 2] .. ARGV[2])
  redis.call('ZADD', KEYS[2], tonumber(ARGV[i + 1]) - tonumber(ARGV[1]), ARGV[i])
  redis.call('ZADD', KEYS[3], ARGV[i + 1], ARGV[i])
end
return (#ARGV - 2) / 3
""")

# KEYS owners, claims, unacked_index. ARGV token, lease (s). Answer: 1, or 0 when the lease was lost.
RENEW = Script(
    NOW
    + """
redis.call('ZREM', KEYS[1], '')
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
local now = server_now()
redis.call('ZADD', KEYS[1], 'XX', now + tonumber(ARGV[2]), ARGV[1])
local held = {}
for _, tag in ipairs(redis.call('HKEYS', KEYS[2])) do
  local score = redis.call('ZSCORE', KEYS[3], tag)
  if score then held[#held + 1] = {tonumber(score), tag} end
end
table.sort(held, function(a, b) return a[1] < b[1] end)
for i, one in ipairs(held) do redis.call('ZADD', KEYS[3], 'XX', now + i / 1000000, one[2]) end
return 1
"""
)

# KEYS owners, unacked, unacked_index, claims, host. ARGV token. Answer: how many messages went back.
RELEASE = Script(
    MESSAGE
    + RELEASE_CLAIMS
    + """
redis.call('SREM', KEYS[5], ARGV[1])
return release(ARGV[1], KEYS[1], KEYS[2], KEYS[3], KEYS[4])
"""
)

# KEYS recovered, owners, unacked, unacked_index, expiring, queues, then, where the caller can tell who of its
# host lives, that host's owners and the key that has one process look at them. ARGV least pause between two
# recoveries and between two looks at a host (ms, "ms:ms"; "ms:0": look now), visibility timeout (s), most
# messages at once, prefixes of claims, delayed, binding tables and of everything, kombu's separator, then the
# priority steps. Answer: [messages put back, ms until the next falls due or -1, owners of the host to look
# at]. The pause bounds only the look at other owners: finding nothing due costs next to nothing, and finding
# something is what it is for.
RECOVER = Script(
    NOW
    + MESSAGE
    + RELEASE_CLAIMS
    + """
local now, visibility, most = server_now(), tonumber(ARGV[2]), tonumber(ARGV[3])
local separator = ARGV[8]
local restored = 0
redis.call('ZREM', KEYS[2], '')

local function words_of(key)
  local words = {}
  for word in string.gmatch(key, '[^.]+') do words[#words + 1] = word end
  return words
end

local function topic_matches(pattern, words, p, w)
  if p > #pattern then return w > #words end
  if pattern[p] == '#' then
    for skip = w, #words + 1 do
      if topic_matches(pattern, words, p + 1, skip) then return true end
    end
    return false
  end
  if w > #words or (pattern[p] ~= '*' and pattern[p] ~= words[w]) then return false end
  return topic_matches(pattern, words, p + 1, w + 1)
end

local function queues_of(exchange, key)
  if exchange == '' then return {key} end
  local queues = {}
  for _, member in ipairs(redis.call('SMEMBERS', ARGV[6] .. exchange)) do
    local first, first_end = string.find(member, separator, 1, true)
    local second, second_end = string.find(member, separator, (first_end or #member) + 1, true)
    if second then
      local bound = string.sub(member, 1, first - 1)
      local topic = second > first_end + 1
      if bound == key or (topic and topic_matches(words_of(bound), words_of(key), 1, 1)) then
        queues[string.sub(member, second_end + 1)] = true
      end
    end
  end
  local names = {}
  for name in pairs(queues) do names[#names + 1] = name end
  return names
end

local function list_of(queue, message)
  local priority = 0
  for digits in string.gmatch(message, '"priority":%s*(%d+)') do priority = math.min(9, tonumber(digits)) end
  local step = 0
  for i = 9, #ARGV do
    if tonumber(ARGV[i]) <= priority then step = tonumber(ARGV[i]) end
  end
  local list = ARGV[7] .. queue
  return step > 0 and list .. separator .. step or list
end

local pause, pause_of_host = string.match(ARGV[1], '(%d+):(%d+)')
if redis.call('SET', KEYS[1], '1', 'NX', 'PX', pause) then
  for _, token in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 20)) do
    restored = restored + release(token, KEYS[2], KEYS[3], KEYS[4], ARGV[4] .. token)
  end
  for _, queue in ipairs(redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', now, 'LIMIT', 0, 20)) do
    redis.call('DEL', ARGV[7] .. queue)
    for i = 9, #ARGV do redis.call('DEL', ARGV[7] .. queue .. separator .. ARGV[i]) end
    redis.call('HDEL', KEYS[6], queue)
    redis.call('ZREM', KEYS[5], queue)
  end
end
local due = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now - visibility, 'LIMIT', 0, most)
for i = #due, 1, -1 do
  local tag = due[i]
  local value = redis.call('HGET', KEYS[3], tag)
  local message, exchange, key
  if value then message, exchange, key = split(value) end
  local queues = message and queues_of(exchange, key) or {}
  if #queues > 0 then
    local parked = redis.call('ZREM', ARGV[5] .. key, tag) == 1
    for _, queue in ipairs(queues) do
      redis.call('RPUSH', list_of(queue, message), parked and message or mark(message))
    end
    redis.call('HDEL', KEYS[3], tag)
    redis.call('ZREM', KEYS[4], tag)
    restored = restored + 1
  elseif value then
    redis.call('ZADD', KEYS[4], 'XX', now, tag)
  else
    redis.call('ZREM', KEYS[4], tag)
  end
end
local head = redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')
local wait_ms = -1
if head[2] then wait_ms = math.max(0, math.ceil((tonumber(head[2]) + visibility - now) * 1000)) end
local siblings = {}
if KEYS[8] and (pause_of_host == '0' or redis.call('SET', KEYS[8], '1', 'NX', 'PX', pause_of_host)) then
  siblings = redis.call('SMEMBERS', KEYS[7])
end
return {restored, wait_ms, siblings}
"""
)

# KEYS unacked, unacked_index, delayed, then everything else to delete: the lists first. Answer: messages
# dropped. ARGV how many of those are lists.
DELETE_QUEUE = Script("""
local dropped = 0
for _, tag in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  dropped = dropped + redis.call('HDEL', KEYS[1], tag)
  redis.call('ZREM', KEYS[2], tag)
end
for i = 4, 3 + tonumber(ARGV[1]) do dropped = dropped + redis.call('LLEN', KEYS[i]) end
redis.call('DEL', unpack(KEYS, 3))
return dropped
""")

# KEYS expiring. ARGV pairs of queue and life (ms): they are in use. Answer: 1.
USE_QUEUES = Script(
    NOW
    + """
local now = server_now()
redis.call('ZREM', KEYS[1], '')
for i = 1, #ARGV, 2 do redis.call('ZADD', KEYS[1], 'GT', now + tonumber(ARGV[i + 1]) / 1000, ARGV[i]) end
return 1
"""
)

# As kombu's REFRESH_BINDING: KEYS binding table, deadlines. ARGV member, exchange, life (ms).
BIND_EXPIRING = Script("""
redis.call('SADD', KEYS[1], ARGV[1])
local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZADD', KEYS[2], 'GT', ms + tonumber(ARGV[3]), ARGV[2])
return 1
""")

ALL = (
    CLAIM,
    LEAVE,
    ACK,
    GIVE_BACK,
    DEAD_LETTER,
    PARK,
    PARK_NEW,
    RENEW,
    RELEASE,
    RECOVER,
    DELETE_QUEUE,
    USE_QUEUES,
    BIND_EXPIRING,
)
