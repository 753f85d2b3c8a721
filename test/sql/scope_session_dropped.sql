-- Session-level locks can be dropped behind the back of distlock; then the lock is free.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
CREATE TEMP VIEW state AS
	SELECT distlock.is_held('job') AS held, distlock.fence('job', 'tok') IS NOT NULL AS fence, distlock.ttl('job', 'tok') IS NOT NULL AS ttl,
		(SELECT count(*) FROM distlock.locks) AS shown;
SELECT distlock.acquire_with_token('job', 'tok', '1 h', scope => 'session') AS fence \gset
TABLE state;
SELECT pg_advisory_unlock_all();
TABLE state;
SELECT distlock.try_release('job', 'tok'), distlock.try_extend('job', 'tok') IS NULL AS not_extended, distlock.release_all('tok');
SELECT distlock.acquire_with_token('job', 'tok', '1 h', scope => 'session') > :fence AS new_fence;
-- the lock is lost at once, even if that transaction is rolled back
BEGIN;
SELECT pg_advisory_unlock_all();
SELECT pg_temp.sqlstate($$SELECT distlock.release('job', 'tok')$$);
ROLLBACK;
TABLE state;
-- another's turn, or another scope's
SELECT distlock.acquire_with_token('job', 'other', '1 h') > :fence AS granted;
SELECT distlock.release('job', 'other');
-- a lease survives, and what the transaction has locked
SELECT distlock.acquire_with_token('job', 'tok', '1 h') IS NOT NULL AS granted;
BEGIN;
SELECT distlock.acquire_with_token('uncommitted', 'tok', '1 h') IS NOT NULL AS granted;
SELECT distlock.acquire_with_token('both', 'tok', '1 h', scope => 'transaction') IS NOT NULL AS granted;
SELECT distlock.acquire_with_token('dropped', 'tok', '1 h', scope => 'session') IS NOT NULL AS granted;
SELECT pg_advisory_unlock_all();
SELECT distlock.is_held('job') AS job, distlock.is_held('uncommitted') AS uncommitted, distlock.is_held('both') AS both, distlock.is_held('dropped') AS dropped;
COMMIT;
SELECT key FROM distlock.locks ORDER BY key;
SELECT distlock.release_all('tok');
-- DISCARD ALL; it also drops the helpers of this test
SELECT distlock.acquire_with_token('job', 'tok', '1 h', scope => 'session') AS fence \gset
DISCARD ALL;
SELECT distlock.is_held('job'), distlock.fence('job', 'tok') IS NULL AS lost;
SELECT count(*) FROM distlock.locks;
-- lesser DISCARDs leave it alone
SELECT distlock.acquire_with_token('job', 'tok', '1 h', scope => 'session') > :fence AS new_fence;
DISCARD PLANS;
DISCARD SEQUENCES;
DISCARD TEMP;
RESET ALL;
DEALLOCATE ALL;
CLOSE ALL;
SELECT distlock.is_held('job'), distlock.fence('job', 'tok') > :fence AS held;
SELECT distlock.release('job', 'tok');
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
