-- Acquiring with a retry strategy, without queueing.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.acquire_with_token('job', 'tok', '1 h', owner => 'me') IS NOT NULL AS acquired;
-- three retries, four attempts: at least 30 ms
SELECT clock_timestamp() AS began \gset
SELECT distlock.try_acquire('job', '1 min', retry => distlock.limit_retry(distlock.linear_backoff('10 ms'), 3)) IS NULL AS refused;
SELECT clock_timestamp() - :'began' BETWEEN '30 ms' AND '5 s' AS in_time;
-- no retry: one attempt, at once
SELECT distlock.try_acquire('job', '1 min', retry => distlock.limit_retry(distlock.linear_backoff('24 h'), 0)) IS NULL AS refused;
-- 10, 10, 16, 20
SELECT clock_timestamp() AS began \gset
SELECT distlock.try_acquire_with_token('job', 'other', '1 min',
	retry => distlock.limit_retry(distlock.exponential_backoff('10 ms', '20 ms'), 4)) IS NULL AS refused;
SELECT clock_timestamp() - :'began' BETWEEN '56 ms' AND '5 s' AS in_time;
-- state belongs to the call: a strategy used twice has all its retries twice
SELECT clock_timestamp() AS began \gset
WITH s AS MATERIALIZED (SELECT distlock.limit_retry(distlock.linear_backoff('10 ms'), 3) AS retry)
SELECT distlock.try_acquire('job', '1 min', retry => retry) IS NULL AS refused,
	distlock.try_acquire('job', '1 min', retry => retry) IS NULL AS refused FROM s;
SELECT clock_timestamp() - :'began' BETWEEN '60 ms' AND '5 s' AS in_time;
-- a wait bounds the whole
SELECT clock_timestamp() AS began \gset
SELECT distlock.try_acquire('job', '1 min', wait => '20 ms', retry => distlock.linear_backoff('1 h')) IS NULL AS refused;
SELECT distlock.try_acquire('job', '1 min', wait => '20 ms', retry => distlock.exponential_backoff('1 ms', '1 h')) IS NULL AS refused;
SELECT clock_timestamp() - :'began' BETWEEN '40 ms' AND '5 s' AS in_time;
-- and so do the retries
SELECT distlock.try_acquire('job', '1 min', wait => '24 h', retry => distlock.limit_retry(distlock.linear_backoff('1 ms'), 2)) IS NULL AS refused;
-- the verb raises
SELECT pg_temp.complaint($$SELECT distlock.acquire('job', '1 min', retry => distlock.limit_retry(distlock.linear_backoff('1 ms'), 3))$$);
SELECT pg_temp.complaint($$SELECT distlock.acquire_with_token('job', 'other', '1 min', wait => '5 ms', retry => distlock.linear_backoff('1 ms'))$$);
-- the holder itself need not try twice
SELECT distlock.acquire_with_token('job', 'tok', '50 ms', retry => distlock.linear_backoff('24 h')) IS NOT NULL AS granted;
-- granted when the lease has ended meanwhile
SELECT distlock.try_acquire_with_token('job', 'next', '1 min', wait => '10 s', retry => distlock.linear_backoff('5 ms')) IS NOT NULL AS granted;
-- in a transaction that holds the key's lock, there is nothing to wait for
BEGIN;
SELECT distlock.extend('job', 'next') IS NOT NULL AS extended;
SELECT distlock.try_acquire('job', '1 min', retry => distlock.linear_backoff('24 h')) IS NULL AS refused_at_once;
COMMIT;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
SELECT distlock.release('job', 'next');
