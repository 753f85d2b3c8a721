-- Creating and dropping the extension.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT extname, nspname, extrelocatable FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'distlock';
SELECT trusted, superuser, relocatable, schema FROM pg_available_extension_versions WHERE name = 'distlock' AND installed;
-- it stays where it is
SELECT pg_temp.sqlstate('ALTER EXTENSION distlock SET SCHEMA public') AS moved,
	pg_temp.sqlstate('CREATE EXTENSION distlock') AS twice,
	pg_temp.sqlstate('DROP SCHEMA distlock') AS schema_dropped,
	pg_temp.sqlstate('DROP FUNCTION distlock.release(text, text)') AS function_dropped,
	pg_temp.sqlstate('DROP TABLE distlock.lock') AS table_dropped;
SET client_min_messages = warning;
-- dropped in the transaction that has used it
BEGIN;
SELECT distlock.acquire_with_token('job', 'tok', '1 h') IS NOT NULL AS acquired;
SELECT distlock.acquire_with_token('install new', 'tok', '1 h') IS NOT NULL AS acquired;
DROP EXTENSION distlock;
SELECT pg_temp.sqlstate($$SELECT distlock.release('job', 'tok')$$);
SELECT count(*) FROM pg_namespace WHERE nspname = 'distlock';
-- made again, used, rolled back, made again
SAVEPOINT s;
CREATE EXTENSION distlock;
SELECT distlock.is_held('job');
SELECT distlock.acquire_with_token('job', 'tok', '1 h') >= 1 AS acquired;
SELECT key FROM distlock.locks;
ROLLBACK TO s;
CREATE EXTENSION distlock;
SELECT distlock.is_held('job');
SELECT distlock.acquire_with_token('job', 'tok', '1 h') >= 1 AS acquired;
ROLLBACK;
SELECT distlock.is_held('job');
SELECT distlock.acquire_with_token('job', 'tok', '1 h') >= 1 AS acquired;
-- for good
DROP EXTENSION distlock;
SELECT count(*) FROM pg_namespace WHERE nspname = 'distlock';
CREATE EXTENSION distlock;
SELECT distlock.is_held('job');
SELECT distlock.acquire_with_token('job', 'tok', '1 h') >= 1 AS acquired;
SELECT key FROM distlock.locks;
-- a function that is no part of it finds no table when the extension is gone
CREATE FUNCTION pg_temp.is_held(text) RETURNS boolean LANGUAGE c AS '$libdir/distlock', 'distlock_is_held';
SELECT pg_temp.is_held('job');
DROP EXTENSION distlock;
SELECT pg_temp.is_held('job');
-- nor takes another table for it
CREATE SCHEMA distlock;
CREATE TABLE distlock.lock (LIKE pg_class);
SELECT pg_temp.is_held('job');
-- a schema of that name that is there already is not moved into
SELECT pg_temp.complaint('CREATE EXTENSION distlock');
SELECT count(*) FROM pg_extension WHERE extname = 'distlock';
SELECT relname FROM pg_class WHERE relnamespace = 'distlock'::regnamespace AND relkind <> 'c' ORDER BY 1;
SELECT count(*) FROM pg_proc WHERE pronamespace = 'distlock'::regnamespace;
DROP SCHEMA distlock CASCADE;
SELECT pg_temp.sqlstate('CREATE EXTENSION distlock SCHEMA public') AS elsewhere;
CREATE EXTENSION distlock;
SELECT pg_temp.is_held('job');
DROP FUNCTION pg_temp.is_held(text);
