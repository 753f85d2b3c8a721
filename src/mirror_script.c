/*-------------------------------------------------------------------------
 *
 * mirror_script.c
 *	  What is done inside Redis, in Lua.
 *
 * Each script runs as a whole, with nothing else in between.  They need no more
 * than Redis 5 has.  Errors of single commands are caught (pcall), so that what
 * is refused for one key does not keep the others from being written; that also
 * lets keys be deleted when the memory of Redis is full.
 *
 * A value is ours if its digest is the one in the book, or if it is just what is
 * to be written, as it is when the book was lost.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mirror_script.h"

/* How those begin that change something: only who has the claim may. */
#define WITH_CLAIM \
	"local book, claim = KEYS[1], redis.call('HGET', KEYS[1], '')\n" \
	"if not claim then return redis.error_reply('LOST claim') end\n" \
	"if claim ~= ARGV[1] then\n" \
	"  return redis.error_reply('SUPERSEDED ' .. claim)\n" \
	"end\n" \
	"local stamp = string.sub(claim, 21, 36)\n"

static const char *const scripts[NUM_SCRIPTS] = {
	[SCRIPT_CLAIM] =
	"local old = redis.call('HGET', KEYS[1], '')\n"
	"local counter = 0\n"
	"if old then\n"
	"  if string.sub(old, 1, 19) > ARGV[1] then\n"
	"    return redis.error_reply('SUPERSEDED ' .. old)\n"
	"  end\n"
	"  if string.sub(old, 1, 19) == ARGV[1] and\n"
	"    string.sub(old, 38) ~= ARGV[3] then\n"
	"    return redis.error_reply('OCCUPIED ' .. old)\n"
	"  end\n"
	"  counter = tonumber(string.sub(old, 21, 36)) or 0\n"
	"end\n"
	"counter = math.max(counter + 1, tonumber(ARGV[2]))\n"
	"local new = ARGV[1] .. ' ' .. string.format('%016d', counter) ..\n"
	"  ' ' .. ARGV[3]\n"
	"local answer = redis.pcall('HSET', KEYS[1], '', new)\n"
	"if type(answer) == 'table' and answer.err then\n"
	"  if old and string.sub(old, 1, 19) == ARGV[1] then\n"
	"    return {old, answer.err}\n"
	"  end\n"
	"  return answer\n"
	"end\n"
	"return {new, ''}\n",

	[SCRIPT_WRITE] =
	WITH_CLAIM
	"local letters, message = {}, ''\n"
	"local function failed(answer)\n"
	"  if type(answer) == 'table' and answer.err then\n"
	"    if message == '' then message = answer.err end\n"
	"    return true\n"
	"  end\n"
	"end\n"
	"local function write(key, fence, ms, value)\n"
	"  local noted = redis.call('HGET', book, key)\n"
	"  local there = redis.pcall('GET', key)\n"
	"  local foreign = false\n"
	"  if type(there) == 'table' then\n"
	"    if not string.find(there.err, 'WRONGTYPE', 1, true) then\n"
	"      failed(there)\n"
	"      return 'e'\n"
	"    end\n"
	"    foreign = true\n"
	"  end\n"
	"  local ours = there and not foreign and noted and\n"
	"    redis.sha1hex(there) == string.sub(noted, 38)\n"
	"  if noted and string.sub(noted, 21, 36) == stamp and\n"
	"    string.sub(noted, 1, 19) > fence then\n"
	"    return 'o'\n"
	"  end\n"
	"  if ms == '0' then\n"
	"    if ours and failed(redis.pcall('DEL', key)) then return 'e' end\n"
	"    if noted and failed(redis.pcall('HDEL', book, key)) then return 'e' end\n"
	"    return 'k'\n"
	"  end\n"
	"  if there and not ours and there ~= value then return 'c' end\n"
	"  if failed(redis.pcall('SET', key, value, 'PX', ms)) or\n"
	"    failed(redis.pcall('HSET', book, key,\n"
	"      fence .. ' ' .. stamp .. ' ' .. redis.sha1hex(value))) then\n"
	"    return 'e'\n"
	"  end\n"
	"  return 'k'\n"
	"end\n"
	"for i = 2, #KEYS do\n"
	"  local a = 3 * i - 4\n"
	"  letters[i - 1] = write(KEYS[i], ARGV[a], ARGV[a + 1], ARGV[a + 2])\n"
	"end\n"
	"return {table.concat(letters), message}\n",

	[SCRIPT_SWEEP] =
	WITH_CLAIM
	"local found = redis.call('HSCAN', book, ARGV[2], 'COUNT', 64)\n"
	"for i = 1, #found[2], 2 do\n"
	"  local key, noted = found[2][i], found[2][i + 1]\n"
	"  if key ~= '' and string.sub(noted, 21, 36) ~= stamp then\n"
	"    local there = redis.pcall('GET', key)\n"
	"    if type(there) == 'string' and\n"
	"      redis.sha1hex(there) == string.sub(noted, 38) then\n"
	"      redis.call('DEL', key)\n"
	"    end\n"
	"    redis.call('HDEL', book, key)\n"
	"  end\n"
	"end\n"
	"return found[1]\n",

	[SCRIPT_COMPARE] =
	"local result = {}\n"
	"for i = 2, #KEYS do\n"
	"  local key, value = KEYS[i], ARGV[i - 1]\n"
	"  local there = redis.pcall('GET', key)\n"
	"  local letter = 'f'\n"
	"  if type(there) == 'table' then\n"
	"    letter = 'f'\n"
	"  elseif not there then\n"
	"    letter = 'm'\n"
	"  elseif there == value then\n"
	"    letter = 'k'\n"
	"  else\n"
	"    local noted = redis.call('HGET', KEYS[1], key)\n"
	"    if noted and redis.sha1hex(there) == string.sub(noted, 38) then\n"
	"      letter = 'd'\n"
	"    end\n"
	"  end\n"
	"  result[i - 1] = letter .. redis.call('PTTL', key)\n"
	"end\n"
	"return result\n",

	[SCRIPT_LIST] =
	"local found = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', 64)\n"
	"local keys = {}\n"
	"for i = 1, #found[2], 2 do\n"
	"  local key, noted = found[2][i], found[2][i + 1]\n"
	"  if key ~= '' then\n"
	"    local there = redis.pcall('GET', key)\n"
	"    if type(there) == 'string' and\n"
	"      redis.sha1hex(there) == string.sub(noted, 38) then\n"
	"      keys[#keys + 1] = key\n"
	"    end\n"
	"  end\n"
	"end\n"
	"return {found[1], keys}\n",
};

const char *
mirror_script(MirrorScript script)
{
	return scripts[script];
}
