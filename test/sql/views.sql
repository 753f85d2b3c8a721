-- The views: what they show, and that no token is in them.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT c.relname AS view, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'distlock'::regnamespace AND c.relkind = 'v'
ORDER BY c.relname, a.attnum;
SELECT distlock.acquire_with_token('job', 'my secret', '1 h', owner => 'me', data => 'some data') AS fence \gset
SELECT key, scope, fence = :fence AS fence, owner, data, pid = pg_backend_pid() AS pid, role = current_user AS role,
	application_name = current_setting('application_name') AS application_name,
	client_addr IS NOT DISTINCT FROM inet_client_addr() AS client_addr,
	clock_timestamp() - acquired_at BETWEEN '0' AND '1 min' AS acquired_at,
	expires_at - acquired_at = '1 h' AS expires_at,
	remaining_ms BETWEEN 3540000 AND 3600000 AS remaining_ms, waiters
FROM distlock.locks WHERE key = 'job';
SELECT count(*) FROM distlock.waiters;
-- after an extend, it is still the same grant
SELECT distlock.extend('job', 'my secret', '2 h') AS expires_at \gset
SELECT fence = :fence AS fence, expires_at = :'expires_at' AS expires_at, expires_at - acquired_at >= '2 h' AS longer
FROM distlock.locks WHERE key = 'job';
-- the token is nowhere; the check itself would find it
SELECT count(*) FILTER (WHERE l::text LIKE '%my secret%') AS with_token, count(*) FILTER (WHERE l::text LIKE '%some data%') AS with_data
FROM distlock.locks l;
SELECT count(*) FROM distlock.lock l WHERE l::text LIKE '%my secret%';
SELECT viewname FROM pg_views WHERE schemaname = 'distlock' AND definition ~ '\mtoken,';
-- uncommitted changes are seen by their own transaction only to their end
BEGIN;
SELECT distlock.release('job', 'my secret');
SELECT count(*) FROM distlock.locks WHERE key = 'job';
ROLLBACK;
SELECT count(*) FROM distlock.locks WHERE key = 'job';
-- what has expired is not held
SELECT distlock.extend('job', 'my secret', '10 ms') IS NOT NULL AS extended;
SELECT pg_temp.await_expiry('job');
SELECT count(*) FROM distlock.locks WHERE key = 'job';
-- a holder whose role and session are gone
CREATE ROLE regress_distlock_gone;
SET ROLE regress_distlock_gone;
SELECT distlock.acquire_with_token('job', 'tok', '1 h', owner => 'me', data => 'some data') IS NOT NULL AS acquired;
RESET ROLE;
SELECT role FROM distlock.locks WHERE key = 'job';
DROP ROLE regress_distlock_gone;
SELECT regexp_replace(role, '[0-9]+', 'N') AS role, owner, data FROM distlock.locks WHERE key = 'job';
SELECT pg_backend_pid() AS pid \gset
\c
SELECT set_config('regress.pid', :'pid', false) = :'pid' AS reconnected;
DO $$
BEGIN
	WHILE EXISTS (SELECT FROM pg_stat_activity WHERE pid = current_setting('regress.pid')::int) LOOP
		PERFORM pg_sleep(0.005);
		PERFORM pg_stat_clear_snapshot();
	END LOOP;
END $$;
SELECT owner, application_name, client_addr, pid <> pg_backend_pid() AS other_pid FROM distlock.locks WHERE key = 'job';
SELECT distlock.release('job', 'tok');
