-- Functions wrapped as PARALLEL SAFE, in spite of what they are.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.acquire_with_token('job', 'tok', '1 h') AS fence \gset
CREATE SCHEMA regress_parallel;
CREATE FUNCTION regress_parallel.run(statement text) RETURNS text LANGUAGE plpgsql PARALLEL SAFE AS $$
DECLARE
	result text;
BEGIN
	EXECUTE statement INTO result;
	RETURN result;
END $$;
-- run everything in a parallel worker; the setting has changed its name
DO $$
BEGIN
	PERFORM set_config(CASE WHEN current_setting('server_version_num')::int < 160000
		THEN 'force_parallel_mode' ELSE 'debug_parallel_query' END, 'on', false);
END $$;
SET max_parallel_workers_per_gather = 2;
EXPLAIN (COSTS OFF) SELECT regress_parallel.run('SELECT 1');
SELECT pg_temp.harmless(format('SELECT regress_parallel.run(%L)', statement)) AS result, statement
FROM (VALUES
	($$SELECT distlock.acquire('k', '1 s')$$),
	($$SELECT distlock.try_acquire('k', '1 s')$$),
	($$SELECT distlock.try_acquire('job', '1 s')$$),
	($$SELECT distlock.acquire_with_token('job', 'tok', '1 s')$$),
	($$SELECT distlock.try_acquire_with_token('job', 'tok', '1 s')$$),
	($$SELECT distlock.extend('job', 'tok')$$),
	($$SELECT distlock.try_extend('job', 'tok')$$),
	($$SELECT distlock.ensure('job', 'tok', '1 s')$$),
	($$SELECT distlock.try_ensure('job', 'tok', '1 s')$$),
	($$SELECT distlock.release('job', 'tok')$$),
	($$SELECT distlock.try_release('job', 'tok')$$),
	($$SELECT distlock.extend_all('tok', '1 s')$$),
	($$SELECT distlock.release_all('tok')$$),
	($$SELECT distlock.force_release('job')$$),
	($$SELECT distlock.force_acquire('job', '1 s')$$),
	($$SELECT distlock.acquire('k', '1 s', scope => 'session')$$),
	($$SELECT distlock.acquire('k', '1 s', scope => 'transaction')$$),
	($$SELECT distlock.guard('job', 'tok')$$),
	($$SELECT distlock.do_exclusively('k', '1 s', 'SELECT 1')$$),
	($$SELECT distlock.try_do_exclusively('job', '1 s', 'SELECT 1')$$),
	($$SELECT distlock.current_fence()$$),
	($$SELECT distlock.advance_fence()$$),
	($$SELECT distlock.is_held('job')$$),
	($$SELECT distlock.is_held('never seen')$$),
	($$SELECT distlock.ttl('job', 'tok') > '1 s'$$),
	($$SELECT distlock.ttl('never seen', 'tok')$$),
	($$SELECT distlock.fence('job', 'tok') > 0$$),
	($$SELECT distlock.key_id('job') <> 0$$),
	($$SELECT distlock.retry_delay(distlock.linear_backoff('1 s'), 1)$$),
	($$SELECT key FROM distlock.locks WHERE key = 'job'$$),
	($$SELECT count(*) FROM distlock.waiters$$)) t(statement);
SELECT pg_temp.complaint(format('SELECT regress_parallel.run(%L)', statement))
FROM (VALUES ($$SELECT distlock.try_acquire('k', '1 s')$$), ($$SELECT distlock.is_held('job')$$)) t(statement);
-- as they are, they are not run in parallel
EXPLAIN (COSTS OFF) SELECT distlock.is_held('job');
SELECT distlock.is_held('job'), distlock.try_release('job', 'wrong');
SELECT key FROM distlock.locks WHERE key = 'job';
SELECT count(*) FROM distlock.waiters;
SET client_min_messages = warning;
DROP SCHEMA regress_parallel CASCADE;
SELECT distlock.release('job', 'tok');
