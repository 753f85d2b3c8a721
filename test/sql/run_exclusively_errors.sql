-- Where run_exclusively cannot run, and commands that it refuses.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
CREATE TABLE regress_work (n int);
CREATE TEMP VIEW state AS
	SELECT distlock.is_held('job') AS held, (SELECT count(*) FROM distlock.locks) AS shown, distlock.current_fence() IS NULL AS no_fence,
		(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks, (SELECT count(*) FROM regress_work) AS work;
-- in a transaction block, in a function, in a block that catches
BEGIN;
CALL distlock.run_exclusively('job', '1 min', 'INSERT INTO regress_work VALUES (1)');
ROLLBACK;
SELECT pg_temp.harmless($$CALL distlock.run_exclusively('job', '1 min', 'INSERT INTO regress_work VALUES (1)')$$) AS in_a_function;
DO $$ BEGIN
	CALL distlock.run_exclusively('job', '1 min', 'INSERT INTO regress_work VALUES (1)');
EXCEPTION WHEN division_by_zero THEN
	NULL;
END $$;
DO $$ BEGIN
	CALL distlock.run_exclusively('job', '1 min', 'INSERT INTO regress_work VALUES (1)');
EXCEPTION WHEN invalid_transaction_termination THEN
	RAISE NOTICE '%, held %', SQLERRM, distlock.is_held('job');
END $$;
TABLE state;
SET default_transaction_read_only = on;
CALL distlock.run_exclusively('job', '1 min', 'SELECT 1');
RESET default_transaction_read_only;
-- commands
CALL distlock.run_exclusively('job', '1 min', NULL);
CALL distlock.run_exclusively('job', '1 min', ' ; -- nothing');
CALL distlock.run_exclusively('job', '1 min', 'COMMIT');
CALL distlock.run_exclusively('job', '1 min', 'INSERT INTO regress_work VALUES (1); ROLLBACK; SELECT 1');
CALL distlock.run_exclusively('job', '1 min', 'BEGIN');
CALL distlock.run_exclusively('job', '1 min', 'SAVEPOINT s');
CALL distlock.run_exclusively('job', '1 min', 'COPY regress_work FROM STDIN');
CALL distlock.run_exclusively('job', '1 min', 'VACUUM regress_work');
CALL distlock.run_exclusively('job', '1 min', 'SELECT 1; SELEC 2');
CALL distlock.run_exclusively('job', '1 min', 'INSERT INTO regress_work VALUES (1);SELECT * FROM regress_no_table');
CALL distlock.run_exclusively('job', '1 min', 'CALL regress_no_procedure()');
CALL distlock.run_exclusively('job', '1 min', 'DO $do$ BEGIN COMMIT; PERFORM 1 / 0; END $do$');
TABLE state;
-- a constraint that is checked at the commit: of the command, of the caller before it
ALTER TABLE regress_work ADD UNIQUE (n) DEFERRABLE INITIALLY DEFERRED;
CALL distlock.run_exclusively('job', '1 min', 'INSERT INTO regress_work VALUES (1), (1)');
TABLE state;
DO $$ BEGIN
	INSERT INTO regress_work VALUES (1), (1);
	CALL distlock.run_exclusively('job', '1 min', 'SELECT 1');
END $$;
-- in a loop over a query that must not be interrupted by a commit, and over one that may
DO $$ DECLARE
	i int;
BEGIN
	FOR i IN INSERT INTO regress_work VALUES (1), (2) RETURNING n LOOP
		CALL distlock.run_exclusively('job', '1 min', 'SELECT 1');
	END LOOP;
END $$;
TABLE state;
DO $$ DECLARE
	i int;
BEGIN
	FOR i IN SELECT generate_series(1, 3) LOOP
		CALL distlock.run_exclusively('job', '1 min', format('INSERT INTO regress_work VALUES (%s)', i));
	END LOOP;
	DELETE FROM regress_work;
END $$;
TABLE state;
-- busy: nothing is run
SELECT distlock.acquire_with_token('job', 'tok', '1 h', owner => 'somebody') IS NOT NULL AS acquired;
\set VERBOSITY terse
CALL distlock.run_exclusively('job', '1 min', 'INSERT INTO regress_work VALUES (1)');
CALL distlock.run_exclusively('job', '1 min', 'INSERT INTO regress_work VALUES (1)', wait => '10 ms');
\set VERBOSITY default
SELECT distlock.release('job', 'tok');
SELECT distlock.acquire_with_token('job', 'tok', '1 h', scope => 'session') IS NOT NULL AS acquired;
CALL distlock.run_exclusively('job', '1 min', 'INSERT INTO regress_work VALUES (1)', wait => '1 h');
SELECT distlock.release('job', 'tok');
TABLE state;
-- the lock is lost while the command runs: what it has not committed is undone
CALL distlock.run_exclusively('job', '1 min', 'INSERT INTO regress_work VALUES (1); SELECT distlock.force_release(''job'')');
CALL distlock.run_exclusively('job', '1 min', 'INSERT INTO regress_work VALUES (1); SELECT pg_advisory_unlock_all()');
TABLE state;
CALL distlock.run_exclusively('job', '1 min', 'DO $do$ BEGIN INSERT INTO regress_work VALUES (1); COMMIT; PERFORM distlock.force_release(''job''); INSERT INTO regress_work VALUES (2); END $do$');
TABLE state;
TABLE regress_work;
DROP VIEW state;
DROP TABLE regress_work;
