-- Acquire, be refused, release, acquire again.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.acquire('job', '1 min', owner => 'me', data => 'some data') AS token \gset
SELECT :'token' ~ '^[0-9a-f]{32}$' AS looks_like_a_token;
SELECT distlock.is_held('job');
SELECT distlock.ttl('job', :'token') > '59 s' AND distlock.ttl('job', :'token') <= '1 min' AS lives_a_minute;
SELECT distlock.fence('job', :'token') > 0 AS has_a_fence;
SELECT key, scope, owner, data, waiters FROM distlock.locks WHERE key = 'job';
-- somebody else, even in the same session
SELECT distlock.try_acquire('job', '1 min') IS NULL AS refused;
SELECT distlock.try_acquire_with_token('job', 'another', '1 min') IS NULL AS refused;
SELECT pg_temp.complaint($$SELECT distlock.acquire('job', '1 min')$$);
SELECT pg_temp.complaint($$SELECT distlock.acquire_with_token('job', 'another', '1 min')$$);
SELECT pg_temp.complaint($$SELECT distlock.acquire('job', '1 min', wait => '10 ms')$$);
SELECT distlock.try_acquire('job', '1 min', wait => '10 ms') IS NULL AS refused;
-- other keys are free
SELECT distlock.is_held('job2');
SELECT distlock.try_acquire('job2', '1 min') AS token2 \gset
SELECT :'token2' <> :'token' AS another_token;
SELECT distlock.release('job', :'token');
SELECT distlock.is_held('job');
SELECT distlock.ttl('job', :'token') IS NULL AS no_ttl, distlock.fence('job', :'token') IS NULL AS no_fence;
SELECT count(*) FROM distlock.locks WHERE key = 'job';
SELECT distlock.is_held('job2');
-- without an owner's name, the message does with the process
SELECT pg_temp.complaint($$SELECT distlock.acquire('job2', '1 min')$$);
SELECT distlock.release('job2', :'token2');
-- waiting for what is free does not take time
SELECT distlock.acquire('job', '1 min', wait => '24 h') AS token \gset
SELECT distlock.release('job', :'token');
-- arguments by position, all of them
SELECT distlock.acquire('job', '1 min', '0', 'lease', 'owner', 'data', distlock.linear_backoff('1 ms')) AS token \gset
SELECT owner, data FROM distlock.locks WHERE key = 'job';
SELECT distlock.release('job', :'token');
SELECT distlock.acquire_with_token('job', 'tok', '1 min', '0', 'lease', 'owner', 'data', distlock.linear_backoff('1 ms')) > 0 AS fence;
SELECT distlock.release('job', 'tok');
-- no two tokens are alike
SELECT count(DISTINCT distlock.acquire('job' || i, '1 min')) FROM generate_series(1, 300) i;
SELECT count(*) FILTER (WHERE distlock.force_release('job' || i)) FROM generate_series(1, 300) i;
