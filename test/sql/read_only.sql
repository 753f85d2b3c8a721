-- A read-only transaction can look at locks, and change none.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.acquire_with_token('job', 'tok', '1 h') AS fence \gset
BEGIN READ ONLY;
SELECT pg_temp.harmless(statement) AS sqlstate, statement
FROM (VALUES
	($$SELECT distlock.acquire('k', '1 s')$$),
	($$SELECT distlock.try_acquire('k', '1 s')$$),
	($$SELECT distlock.try_acquire('job', '1 s')$$),
	($$SELECT distlock.try_acquire('job', '1 s', wait => '1 h')$$),
	($$SELECT distlock.acquire_with_token('k', 'tok', '1 s')$$),
	($$SELECT distlock.acquire_with_token('job', 'tok', '1 s')$$),
	($$SELECT distlock.try_acquire_with_token('k', 'tok', '1 s')$$),
	($$SELECT distlock.extend('job', 'tok')$$),
	($$SELECT distlock.try_extend('job', 'tok')$$),
	($$SELECT distlock.try_extend('job', 'wrong')$$),
	($$SELECT distlock.ensure('job', 'tok', '1 s')$$),
	($$SELECT distlock.try_ensure('job', 'tok', '1 s')$$),
	($$SELECT distlock.release('job', 'tok')$$),
	($$SELECT distlock.try_release('job', 'tok')$$),
	($$SELECT distlock.try_release('never seen', 'tok')$$),
	($$SELECT distlock.extend_all('tok', '1 s')$$),
	($$SELECT distlock.release_all('tok')$$),
	($$SELECT distlock.force_release('job')$$),
	($$SELECT distlock.force_acquire('job', '1 s')$$),
	($$SELECT distlock.acquire('k', '1 s', scope => 'session')$$),
	($$SELECT distlock.acquire('k', '1 s', scope => 'transaction')$$),
	($$SELECT distlock.do_exclusively('k', '1 s', 'SELECT 1')$$),
	($$SELECT distlock.try_do_exclusively('job', '1 s', 'SELECT 1')$$),
	($$CALL distlock.run_exclusively('k', '1 s', 'SELECT 1')$$),
	($$SELECT distlock.advance_fence()$$),
	($$CALL distlock.purge()$$)) t(statement);
-- looks
SELECT distlock.is_held('job'), distlock.is_held('k'), distlock.fence('job', 'tok') = :fence AS fence,
	distlock.ttl('job', 'tok') > '59 min' AS ttl, distlock.fence('job', 'wrong') IS NULL AS wrong;
SELECT key FROM distlock.locks WHERE key = 'job';
SELECT count(*) FROM distlock.waiters;
SELECT distlock.key_id('job') <> 0 AS key_id, distlock.retry_delay(distlock.linear_backoff('1 s'), 1);
COMMIT;
-- the messages
BEGIN READ ONLY;
SELECT distlock.try_acquire('job', '1 s');
ROLLBACK;
BEGIN;
SET TRANSACTION READ ONLY;
SELECT distlock.release('job', 'tok');
ROLLBACK;
-- looks at a serializable read-only deferrable transaction's ease
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SELECT distlock.is_held('job'), distlock.is_held('never seen'), distlock.fence('job', 'tok') = :fence AS fence;
COMMIT;
-- a session that is read-only by default
SET default_transaction_read_only = on;
SELECT pg_temp.harmless($$SELECT distlock.release('job', 'tok')$$);
CALL distlock.purge();
RESET default_transaction_read_only;
SELECT distlock.release('job', 'tok');
