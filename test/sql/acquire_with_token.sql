-- Tokens chosen by the caller: acquiring again is an idempotent retry.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.acquire_with_token('job', 'tok', '1 h', owner => 'first', data => 'one') AS fence \gset
SELECT acquired_at AS acquired_at, expires_at AS expires_at FROM distlock.locks WHERE key = 'job' \gset
-- the same fence, the ttl anew; owner and data stay when not given
SELECT distlock.acquire_with_token('job', 'tok', '3 h') = :fence AS same_fence;
SELECT acquired_at = :'acquired_at' AS same_grant, expires_at > timestamptz :'expires_at' + '1 h' AS longer, owner, data
FROM distlock.locks WHERE key = 'job';
SELECT distlock.try_acquire_with_token('job', 'tok', '30 min', owner => 'second') = :fence AS same_fence;
SELECT acquired_at = :'acquired_at' AS same_grant, expires_at < :'expires_at' AS shorter, owner, data
FROM distlock.locks WHERE key = 'job';
-- also within a transaction that has just acquired or extended it
BEGIN;
SELECT distlock.acquire_with_token('job', 'tok', '1 h') = :fence AS same_fence;
SELECT distlock.acquire_with_token('job', 'tok', '1 h') = :fence AS same_fence;
SELECT distlock.extend('job', 'tok') IS NOT NULL AS extended;
SELECT distlock.acquire_with_token('job', 'tok', '1 h', wait => '1 s') = :fence AS same_fence;
SELECT distlock.try_acquire_with_token('job', 'other', '1 h') IS NULL AS refused;
SELECT distlock.try_acquire_with_token('job', 'other', '1 h', wait => '1 h') IS NULL AS refused_at_once;
COMMIT;
-- the token is compared byte by byte
SELECT distlock.try_acquire_with_token('job', 'Tok', '1 h') IS NULL AS refused;
SELECT distlock.try_acquire_with_token('job', 'tok ', '1 h') IS NULL AS refused;
SELECT distlock.try_acquire_with_token('job', 'to', '1 h') IS NULL AS refused;
-- once released, it is another grant with another fence
SELECT distlock.release('job', 'tok');
SELECT distlock.acquire_with_token('job', 'tok', '1 h') > :fence AS new_fence;
SELECT distlock.release('job', 'tok');
-- the same within one transaction
BEGIN;
SELECT distlock.acquire_with_token('job', 'tok', '1 h') AS fence1 \gset
SELECT distlock.release('job', 'tok');
SELECT distlock.acquire_with_token('job', 'tok', '1 h') > :fence1 AS new_fence;
SELECT distlock.release('job', 'tok');
SELECT distlock.try_acquire_with_token('job', 'other', '1 h') > :fence1 AS new_fence;
COMMIT;
SELECT distlock.release('job', 'other');
