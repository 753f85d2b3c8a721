-- What is rolled back has never been: row, key and waiters; a fence is not used again.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
-- a new key
BEGIN;
SELECT distlock.acquire_with_token('rollback', 'tok', '1 min') AS fence1 \gset
SELECT distlock.is_held('rollback');
ROLLBACK;
SELECT distlock.is_held('rollback');
SELECT count(*) FROM distlock.lock WHERE key = 'rollback';
SELECT distlock.acquire_with_token('rollback', 'tok', '1 min') AS fence2 \gset
SELECT :fence2 > :fence1 AS fence_not_used_again;
SELECT distlock.release('rollback', 'tok');
-- a key known before
BEGIN;
SELECT distlock.acquire_with_token('rollback', 'tok', '1 min') AS fence3 \gset
ROLLBACK;
SELECT distlock.is_held('rollback');
SELECT distlock.acquire_with_token('rollback', 'tok', '1 min') AS fence4 \gset
SELECT :fence4 > :fence3 AS fence_not_used_again;
-- a release, an extend
BEGIN;
SELECT distlock.release('rollback', 'tok');
SELECT distlock.acquire_with_token('rollback', 'other', '1 min') AS fence5 \gset
ROLLBACK;
SELECT distlock.fence('rollback', 'tok') = :fence4 AS still_held;
BEGIN;
SELECT distlock.extend('rollback', 'tok', '1 h') IS NOT NULL AS extended;
ROLLBACK;
SELECT distlock.ttl('rollback', 'tok') <= '1 min' AS as_before;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
-- an error is a rollback
BEGIN;
SELECT distlock.release('rollback', 'tok');
SELECT 1 / 0;
ROLLBACK;
SELECT distlock.fence('rollback', 'tok') = :fence4 AS still_held;
SELECT distlock.release('rollback', 'tok');
SELECT distlock.acquire_with_token('rollback', 'tok', '1 min') > :fence5 AS fence_not_used_again;
SELECT distlock.release('rollback', 'tok');
