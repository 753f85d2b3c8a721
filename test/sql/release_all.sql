-- A token shared by many keys: extend_all and release_all.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT count(distlock.acquire_with_token('job ' || i, 'tok', '1 min')) FROM generate_series(1, 20) i;
SELECT distlock.acquire_with_token('alien', 'other', '1 min') IS NOT NULL AS acquired;
SELECT expires_at AS alien_expires_at FROM distlock.locks WHERE key = 'alien' \gset
SELECT distlock.extend_all('tok', '1 h');
SELECT count(*), min(expires_at) > clock_timestamp() + '59 min' AS longer FROM distlock.locks WHERE key LIKE 'job %';
SELECT distlock.extend_all('tok', '30 min');
SELECT count(*), max(expires_at) < clock_timestamp() + '31 min' AS shorter FROM distlock.locks WHERE key LIKE 'job %';
-- a token of nobody
SELECT distlock.extend_all('nobody', '1 h'), distlock.release_all('nobody');
-- rolled back, to a savepoint too
BEGIN;
SELECT distlock.release_all('tok');
SELECT distlock.release_all('tok');
SELECT distlock.extend_all('tok', '1 h');
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT distlock.release_all('tok');
ROLLBACK TO s;
SELECT distlock.extend_all('tok', '1 h');
COMMIT;
SELECT count(*) FROM distlock.locks WHERE key LIKE 'job %';
-- one has been released, one has expired, one is new in this transaction
SELECT distlock.release('job 1', 'tok');
SELECT distlock.extend('job 2', 'tok', '1 ms') IS NOT NULL AS extended;
SELECT pg_temp.await_expiry('job 2');
BEGIN;
SELECT distlock.acquire_with_token('job 21', 'tok', '1 min') IS NOT NULL AS acquired;
SELECT distlock.extend_all('tok', '1 h');
SELECT distlock.release_all('tok');
COMMIT;
SELECT key, expires_at = :'alien_expires_at' AS untouched FROM distlock.locks WHERE key LIKE 'job %' OR key = 'alien';
SELECT distlock.release_all('other');
SELECT distlock.release_all('other');
