-- A column of the lock table that was added and dropped again does no harm; another
-- type of a column does.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
BEGIN;
ALTER TABLE distlock.lock ADD note text;
SELECT pg_temp.sqlstate($$SELECT distlock.acquire('job', '1 h')$$) AS added;
ALTER TABLE distlock.lock DROP note;
SELECT distlock.acquire_with_token('job', 'tok', '1 h') > 0 AS acquired;
SELECT distlock.extend('job', 'tok') > now() AS extended, distlock.is_held('job'), distlock.ttl('job', 'tok') > '50 min' AS ttl;
SELECT key, scope, owner FROM distlock.locks WHERE key = 'job';
SELECT distlock.release('job', 'tok');
SELECT distlock.is_held('job');
ROLLBACK;
BEGIN;
ALTER TABLE distlock.lock ALTER permit TYPE integer;
SELECT pg_temp.sqlstate($$SELECT distlock.acquire('job', '1 h')$$) AS another_type;
ROLLBACK;
SELECT distlock.try_release('job', 'tok');
