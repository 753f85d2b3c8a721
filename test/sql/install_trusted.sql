-- A user who may create in the database may install, and administer, the extension.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SET client_min_messages = warning;
CREATE ROLE regress_distlock_owner;
CREATE ROLE regress_distlock_user;
BEGIN;
DROP EXTENSION distlock;
SET LOCAL ROLE regress_distlock_owner;
SELECT pg_temp.sqlstate('CREATE EXTENSION distlock') AS without_privilege;
RESET ROLE;
SELECT format('GRANT CREATE ON DATABASE %I TO regress_distlock_owner', current_database()) \gexec
SET LOCAL ROLE regress_distlock_owner;
CREATE EXTENSION distlock;
SELECT pg_get_userbyid(extowner) AS extension_owner FROM pg_extension WHERE extname = 'distlock';
-- the objects belong to the superuser
SELECT count(*) FILTER (WHERE relowner <> 10) AS relations FROM pg_class WHERE relnamespace = 'distlock'::regnamespace;
SELECT count(*) FILTER (WHERE proowner <> 10) AS functions FROM pg_proc WHERE pronamespace = 'distlock'::regnamespace;
SELECT count(*) FILTER (WHERE typowner <> 10) AS types FROM pg_type WHERE typnamespace = 'distlock'::regnamespace;
SELECT nspowner <> 10 AS schema FROM pg_namespace WHERE nspname = 'distlock';
SELECT pg_temp.sqlstate(statement) AS sqlstate, statement
FROM (VALUES ('SELECT token FROM distlock.lock'), ('CREATE TABLE distlock.t ()'),
	('CREATE INDEX ON distlock.lock (owner)'), ($$SELECT setval('distlock.fence_seq', 1)$$),
	('ALTER FUNCTION distlock.release(text, text) OWNER TO regress_distlock_owner')) t(statement);
-- whoever installs it administers it
SELECT distlock.acquire_with_token('job', 'tok', '1 h') > 0 AS acquired;
SELECT distlock.force_release('job'), distlock.force_acquire('job', '1 h') IS NOT NULL AS acquired, distlock.advance_fence() > 0 AS advanced;
SELECT has_function_privilege('distlock.purge()', 'EXECUTE') AS may_purge;
SET LOCAL ROLE regress_distlock_user;
SELECT distlock.is_held('job'), pg_temp.sqlstate($$SELECT distlock.force_release('job')$$) AS sqlstate;
SET LOCAL ROLE regress_distlock_owner;
DROP EXTENSION distlock;
ROLLBACK;
SELECT distlock.is_held('job');
DROP ROLE regress_distlock_owner, regress_distlock_user;
