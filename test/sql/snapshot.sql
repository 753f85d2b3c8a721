-- REPEATABLE READ and SERIALIZABLE: no grant on top of a stale snapshot.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
-- who took the snapshot before the old lease's end may not see its work
SELECT distlock.acquire_with_token('job', 'old', '250 ms') AS fence \gset
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) >= 0 AS snapshot_taken FROM distlock.locks;
SELECT pg_temp.await_expiry('job');
SELECT distlock.try_acquire('job', '1 min');
ROLLBACK;
-- a retry succeeds
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT distlock.try_acquire_with_token('job', 'tok', '1 min') > :fence AS granted;
-- its own changes do not stand in its way
SELECT distlock.extend('job', 'tok') IS NOT NULL AS extended;
SELECT distlock.release('job', 'tok');
SELECT distlock.acquire_with_token('job', 'tok', '20 ms') > :fence AS granted;
SELECT pg_temp.await_expiry('job');
SELECT distlock.acquire_with_token('job', 'tok', '1 min') > :fence AS granted;
COMMIT;
SELECT distlock.release('job', 'tok');
-- the same for every verb that grants
SELECT distlock.acquire_with_token('job', 'old', '250 ms') > :fence AS granted;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) >= 0 AS snapshot_taken FROM distlock.locks;
SELECT pg_temp.await_expiry('job');
SELECT pg_temp.sqlstate(statement) FROM (VALUES
	($$SELECT distlock.acquire('job', '1 min')$$),
	($$SELECT distlock.try_acquire('job', '1 min')$$),
	($$SELECT distlock.acquire_with_token('job', 'tok', '1 min')$$),
	($$SELECT distlock.try_acquire_with_token('job', 'tok', '1 min')$$),
	($$SELECT distlock.try_acquire_with_token('job', 'old', '1 min')$$),
	($$SELECT distlock.try_acquire('job', '1 min', wait => '10 ms')$$),
	($$SELECT distlock.force_acquire('job', '1 min')$$)) s(statement);
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
-- other keys are not concerned, nor is a refusal or a look
SELECT distlock.try_acquire_with_token('job 2', 'tok', '1 min') IS NOT NULL AS granted;
SELECT distlock.is_held('job'), distlock.try_release('job', 'old'), distlock.try_extend('job', 'old') IS NULL AS refused;
COMMIT;
SELECT distlock.release('job 2', 'tok');
-- READ COMMITTED takes a new snapshot for every statement
SELECT distlock.acquire_with_token('job', 'old', '250 ms') > :fence AS granted;
BEGIN;
SELECT count(*) >= 0 AS snapshot_taken FROM distlock.locks;
SELECT pg_temp.await_expiry('job');
SELECT distlock.try_acquire_with_token('job', 'tok', '1 min') IS NOT NULL AS granted;
COMMIT;
SELECT distlock.release('job', 'tok');
-- released before the snapshot: granted
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT distlock.try_acquire_with_token('job', 'tok', '1 min') IS NOT NULL AS granted;
COMMIT;
-- and so is one's own lock once more
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT distlock.try_acquire_with_token('job', 'tok', '1 min') IS NOT NULL AS granted_again;
SELECT distlock.release('job', 'tok');
COMMIT;
