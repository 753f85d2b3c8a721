-- Administrators end and take over locks; the old token is dead at once.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.acquire_with_token('job', 'tok', '1 min', owner => 'me') AS fence \gset
SELECT distlock.force_release('job');
SELECT distlock.is_held('job');
SELECT distlock.force_release('job');
SELECT distlock.force_release('never seen');
SELECT pg_temp.harmless(statement) AS result, statement
FROM (VALUES ($$SELECT distlock.extend('job', 'tok')$$), ($$SELECT distlock.release('job', 'tok')$$),
	($$SELECT distlock.try_ensure('job', 'tok', '1 min')$$), ($$SELECT distlock.fence('job', 'tok')$$)) t(statement);
-- the fence has moved on by the release itself
SELECT fence > :fence AS moved_on FROM distlock.lock WHERE key = 'job';
SELECT fence AS fence2 FROM distlock.lock WHERE key = 'job' \gset
SELECT distlock.acquire_with_token('job', 'tok', '1 min') > :fence2 AS new_fence;
SELECT distlock.fence('job', 'tok') AS fence3 \gset
-- taken over
SELECT distlock.force_acquire('job', '1 h', owner => 'admin', data => 'by force') AS token \gset
SELECT distlock.fence('job', :'token') > :fence3 AS new_fence;
SELECT key, owner, data FROM distlock.locks WHERE key = 'job';
SELECT distlock.ttl('job', :'token') > '59 min' AS own_ttl;
SELECT pg_temp.harmless(statement) AS result, statement
FROM (VALUES ($$SELECT distlock.extend('job', 'tok')$$), ($$SELECT distlock.release('job', 'tok')$$),
	($$SELECT distlock.try_acquire_with_token('job', 'tok', '1 min')$$)) t(statement);
SELECT distlock.release('job', :'token');
-- free, expired, never seen: as good as acquire
SELECT distlock.force_acquire('job', '1 ms') IS NOT NULL AS acquired;
SELECT pg_temp.await_expiry('job');
SELECT distlock.force_acquire('job', '1 min') IS NOT NULL AS acquired;
SELECT distlock.force_acquire('force new', '1 min', 'lease', 'owner', 'data') AS token \gset
SELECT distlock.release('force new', :'token');
-- all in one transaction, and rolled back
SELECT distlock.fence('job', 'tok') IS NULL AS not_tok;
SELECT distlock.force_release('job');
SELECT distlock.acquire_with_token('job', 'tok', '1 min') AS fence \gset
BEGIN;
SELECT distlock.extend('job', 'tok') IS NOT NULL AS extended;
SELECT distlock.force_release('job');
SELECT distlock.force_acquire('job', '1 min') IS NOT NULL AS acquired;
SELECT distlock.force_acquire('job', '1 min') IS NOT NULL AS acquired;
SELECT distlock.try_extend('job', 'tok') IS NULL AS dead;
ROLLBACK;
SELECT distlock.fence('job', 'tok') = :fence AS as_before;
SELECT distlock.release('job', 'tok');
