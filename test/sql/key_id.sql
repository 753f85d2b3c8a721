-- The number of a key finds its lock in pg_locks.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.key_id('job') = distlock.key_id('job') AS same, distlock.key_id('job') <> distlock.key_id('Job') AS other;
BEGIN;
SELECT distlock.acquire_with_token('job', 'tok', '1 min') IS NOT NULL AS acquired;
SELECT (classid::bigint << 32) | objid::bigint = distlock.key_id('job') AS found, mode, granted
FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
-- the user's own advisory locks are others
SELECT pg_try_advisory_xact_lock(distlock.key_id('job'));
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
	AND (classid::bigint << 32) | objid::bigint = distlock.key_id('job');
COMMIT;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
-- nor does letting go of those touch ours
BEGIN;
SELECT distlock.extend('job', 'tok') IS NOT NULL AS extended;
SELECT pg_advisory_unlock_all();
SELECT mode FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
SELECT distlock.release('job', 'tok');
COMMIT;
