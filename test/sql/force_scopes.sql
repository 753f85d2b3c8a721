-- Locks of scope session and transaction that are ended or taken over by force.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
-- a lock of this session, released by force: its token is dead, the session goes on
SELECT distlock.acquire_with_token('job', 'tok', '1 h', scope => 'session') AS fence \gset
SELECT distlock.force_release('job');
SELECT distlock.is_held('job'), distlock.try_release('job', 'tok') AS released, (SELECT count(*) FROM distlock.locks) AS shown,
	(SELECT fence > :fence FROM distlock.lock WHERE key = 'job') AS moved_on;
-- taken over with scope session
SELECT distlock.acquire_with_token('job', 'tok', '1 h', scope => 'session') AS fence \gset
SELECT distlock.force_acquire('job', '1 min', scope => 'session', owner => 'admin') AS token \gset
SELECT distlock.fence('job', :'token') > :fence AS new_fence, distlock.fence('job', 'tok') IS NULL AS old_dead, distlock.ttl('job', :'token');
SELECT key, scope, owner, expires_at, remaining_ms FROM distlock.locks;
SELECT distlock.release('job', :'token');
-- free: as good as an acquisition; from one scope to the other
SELECT distlock.force_acquire('job', '1 min', scope => 'session') IS NOT NULL AS token;
SELECT distlock.force_acquire('job', '1 min') IS NOT NULL AS token;
SELECT scope, owner, remaining_ms > 1000 AS remaining FROM distlock.locks;
SELECT distlock.force_acquire('job', '1 min', scope => 'session') IS NOT NULL AS token;
SELECT scope, owner, remaining_ms FROM distlock.locks;
SELECT distlock.force_release('job');
SELECT distlock.is_held('job'), (SELECT count(*) FROM distlock.locks) AS shown;
-- no session-level lock is left of those that were taken away
SELECT count(*) AS left FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
-- rolled back
SELECT distlock.acquire_with_token('job', 'tok', '1 h', scope => 'session') AS fence \gset
BEGIN;
SELECT distlock.force_acquire('job', '1 min', scope => 'session') IS NOT NULL AS token;
SELECT distlock.force_release('job');
ROLLBACK;
SELECT distlock.is_held('job'), distlock.fence('job', 'tok') = :fence AS as_before;
SELECT distlock.release('job', 'tok');
SELECT count(*) AS left FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
-- not with scope transaction
SELECT distlock.force_acquire('job', '1 min', scope => 'transaction');
-- this transaction's own lock
BEGIN;
SELECT distlock.acquire_with_token('job', 'tok', '1 h', scope => 'transaction') AS fence \gset
SELECT distlock.force_release('job') AS first, distlock.is_held('job'), distlock.force_release('job') AS again;
SELECT distlock.acquire_with_token('job', 'tok', '1 h', scope => 'transaction') AS fence2 \gset
SELECT :fence2 > :fence AS new_fence;
SELECT distlock.force_acquire('job', '1 h') AS token \gset
SELECT distlock.fence('job', 'tok') IS NULL AS old_dead, distlock.fence('job', :'token') > :fence2 AS new_fence;
COMMIT;
SELECT distlock.is_held('job'), distlock.ttl('job', :'token') > '59 min' AS lease;
-- a held lock is not taken over with a snapshot that may not show its holder's work
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT distlock.force_acquire('job', '1 h');
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT pg_temp.harmless($$SELECT distlock.force_acquire('job', '1 h', scope => 'session')$$) AS taken_over;
-- but it is released, and one that is free is taken
SELECT distlock.force_release('job');
SELECT distlock.force_acquire('job 2', '1 h') AS token2 \gset
COMMIT;
SELECT distlock.is_held('job'), distlock.release('job 2', :'token2');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT distlock.force_acquire('job', '1 h') AS token \gset
COMMIT;
SELECT distlock.release('job', :'token');
