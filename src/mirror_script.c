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
 * All keys of a write are looked up by one MGET and one HMGET, and the book is
 * written by one HSET: to call a command takes longer than what it does.  MGET does
 * not tell a key of another type from none, so where it finds none, SET has to.
 * The same key may come twice: "now" has what this call has made of it.
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

/* Has Redis refused to tell a value, and not for being none? */
#define REFUSED \
	"local function refused(there)\n" \
	"  return type(there) == 'table' and\n" \
	"    not string.find(there.err, 'WRONGTYPE', 1, true)\n" \
	"end\n"

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
	REFUSED
	"local letters, message, now = {}, '', {}\n"
	"local function failed(answer)\n"
	"  if type(answer) == 'table' and answer.err then\n"
	"    if message == '' then message = answer.err end\n"
	"    return true\n"
	"  end\n"
	"end\n"
	"local notes = redis.pcall('HMGET', book, unpack(KEYS, 2))\n"
	"if notes.err then\n"
	"  notes = {}\n"
	"  for i = 2, #KEYS do notes[i - 1] = redis.call('HGET', book, KEYS[i]) end\n"
	"end\n"
	"local values = redis.pcall('MGET', unpack(KEYS, 2))\n"
	"local function look(key, i)\n"
	"  if now[key] then return now[key].note, now[key].value end\n"
	"  if values.err then return notes[i], redis.pcall('GET', key) end\n"
	"  return notes[i], values[i]\n"
	"end\n"
	"local function write(key, i, fence, ms, value)\n"
	"  local noted, there = look(key, i)\n"
	"  if refused(there) then\n"
	"    failed(there)\n"
	"    return 'e'\n"
	"  end\n"
	"  local foreign = type(there) == 'table'\n"
	"  local ours = there and not foreign and noted and\n"
	"    redis.sha1hex(there) == string.sub(noted, 38)\n"
	"  if noted and string.sub(noted, 21, 36) == stamp and\n"
	"    string.sub(noted, 1, 19) > fence then\n"
	"    return 'o'\n"
	"  end\n"
	"  if ms == '0' then\n"
	"    if ours and failed(redis.pcall('DEL', key)) then return 'e' end\n"
	"    if noted then now[key] = {note = false, value = not ours and there} end\n"
	"    return 'k'\n"
	"  end\n"
	"  local answer\n"
	"  if not there then\n"
	"    answer = redis.pcall('SET', key, value, 'PX', ms, 'NX')\n"
	"    if not answer then return 'c' end\n"
	"  elseif not ours and there ~= value then\n"
	"    return 'c'\n"
	"  else\n"
	"    answer = redis.pcall('SET', key, value, 'PX', ms)\n"
	"  end\n"
	"  if failed(answer) then return 'e' end\n"
	"  now[key] = {value = value,\n"
	"    note = fence .. ' ' .. stamp .. ' ' .. redis.sha1hex(value)}\n"
	"  return 'k'\n"
	"end\n"
	"for i = 1, #KEYS - 1 do\n"
	"  local a = 3 * i - 1\n"
	"  letters[i] = write(KEYS[i + 1], i, ARGV[a], ARGV[a + 1], ARGV[a + 2])\n"
	"end\n"
	"local noted, removed = {}, {}\n"
	"for key, state in pairs(now) do\n"
	"  if state.note then\n"
	"    noted[#noted + 1] = key\n"
	"    noted[#noted + 1] = state.note\n"
	"  else\n"
	"    removed[#removed + 1] = key\n"
	"  end\n"
	"end\n"
	"if #noted > 0 and failed(redis.pcall('HSET', book, unpack(noted))) or\n"
	"  #removed > 0 and failed(redis.pcall('HDEL', book, unpack(removed))) then\n"
	"  for i = 1, #letters do\n"
	"    if letters[i] == 'k' and now[KEYS[i + 1]] then letters[i] = 'e' end\n"
	"  end\n"
	"end\n"
	"return {table.concat(letters), message}\n",

	[SCRIPT_SWEEP] =
	WITH_CLAIM
	REFUSED
	"local found = redis.call('HSCAN', book, ARGV[2], 'COUNT', 64)\n"
	"for i = 1, #found[2], 2 do\n"
	"  local key, noted = found[2][i], found[2][i + 1]\n"
	"  if key ~= '' and string.sub(noted, 21, 36) ~= stamp then\n"
	"    local there = redis.pcall('GET', key)\n"
	"    if type(there) == 'string' and\n"
	"      redis.sha1hex(there) == string.sub(noted, 38) then\n"
	"      redis.call('DEL', key)\n"
	"    end\n"
	"    if not refused(there) then redis.call('HDEL', book, key) end\n"
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
