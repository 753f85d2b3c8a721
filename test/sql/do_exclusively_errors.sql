-- Commands that cannot run under a lock, or fail there: clear errors, nothing left behind.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
CREATE TABLE regress_work (n int PRIMARY KEY CHECK (n > 0));
SELECT pg_temp.harmless(format('SELECT distlock.%s(''job'', ''1 min'', %L)', function, command)) AS sqlstate, function, command
FROM (VALUES (1, NULL), (2, ''), (3, ' ;; '), (4, '-- nothing'), (5, '/* nothing */;'),
	(6, 'COMMIT'), (7, 'INSERT INTO regress_work VALUES (1); COMMIT'), (8, 'ROLLBACK'), (9, 'BEGIN'), (10, 'START TRANSACTION'), (11, 'SAVEPOINT s'), (12, 'END'), (13, 'ABORT'),
	(14, 'ROLLBACK TO s'), (15, 'RELEASE s'), (16, 'PREPARE TRANSACTION ''regress'''), (17, 'COMMIT PREPARED ''regress'''),
	(18, 'COPY regress_work FROM STDIN'), (19, 'COPY regress_work TO STDOUT'),
	(20, 'VACUUM'), (21, 'CREATE DATABASE regress_distlock'), (22, 'DISCARD ALL'), (23, 'CREATE INDEX CONCURRENTLY ON regress_work (n)'),
	(24, 'nonsense'), (25, 'SELECT 1; nonsense'), (26, 'SELECT $1'), (27, 'SELECT * FROM regress_no_table'), (28, 'SELECT ''unfinished'),
	(29, 'INSERT INTO regress_work VALUES (1), (1)'), (30, 'INSERT INTO regress_work VALUES (2), (-1)'), (31, 'INSERT INTO regress_work VALUES (3); SELECT 1 / 0'),
	(32, 'DO $do$ BEGIN COMMIT; END $do$'), (33, 'DO $do$ BEGIN RAISE EXCEPTION USING ERRCODE = ''ZZ999''; END $do$'),
	(34, 'CALL distlock.purge()'), (35, 'CALL distlock.run_exclusively(''k'', ''1 min'', ''SELECT 1'')'),
	(36, 'SELECT distlock.do_exclusively(''job'', ''1 min'', ''SELECT 1'')'), (37, 'SELECT distlock.acquire(''job'', ''1 min'')'),
	(38, 'SELECT distlock.acquire(''job'', ''1 min'', scope => ''session'', wait => ''1 h'')'),
	(39, 'SET TRANSACTION ISOLATION LEVEL SERIALIZABLE'), (40, 'FETCH regress_no_cursor'), (41, 'EXECUTE regress_no_statement')) c(number, command),
	(VALUES ('do_exclusively'), ('try_do_exclusively')) f(function)
WHERE function = 'do_exclusively' OR number IN (1, 2, 6, 18, 24, 29, 36)
ORDER BY number, function;
TABLE regress_work;
SELECT distlock.is_held('job'), distlock.current_fence() IS NULL AS outside, count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
-- what the messages say
SELECT distlock.do_exclusively('job', '1 min', NULL);
SELECT distlock.do_exclusively('job', '1 min', '');
SELECT distlock.do_exclusively('job', '1 min', 'COMMIT');
SELECT distlock.do_exclusively('job', '1 min', 'COPY regress_work FROM STDIN');
SELECT distlock.do_exclusively('job', '1 min', 'SELECT 1; SELEC 2; SELECT 3');
SELECT distlock.do_exclusively('job', '1 min', 'SELECT ''é'';SELECT * FROM regress_no_table;SELECT 3');
SELECT distlock.do_exclusively('job', '1 min', 'INSERT INTO regress_work VALUES (1), (1)');
SELECT distlock.do_exclusively('job', '1 min', 'SELECT distlock.do_exclusively(''job'', ''1 min'', ''SELECT 1'')');
SELECT distlock.do_exclusively('job', '1 min', 'DO $do$ BEGIN RAISE EXCEPTION ''boom'' USING ERRCODE = ''ZZ999'', DETAIL = ''the detail'', HINT = ''the hint''; END $do$');
-- a caller that catches: the work and the lock are gone, the fence is forgotten
DO $$
DECLARE
	detail text;
	name text;
BEGIN
	PERFORM distlock.do_exclusively('outer', '1 min', 'INSERT INTO regress_work VALUES (10)');
	BEGIN
		PERFORM distlock.do_exclusively('job', '1 min', 'INSERT INTO regress_work VALUES (11); INSERT INTO regress_work VALUES (11)');
	EXCEPTION WHEN unique_violation THEN
		GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, name = CONSTRAINT_NAME;
		RAISE NOTICE '% %', detail, name;
	END;
	RAISE NOTICE 'outer %, job %, fence %', distlock.is_held('outer'), distlock.is_held('job'), distlock.current_fence();
	PERFORM distlock.do_exclusively('job', '1 min', 'INSERT INTO regress_work VALUES (12)');
END $$;
TABLE regress_work;
-- an error in the inner of two, caught in the outer
SELECT distlock.do_exclusively('outer', '1 min', $outer$
	DO $do$
	DECLARE
		fence bigint := distlock.current_fence();
	BEGIN
		BEGIN
			PERFORM distlock.do_exclusively('inner', '1 min', 'SELECT distlock.current_fence(); SELECT 1 / 0');
		EXCEPTION WHEN division_by_zero THEN
			RAISE NOTICE 'inner %, outer %, own fence again %', distlock.is_held('inner'), distlock.is_held('outer'), distlock.current_fence() = fence;
		END;
	END $do$
$outer$);
-- read-only
BEGIN READ ONLY;
SELECT pg_temp.harmless($$SELECT distlock.do_exclusively('job', '1 min', 'SELECT 1')$$) AS do,
	pg_temp.harmless($$SELECT distlock.try_do_exclusively('job', '1 min', 'SELECT 1')$$) AS try, distlock.current_fence() IS NULL AS outside;
ROLLBACK;
-- cancelled
SET statement_timeout = '500 ms';
SELECT distlock.do_exclusively('job', '1 min', 'INSERT INTO regress_work VALUES (20);SELECT pg_sleep(60)');
RESET statement_timeout;
SELECT distlock.is_held('job'), distlock.current_fence() IS NULL AS outside, count(*) FROM regress_work WHERE n = 20;
DROP TABLE regress_work;
