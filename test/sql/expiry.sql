-- An expired lease is lost, taken or not: nothing brings it back.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.acquire_with_token('job', 'tok', '20 ms', owner => 'me') AS fence \gset
SELECT distlock.acquire_with_token('job 2', 'tok', '20 ms') IS NOT NULL AS acquired;
SELECT pg_temp.await_expiry(key) FROM (VALUES ('job'), ('job 2')) k(key);
SELECT distlock.is_held('job');
SELECT distlock.ttl('job', 'tok') IS NULL AS no_ttl;
SELECT distlock.fence('job', 'tok') IS NULL AS no_fence;
SELECT count(*) FROM distlock.locks WHERE key LIKE 'job%';
SELECT pg_temp.harmless(statement) AS result, statement
FROM (VALUES ($$SELECT distlock.extend('job', 'tok')$$),
	($$SELECT distlock.extend('job', 'tok', '1 h')$$),
	($$SELECT distlock.ensure('job', 'tok', '1 h')$$),
	($$SELECT distlock.release('job', 'tok')$$),
	($$SELECT distlock.try_extend('job', 'tok')$$),
	($$SELECT distlock.try_ensure('job', 'tok', '1 h')$$),
	($$SELECT distlock.try_release('job', 'tok')$$),
	($$SELECT distlock.extend_all('tok', '1 h')$$),
	($$SELECT distlock.release_all('tok')$$),
	($$SELECT distlock.force_release('job')$$)) t(statement);
-- acquiring it with the old token is a new grant
SELECT distlock.acquire_with_token('job', 'tok', '1 min') > :fence AS new_fence;
SELECT owner IS NULL AS owner_gone FROM distlock.locks WHERE key = 'job';
SELECT distlock.release('job', 'tok');
-- and so is acquiring it with another; the first holder has lost it then, too
SELECT distlock.acquire_with_token('job', 'old', '1 ms') AS fence \gset
SELECT pg_temp.await_expiry('job');
SELECT distlock.acquire_with_token('job', 'new', '1 min') > :fence AS new_fence;
SELECT distlock.try_extend('job', 'old', '1 min') IS NULL AS lost;
SELECT distlock.try_release('job', 'old');
SELECT distlock.release('job', 'new');
-- the clock counts, not the start of the transaction
BEGIN;
SELECT distlock.acquire_with_token('job', 'tok', '100 ms') AS fence \gset
SELECT distlock.is_held('job');
SELECT pg_temp.await_expiry('job');
SELECT distlock.is_held('job');
SELECT distlock.try_extend('job', 'tok') IS NULL AS lost;
SELECT distlock.acquire_with_token('job', 'tok', '1 min') > :fence AS new_fence;
SELECT distlock.ttl('job', 'tok') > '59 s' AS from_now;
COMMIT;
SELECT distlock.release('job', 'tok');
-- who waits longer than the rest of the lease is granted it at its end
SELECT distlock.acquire_with_token('job', 'old', '50 ms') AS fence \gset
SELECT clock_timestamp() AS began \gset
SELECT distlock.acquire_with_token('job', 'new', '1 min', wait => '10 s') > :fence AS granted;
SELECT clock_timestamp() - :'began' < '5 s' AS soon;
SELECT distlock.release('job', 'new');
