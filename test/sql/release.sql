-- Release: once, with the right token.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.acquire_with_token('job', 'tok', '1 min') IS NOT NULL AS acquired;
SELECT distlock.release('job', 'wrong');
SELECT distlock.try_release('job', 'wrong');
SELECT distlock.try_release('job', 'tok');
SELECT distlock.try_release('job', 'tok');
SELECT distlock.release('job', 'tok');
SELECT distlock.release('never seen', 'tok');
SELECT distlock.try_release('never seen', 'tok');
SELECT distlock.acquire_with_token('job', 'tok', '1 min') IS NOT NULL AS acquired;
SELECT distlock.release('job', 'tok');
-- a release that is rolled back did not happen
SELECT distlock.acquire_with_token('job', 'tok', '1 min') AS fence \gset
BEGIN;
SELECT distlock.release('job', 'tok');
SELECT distlock.is_held('job');
ROLLBACK;
SELECT distlock.fence('job', 'tok') = :fence AS held;
SELECT distlock.release('job', 'tok');
-- a message shows no more of a key than is fit for one
SELECT distlock.release(repeat('0123456789', 51), 'tok');
-- and takes nothing of it for a format
SELECT distlock.release('%s %n %d "quoted" \', 'tok');
