-- Scope session: held as long as the session lives, whatever the ttl.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SET statement_timeout = '10 min';
CREATE TEMP VIEW session_locks AS
	SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
SELECT distlock.acquire_with_token('job', 'tok', '1 ms', scope => 'session', owner => 'me', data => 'mine') AS fence \gset
SELECT pg_sleep(0.01);
-- the ttl does not run down
SELECT distlock.is_held('job'), distlock.ttl('job', 'tok'), distlock.fence('job', 'tok') = :fence AS fence;
SELECT key, scope, fence = :fence AS fence, owner, data, pid = pg_backend_pid() AS own_pid, role = current_user AS own_role,
	application_name = current_setting('application_name') AS own_application,
	acquired_at < clock_timestamp() AS acquired, expires_at, remaining_ms, waiters
FROM distlock.locks;
SELECT key, scope, ttl, expires_at, token IS NOT NULL AS held, incarnation < acquired_at AS incarnation FROM distlock.lock WHERE key = 'job';
SELECT distlock.extend('job', 'tok', '1 h'), distlock.ttl('job', 'tok');
SELECT distlock.ensure('job', 'tok', '1 min'), distlock.ttl('job', 'tok') AS not_shortened;
SELECT distlock.ensure('job', 'tok', '2 h'), distlock.ttl('job', 'tok');
SELECT distlock.try_extend('job', 'tok'), distlock.try_ensure('job', 'tok', '1 s'), distlock.extend_all('tok', '1 h');
-- another token is refused, at once, however long it would wait
SELECT distlock.acquire('job', '1 s');
SELECT pg_temp.harmless(statement) AS result, statement
FROM (VALUES ($$SELECT distlock.acquire('job', '1 s', scope => 'session', wait => '1 h')$$),
	($$SELECT distlock.try_acquire('job', '1 s', wait => '1 h')$$),
	($$SELECT distlock.try_acquire('job', '1 s', scope => 'session', wait => '1 h')$$),
	($$SELECT distlock.try_acquire('job', '1 s', scope => 'transaction', wait => '1 h')$$),
	($$SELECT distlock.try_acquire_with_token('job', 'other', '1 s', scope => 'session', wait => '1 h')$$),
	($$SELECT distlock.try_do_exclusively('job', '1 s', 'SELECT 1', wait => '1 h')$$),
	($$SELECT distlock.try_release('job', 'other')$$), ($$SELECT distlock.release('job', 'other')$$),
	($$SELECT distlock.try_extend('job', 'other')$$)) t(statement);
-- with its own token it is granted again, in its own scope
SELECT distlock.acquire_with_token('job', 'tok', '5 min', scope => 'session', data => 'new') = :fence AS same_fence, distlock.ttl('job', 'tok');
SELECT owner, data FROM distlock.locks;
SELECT pg_temp.harmless($$SELECT distlock.acquire_with_token('job', 'tok', '5 min')$$) AS lease;
-- a release ends it when it commits
BEGIN;
SELECT distlock.release('job', 'tok');
SELECT distlock.is_held('job'), distlock.try_extend('job', 'tok') IS NULL AS not_extended;
ROLLBACK;
SELECT distlock.is_held('job'), distlock.fence('job', 'tok') = :fence AS fence;
SELECT distlock.release('job', 'tok');
SELECT distlock.is_held('job'), distlock.try_release('job', 'tok') AS again;
TABLE session_locks;
-- an acquisition that is rolled back never happened
BEGIN;
SELECT distlock.acquire_with_token('job', 'tok', '1 min', scope => 'session') > :fence AS new_fence;
ROLLBACK;
SELECT distlock.is_held('job');
TABLE session_locks;
-- many keys, one token
SELECT count(distlock.acquire_with_token('job ' || i, 'tok', '1 min', scope => 'session')) FROM generate_series(1, 20) i;
SELECT count(*) FROM distlock.locks;
SELECT distlock.release_all('tok');
SELECT count(*) FROM distlock.locks;
TABLE session_locks;

-- What is asked for need not come from the table: an end that no time is left for
SELECT distlock.session_end(1,
	9223372036854775807 - (extract(epoch FROM now() + interval '1 day') * 1000000)::bigint + 946684800000000,
	'-infinity')::text AS never;
