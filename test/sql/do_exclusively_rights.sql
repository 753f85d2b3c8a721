-- The command runs with the rights and the settings of the caller.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
CREATE ROLE regress_distlock_user;
CREATE SCHEMA regress_a;
CREATE SCHEMA regress_b;
GRANT USAGE ON SCHEMA regress_a, regress_b TO regress_distlock_user;
CREATE TABLE regress_a.t (n int);
CREATE TABLE regress_b.t (n int);
GRANT SELECT, INSERT ON regress_b.t TO regress_distlock_user;
SET ROLE regress_distlock_user;
SELECT pg_temp.sqlstate(format('SELECT distlock.do_exclusively(%L, ''1 min'', %L)', 'job: ' || command, command)) AS sqlstate, command
FROM (VALUES ('SELECT * FROM regress_a.t'), ('INSERT INTO regress_b.t VALUES (1)'), ('DELETE FROM regress_b.t'), ('TABLE distlock.lock'),
	('SELECT distlock.force_release(''job'')'), ('DROP EXTENSION distlock'), ('COPY regress_b.t TO PROGRAM ''true''')) c(command);
CALL distlock.run_exclusively('job', '1 min', 'SELECT * FROM regress_a.t');
CALL distlock.run_exclusively('job', '1 min', 'INSERT INTO regress_b.t VALUES (2)');
SELECT distlock.is_held('job');
-- current_user is the caller's; in a function of another's, that one's
SELECT distlock.do_exclusively('job', '1 min', 'INSERT INTO regress_b.t SELECT 3 WHERE current_user = ''regress_distlock_user''');
RESET ROLE;
CREATE FUNCTION regress_b.definer() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS
	$$SELECT distlock.do_exclusively('job', '1 min', 'INSERT INTO regress_a.t SELECT 1 WHERE current_user <> ''regress_distlock_user''')$$;
SET ROLE regress_distlock_user;
SELECT regress_b.definer();
RESET ROLE;
SELECT (SELECT count(*) FROM regress_a.t) AS a, (SELECT string_agg(n::text, ' ' ORDER BY n) FROM regress_b.t) AS b;
-- the search path of the caller
SET search_path = regress_b;
SELECT distlock.do_exclusively('job', '1 min', 'SELECT * FROM t');
SET search_path = regress_a, regress_b;
SELECT distlock.do_exclusively('job', '1 min', 'SELECT * FROM t');
CALL distlock.run_exclusively('job', '1 min', 'INSERT INTO t VALUES (2)');
SELECT count(*) FROM regress_a.t;
RESET search_path;
-- what the command sets stays set, or not, as ever
SELECT distlock.do_exclusively('job', '1 min', 'SET search_path = regress_b; SELECT * FROM t');
SHOW search_path;
RESET search_path;
BEGIN;
SELECT distlock.do_exclusively('job', '1 min', 'SET LOCAL search_path = regress_b; SELECT * FROM t');
SHOW search_path;
COMMIT;
SHOW search_path;
SET client_min_messages = warning;
DROP SCHEMA regress_a CASCADE;
DROP SCHEMA regress_b CASCADE;
DROP ROLE regress_distlock_user;
