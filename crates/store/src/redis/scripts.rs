//! What runs inside the server: each a single round trip.

/// Takes from all keys, or, where one has not enough, from none; forced, in any case. The server's clock is everybody's.
///
/// `ARGV`: forced, then for each key: kind, and
/// `r`: interval in microseconds, burst, more beyond the burst, cost, nothing, extra; the value is when the bucket is full.
/// `q`: quota, end of the window in Unix milliseconds, unused, cost, back, extra; the value is what was taken.
/// Of the extra, which never goes beyond the burst, as much is taken as is there; what is given back, is in any case.
/// Answers for each key: enough, left, wait and time to full in microseconds, extra taken.
pub(super) const TAKE: &str = r"
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local seen, all = {}, true
for i = 1, #KEYS do
  local at = 2 + (i - 1) * 7
  local one = { kind = ARGV[at], a = tonumber(ARGV[at + 1]), b = tonumber(ARGV[at + 2]),
                c = tonumber(ARGV[at + 3]), cost = tonumber(ARGV[at + 4]) }
  local extra = tonumber(ARGV[at + 6])
  one.old = tonumber(redis.call('GET', KEYS[i]) or '0') or 0
  if one.kind == 'r' then
    one.was = math.max(one.old, now)
    one.next = one.was + one.cost * one.a
    one.over = one.next - now - (one.b + one.c) * one.a
    one.enough = one.over < 1
    one.extra = math.min(extra, math.floor(one.b - (one.next - now) / one.a + 0.001))
  else
    one.was = math.max(0, one.old - tonumber(ARGV[at + 5]))
    one.next = one.was + one.cost
    one.enough = one.next <= one.a
    one.extra = math.min(extra, one.a - one.next)
  end
  all = all and one.enough
  seen[i] = one
end
local take = all or ARGV[1] == '1'
local out = {}
for i, one in ipairs(seen) do
  local extra = all and math.max(0, one.extra) or 0
  if one.kind == 'r' then
    local is = take and one.next + extra * one.a or one.was
    local filled = is - now
    local wait = one.enough and math.max(0, filled - one.b * one.a) or one.over
    if take and one.cost + extra > 0 then
      redis.call('SET', KEYS[i], string.format('%.3f', is), 'PX', math.ceil(filled / 1000) + 1)
    end
    local left = math.max(0, math.floor(one.b - filled / one.a + 0.001))
    out[i] = { one.enough and 1 or 0, left, math.ceil(wait), math.ceil(filled), extra }
  else
    local is = take and one.next + extra or one.was
    if is ~= one.old then
      redis.call('INCRBY', KEYS[i], string.format('%d', is - one.old))
      redis.call('PEXPIREAT', KEYS[i], one.b + 60000)
    end
    out[i] = { one.enough and 1 or 0, math.max(0, one.a - is), 0, 0, extra }
  end
end
return out
";

/// For so many milliseconds it is known what was purged.
pub(super) const REMEMBERED: u64 = 300_000;

/// Keeps a value, and its key under each tag, whose set lives as long as what lives longest under it; unless it was purged
/// since it was asked for, which [`GONE`] tells.
///
/// `KEYS`: the value's, what was purged by prefix, then those of the tags, then for each tag when it was purged last.
/// `ARGV`: value, time to live in milliseconds, when it was asked for in microseconds, for how many milliseconds purges are
/// known. Answers 1 when it is kept, 0 when it was purged, 2 when that is not known.
pub(super) const PUT: &str = r"
local t = redis.call('TIME')
local since = tonumber(ARGV[3])
if t[1] * 1000000 + t[2] - since > ARGV[4] * 1000 then
  return 2
end
local tags = (#KEYS - 2) / 2
for i = 3 + tags, #KEYS do
  if (tonumber(redis.call('GET', KEYS[i]) or '0') or 0) >= since then
    return 0
  end
end
for _, prefix in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], string.format('%.0f', since), '+inf')) do
  if string.sub(KEYS[1], 1, #prefix) == prefix then
    return 0
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
for i = 3, 2 + tags do
  redis.call('SADD', KEYS[i], KEYS[1])
  if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[i], ARGV[2])
  end
end
return 1
";

/// Remembers that something is purged now, for whoever asked for it before.
///
/// `KEYS`: of a tag; or what was purged by prefix. `ARGV`: for how many milliseconds; then the prefix, where it is one.
pub(super) const GONE: &str = r"
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local at = string.format('%.0f', now)
if ARGV[2] then
  redis.call('ZADD', KEYS[1], at, ARGV[2])
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - ARGV[1] * 1000))
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], at, 'PX', ARGV[1])
end
return 1
";

/// A script and the name that the server gave it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// Its text.
    pub text: &'static str,
    /// `None` when the server would not take it.
    pub sha: Option<String>,
}
