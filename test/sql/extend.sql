-- Extend and ensure: when a lease ends.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.acquire_with_token('job', 'tok', '1 min') AS fence \gset
-- from now on; longer, shorter, and as long as before
SELECT distlock.extend('job', 'tok', '1 h') - clock_timestamp() > '59 min' AS longer;
SELECT distlock.extend('job', 'tok') - clock_timestamp() > '59 min' AS as_before;
SELECT distlock.extend('job', 'tok', '10 min') - clock_timestamp() <= '10 min' AS shorter;
SELECT distlock.extend('job', 'tok', NULL) - clock_timestamp() <= '10 min' AS as_before;
SELECT distlock.try_extend('job', 'tok', '1 h') - clock_timestamp() > '59 min' AS longer;
SELECT distlock.try_extend('job', 'tok') - clock_timestamp() > '59 min' AS as_before;
-- what is returned is what is stored
SELECT distlock.extend('job', 'tok', '20 min') AS expires_at \gset
SELECT expires_at = :'expires_at' AS stored FROM distlock.locks WHERE key = 'job';
-- ensure never shortens, and changes nothing if it need not lengthen
SELECT distlock.ensure('job', 'tok', '1 min') = :'expires_at' AS unchanged;
SELECT distlock.try_ensure('job', 'tok', '1 ms') = :'expires_at' AS unchanged;
SELECT expires_at = :'expires_at' AS stored FROM distlock.locks WHERE key = 'job';
SELECT distlock.ensure('job', 'tok', '1 h') - clock_timestamp() > '59 min' AS longer;
SELECT distlock.try_ensure('job', 'tok', '2 h') - clock_timestamp() > '119 min' AS longer;
-- the ttl given last is what an extend without one repeats
SELECT distlock.extend('job', 'tok') - clock_timestamp() > '119 min' AS as_ensured;
-- none of this is another grant
SELECT distlock.fence('job', 'tok') = :fence AS same_fence;
-- an ensure that has nothing to do keeps no lock and costs no transaction id
BEGIN;
SELECT distlock.ensure('job', 'tok', '1 min') IS NOT NULL AS ensured;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_xid;
COMMIT;
-- rolled back
SELECT expires_at AS expires_at FROM distlock.locks WHERE key = 'job' \gset
BEGIN;
SELECT distlock.extend('job', 'tok', '1 s') IS NOT NULL AS extended;
SELECT distlock.ttl('job', 'tok') <= '1 s' AS short;
ROLLBACK;
SELECT expires_at = :'expires_at' AS as_before FROM distlock.locks WHERE key = 'job';
SELECT distlock.release('job', 'tok');
-- not held
SELECT distlock.extend('job', 'tok', '1 s');
SELECT distlock.ensure('job', 'tok', '1 s');
SELECT distlock.extend('never seen', 'tok');
SELECT distlock.ensure('never seen', 'tok', '1 s');
SELECT distlock.try_extend('job', 'tok', '1 s') IS NULL AS refused;
SELECT distlock.try_ensure('job', 'tok', '1 s') IS NULL AS refused;
SELECT distlock.try_extend('never seen', 'tok') IS NULL AS refused;
SELECT distlock.try_ensure('never seen', 'tok', '1 s') IS NULL AS refused;
