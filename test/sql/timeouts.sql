-- The user's own timeouts end a wait; the transaction's settings stay.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.acquire_with_token('job', 'tok', '1 min') IS NOT NULL AS acquired;
SET lock_timeout = '10 ms';
SELECT distlock.try_acquire('job', '1 min', wait => '1 h');
SELECT distlock.try_acquire('job', '1 min', wait => '1 h', retry => distlock.linear_backoff('1 ms'));
SHOW lock_timeout;
-- it does not make a shorter wait an error
SET lock_timeout = '1 h';
SELECT distlock.try_acquire('job', '1 min', wait => '10 ms') IS NULL AS refused;
SHOW lock_timeout;
RESET lock_timeout;
SET statement_timeout = '30 ms';
SELECT distlock.try_acquire('job', '1 min', wait => '1 h');
SELECT distlock.try_acquire('job', '1 min', wait => '1 h', retry => distlock.linear_backoff('1 ms'));
SELECT distlock.try_acquire('job', '1 min', retry => distlock.linear_backoff('1 h'));
SHOW statement_timeout;
RESET statement_timeout;
SELECT count(*) FROM distlock.waiters;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
-- who does not wait knows no timeout
SET lock_timeout = '1 ms';
SELECT distlock.try_acquire('job', '1 min') IS NULL AS refused;
SELECT distlock.extend('job', 'tok') IS NOT NULL AS extended;
SELECT distlock.release('job', 'tok');
SELECT distlock.acquire_with_token('job', 'tok', '1 min', wait => '1 h') IS NOT NULL AS acquired;
SELECT distlock.release('job', 'tok');
