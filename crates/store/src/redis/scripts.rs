//! What runs inside the server: each a single round trip.

/// Takes from all keys, or, where one has not enough, from none; forced, in any case. The server's clock is everybody's.
///
/// `ARGV`: forced, then for each key: kind, and
/// `r`: interval in microseconds, burst, more beyond the burst, cost; the value is when the bucket is full again.
/// `q`: quota, end of the window in Unix milliseconds, unused, cost; the value is what was taken.
/// Answers for each key: enough, left, wait and time to full in microseconds.
pub(super) const TAKE: &str = r"
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local seen, all = {}, true
for i = 1, #KEYS do
  local at = 2 + (i - 1) * 5
  local one = { kind = ARGV[at], a = tonumber(ARGV[at + 1]), b = tonumber(ARGV[at + 2]),
                c = tonumber(ARGV[at + 3]), cost = tonumber(ARGV[at + 4]) }
  local was = tonumber(redis.call('GET', KEYS[i]) or '0') or 0
  if one.kind == 'r' then
    one.was = math.max(was, now)
    one.next = one.was + one.cost * one.a
    one.over = one.next - now - (one.b + one.c) * one.a
    one.enough = one.over < 1
  else
    one.was = was
    one.next = was + one.cost
    one.enough = one.next <= one.a
  end
  all = all and one.enough
  seen[i] = one
end
local take = all or ARGV[1] == '1'
local out = {}
for i, one in ipairs(seen) do
  local is = take and one.next or one.was
  if one.kind == 'r' then
    local filled = is - now
    local wait = one.enough and math.max(0, filled - one.b * one.a) or one.over
    if take and one.cost > 0 then
      redis.call('SET', KEYS[i], string.format('%.3f', is), 'PX', math.ceil(filled / 1000) + 1)
    end
    local left = math.max(0, math.floor(one.b - filled / one.a + 0.001))
    out[i] = { one.enough and 1 or 0, left, math.ceil(wait), math.ceil(filled) }
  else
    if take and one.cost > 0 then
      redis.call('INCRBY', KEYS[i], one.cost)
      redis.call('PEXPIREAT', KEYS[i], one.b + 60000)
    end
    out[i] = { one.enough and 1 or 0, math.max(0, one.a - is), 0, 0 }
  end
end
return out
";

/// Keeps a value, and its key under each tag, whose set lives as long as what lives longest under it.
///
/// `KEYS`: the value's, then those of the tags. `ARGV`: value, time to live in milliseconds.
pub(super) const PUT: &str = r"
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
for i = 2, #KEYS do
  redis.call('SADD', KEYS[i], KEYS[1])
  if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[i], ARGV[2])
  end
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
