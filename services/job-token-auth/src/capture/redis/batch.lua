-- Applies a batch of steps, all or none, once.
-- KEYS: pending, deadlines, stream, mark of the producer.
-- ARGV: batch, number of the record before, producer, life of the mark in ms; then the steps:
--   P id deadline capture | F id record | D id | E id
-- Returns: whether the batch was applied before; the batch that the mark held; the number of the last record.
local seen, number_then = 0, 0
local mark = redis.call('GET', KEYS[4])
if mark then
    local batch, number = string.match(mark, '^(%d+) (%d+)$')
    seen, number_then = tonumber(batch), tonumber(number)
end
local batch, number = tonumber(ARGV[1]), tonumber(ARGV[2])
-- A later one shows that this is an old copy, which was held up on its way.
if seen >= batch then
    return {1, seen, number_then}
end

local function record(kind, data)
    number = number + 1
    redis.call('XADD', KEYS[3], '*', 'p', ARGV[3], 'n', string.format('%.0f', number), 'k', kind, 'd', data)
end

local function forget(id)
    redis.call('HDEL', KEYS[1], id)
    redis.call('ZREM', KEYS[2], id)
end

local at = 5
while at <= #ARGV do
    local step, id = ARGV[at], ARGV[at + 1]
    at = at + 2
    if step == 'P' then
        redis.call('HSET', KEYS[1], id, ARGV[at + 1])
        redis.call('ZADD', KEYS[2], ARGV[at], id)
        at = at + 2
    else
        if step == 'F' then
            record('access', ARGV[at])
            at = at + 1
        elseif step == 'E' then
            local capture = redis.call('HGET', KEYS[1], id)
            if capture then
                record('unresolved', capture)
            end
        end
        forget(id)
    end
end
redis.call('SET', KEYS[4], ARGV[1] .. ' ' .. string.format('%.0f', number), 'PX', ARGV[4])
return {0, seen, number}
