-- Commands that drop what they stand on: their table, distlock itself.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
CREATE TABLE regress_work (n int);
SELECT distlock.do_exclusively('job', '1 min', 'INSERT INTO regress_work VALUES (1); DROP TABLE regress_work; CREATE TABLE regress_work (t text)');
SELECT pg_temp.sqlstate($$SELECT distlock.do_exclusively('job', '1 min', 'DROP TABLE distlock.lock')$$) AS drop_lock,
	pg_temp.sqlstate($$SELECT distlock.do_exclusively('job', '1 min', 'DROP FUNCTION distlock.do_exclusively(text, interval, text, interval, text)')$$) AS drop_function;
-- the extension, in a transaction that is rolled back and in one that is not
SET client_min_messages = warning;
BEGIN;
SELECT distlock.do_exclusively('job', '1 min', 'DROP EXTENSION distlock; INSERT INTO regress_work VALUES (2)');
ROLLBACK;
SELECT distlock.is_held('job');
BEGIN;
INSERT INTO regress_work VALUES ('before');
SELECT distlock.do_exclusively('job', '1 min', 'DROP EXTENSION distlock; INSERT INTO regress_work VALUES (3)');
COMMIT;
SELECT count(*) FROM pg_extension WHERE extname = 'distlock';
CREATE EXTENSION distlock;
SELECT distlock.do_exclusively('job', '1 min', 'DROP EXTENSION distlock CASCADE; CREATE EXTENSION distlock; SELECT distlock.is_held(''job'')');
SELECT distlock.is_held('job');
SELECT pg_temp.complaint($$SELECT distlock.do_exclusively('job', '1 min', 'DROP EXTENSION distlock; SELECT distlock.is_held(''job'')')$$);
SELECT pg_temp.complaint($$SELECT distlock.do_exclusively('job', '1 min', 'SELECT distlock.acquire(''job 2'', ''1 min''); DROP EXTENSION distlock; SELECT 1 / 0')$$);
-- under a lock of the session, which cannot then be released
CALL distlock.run_exclusively('job', '1 min', 'DROP EXTENSION distlock; INSERT INTO regress_work VALUES (4)');
SELECT distlock.is_held('job'), count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
CALL distlock.run_exclusively('job', '1 min', 'DO $do$ BEGIN DROP EXTENSION distlock; INSERT INTO regress_work VALUES (5); COMMIT; END $do$');
SELECT count(*) FROM pg_extension WHERE extname = 'distlock';
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
CREATE EXTENSION distlock;
TABLE regress_work;
SELECT distlock.do_exclusively('job', '1 min', 'DROP TABLE regress_work');
SELECT distlock.is_held('job'), distlock.current_fence() IS NULL AS no_fence;
