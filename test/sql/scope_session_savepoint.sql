-- Scope session and savepoints: taken, released, taken again.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SET statement_timeout = '1 min';
CREATE TEMP VIEW state AS
	SELECT distlock.is_held('job') AS held, distlock.fence('job', 'a') IS NOT NULL AS a, distlock.fence('job', 'b') IS NOT NULL AS b,
		(SELECT count(*) FROM distlock.locks) AS shown,
		(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND mode = 'ShareLock') AS session_locks;
-- taken after the savepoint: gone
BEGIN;
SAVEPOINT s;
SELECT distlock.acquire_with_token('job', 'a', '1 min', scope => 'session') AS fence \gset
TABLE state;
ROLLBACK TO s;
TABLE state;
SELECT distlock.acquire_with_token('job', 'b', '1 min', scope => 'session') > :fence AS new_fence;
RELEASE s;
COMMIT;
TABLE state;
-- released after the savepoint: back
BEGIN;
SAVEPOINT s;
SELECT distlock.release('job', 'b');
TABLE state;
SELECT distlock.acquire_with_token('job', 'a', '1 min', scope => 'session') IS NOT NULL AS granted;
TABLE state;
ROLLBACK TO s;
TABLE state;
COMMIT;
TABLE state;
-- released in a subtransaction that commits, taken in one that does not
BEGIN;
SAVEPOINT s;
SELECT distlock.release('job', 'b');
RELEASE s;
SAVEPOINT s;
SELECT distlock.acquire_with_token('job', 'a', '1 min', scope => 'session') IS NOT NULL AS granted;
ROLLBACK TO s;
COMMIT;
TABLE state;
-- taken and released in one transaction, in levels
BEGIN;
SAVEPOINT s1;
SELECT distlock.acquire_with_token('job', 'a', '1 min', scope => 'session') IS NOT NULL AS granted;
SAVEPOINT s2;
SELECT distlock.release('job', 'a');
ROLLBACK TO s2;
SELECT distlock.release('job', 'a');
RELEASE s1;
COMMIT;
TABLE state;
-- in a block with an exception
DO $$
BEGIN
	PERFORM distlock.acquire_with_token('job', 'a', '1 min', scope => 'session');
	PERFORM 1 / 0;
EXCEPTION WHEN division_by_zero THEN
	PERFORM distlock.acquire_with_token('job', 'b', '1 min', scope => 'session');
END $$;
TABLE state;
SELECT distlock.release('job', 'b');
