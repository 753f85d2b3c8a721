-- Keys, tokens, owners and data that are empty or too long, in bytes.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.acquire_with_token('held', 'tok', '1 h') IS NOT NULL AS held;
SELECT pg_temp.harmless(statement) AS sqlstate, statement
FROM (VALUES
	($$SELECT distlock.acquire('', '1 s')$$),
	($$SELECT distlock.try_acquire('', '1 s')$$),
	($$SELECT distlock.acquire_with_token('', 'tok', '1 s')$$),
	($$SELECT distlock.try_acquire_with_token('', 'tok', '1 s')$$),
	($$SELECT distlock.extend('', 'tok')$$),
	($$SELECT distlock.try_extend('', 'tok')$$),
	($$SELECT distlock.ensure('', 'tok', '1 s')$$),
	($$SELECT distlock.try_ensure('', 'tok', '1 s')$$),
	($$SELECT distlock.release('', 'tok')$$),
	($$SELECT distlock.try_release('', 'tok')$$),
	($$SELECT distlock.ttl('', 'tok')$$),
	($$SELECT distlock.fence('', 'tok')$$),
	($$SELECT distlock.is_held('')$$),
	($$SELECT distlock.key_id('')$$),
	($$SELECT distlock.force_release('')$$),
	($$SELECT distlock.force_acquire('', '1 s')$$),
	($$SELECT distlock.acquire_with_token('k', '', '1 s')$$),
	($$SELECT distlock.try_acquire_with_token('k', '', '1 s')$$),
	($$SELECT distlock.extend('held', '')$$),
	($$SELECT distlock.try_extend('held', '')$$),
	($$SELECT distlock.ensure('held', '', '1 s')$$),
	($$SELECT distlock.try_ensure('held', '', '1 s')$$),
	($$SELECT distlock.release('held', '')$$),
	($$SELECT distlock.try_release('held', '')$$),
	($$SELECT distlock.ttl('held', '')$$),
	($$SELECT distlock.fence('held', '')$$),
	($$SELECT distlock.extend_all('', '1 s')$$),
	($$SELECT distlock.release_all('')$$),
	($$SELECT distlock.acquire(repeat('a', 513), '1 s')$$),
	($$SELECT distlock.try_acquire(repeat('a', 513), '1 s')$$),
	($$SELECT distlock.acquire_with_token(repeat('a', 513), 'tok', '1 s')$$),
	($$SELECT distlock.try_acquire_with_token(repeat('a', 513), 'tok', '1 s')$$),
	($$SELECT distlock.extend(repeat('a', 513), 'tok')$$),
	($$SELECT distlock.try_extend(repeat('a', 513), 'tok')$$),
	($$SELECT distlock.ensure(repeat('a', 513), 'tok', '1 s')$$),
	($$SELECT distlock.try_ensure(repeat('a', 513), 'tok', '1 s')$$),
	($$SELECT distlock.release(repeat('a', 513), 'tok')$$),
	($$SELECT distlock.try_release(repeat('a', 513), 'tok')$$),
	($$SELECT distlock.ttl(repeat('a', 513), 'tok')$$),
	($$SELECT distlock.fence(repeat('a', 513), 'tok')$$),
	($$SELECT distlock.is_held(repeat('a', 513))$$),
	($$SELECT distlock.key_id(repeat('a', 513))$$),
	($$SELECT distlock.force_release(repeat('a', 513))$$),
	($$SELECT distlock.force_acquire(repeat('a', 513), '1 s')$$),
	($$SELECT distlock.acquire(repeat('a', 100000), '1 s')$$),
	($$SELECT distlock.is_held(repeat('a', 100000))$$),
	($$SELECT distlock.acquire(repeat('a', 10485760), '1 s')$$),
	($$SELECT distlock.try_release(repeat('a', 10485760), 'tok')$$),
	($$SELECT distlock.acquire_with_token('k', repeat('t', 257), '1 s')$$),
	($$SELECT distlock.try_acquire_with_token('k', repeat('t', 257), '1 s')$$),
	($$SELECT distlock.extend('held', repeat('t', 257))$$),
	($$SELECT distlock.try_extend('held', repeat('t', 257))$$),
	($$SELECT distlock.ensure('held', repeat('t', 257), '1 s')$$),
	($$SELECT distlock.try_ensure('held', repeat('t', 257), '1 s')$$),
	($$SELECT distlock.release('held', repeat('t', 257))$$),
	($$SELECT distlock.try_release('held', repeat('t', 257))$$),
	($$SELECT distlock.ttl('held', repeat('t', 257))$$),
	($$SELECT distlock.fence('held', repeat('t', 257))$$),
	($$SELECT distlock.extend_all(repeat('t', 257), '1 s')$$),
	($$SELECT distlock.release_all(repeat('t', 257))$$),
	($$SELECT distlock.acquire_with_token('k', repeat('t', 100000), '1 s')$$),
	($$SELECT distlock.release('held', repeat('t', 10485760))$$),
	($$SELECT distlock.acquire('k', '1 s', owner => repeat('o', 257))$$),
	($$SELECT distlock.try_acquire('k', '1 s', owner => repeat('o', 257))$$),
	($$SELECT distlock.acquire_with_token('k', 'tok', '1 s', owner => repeat('o', 257))$$),
	($$SELECT distlock.try_acquire_with_token('k', 'tok', '1 s', owner => repeat('o', 257))$$),
	($$SELECT distlock.force_acquire('k', '1 s', owner => repeat('o', 257))$$),
	($$SELECT distlock.acquire('k', '1 s', owner => repeat('o', 10485760))$$),
	($$SELECT distlock.acquire('k', '1 s', data => repeat('d', 4097))$$),
	($$SELECT distlock.try_acquire('k', '1 s', data => repeat('d', 4097))$$),
	($$SELECT distlock.acquire_with_token('k', 'tok', '1 s', data => repeat('d', 4097))$$),
	($$SELECT distlock.try_acquire_with_token('k', 'tok', '1 s', data => repeat('d', 4097))$$),
	($$SELECT distlock.force_acquire('k', '1 s', data => repeat('d', 4097))$$),
	($$SELECT distlock.acquire('k', '1 s', data => repeat('d', 10485760))$$),
	-- the owner's own lock is not renewed by a bad call either
	($$SELECT distlock.acquire_with_token('held', 'tok', '1 s', owner => repeat('o', 257))$$),
	($$SELECT distlock.acquire_with_token('held', 'tok', '1 s', data => repeat('d', 4097))$$)
) bad(statement);
-- what the messages say; none shows a token
SELECT distlock.acquire('', '1 s');
SELECT distlock.acquire(repeat('a', 513), '1 s');
SELECT distlock.acquire_with_token('k', '', '1 s');
SELECT distlock.acquire_with_token('k', repeat('t', 257), '1 s');
SELECT distlock.acquire('k', '1 s', owner => repeat('o', 257));
SELECT distlock.acquire('k', '1 s', data => repeat('d', 4097));
SELECT distlock.release('held', 'tok');
