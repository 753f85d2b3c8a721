-- Commands in transactions of their own, under a lock that everybody sees.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
CREATE TABLE regress_chunks (n int, held boolean, fence bigint, xid xid8 DEFAULT pg_current_xact_id());
CREATE TEMP VIEW state AS
	SELECT distlock.is_held('job') AS held, (SELECT count(*) FROM distlock.locks) AS shown, distlock.current_fence() IS NULL AS no_fence,
		(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks,
		(SELECT string_agg(n::text, ' ' ORDER BY n) FROM regress_chunks) AS chunks;
CREATE PROCEDURE regress_work(first int, last int, fail_at int DEFAULT NULL) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN first .. last LOOP
		INSERT INTO regress_chunks VALUES (i, distlock.is_held('job'), distlock.current_fence());
		IF i = fail_at THEN
			RAISE EXCEPTION 'chunk % failed', i USING ERRCODE = 'ZZ999', DETAIL = 'the detail', HINT = 'the hint';
		END IF;
		COMMIT;
	END LOOP;
END $$;
-- a procedure that commits
CALL distlock.run_exclusively('job', '1 min', 'CALL regress_work(1, 3)', owner => 'me');
SELECT count(DISTINCT xid) AS transactions, count(DISTINCT fence) AS fences, bool_and(held) AS held FROM regress_chunks;
TABLE state;
-- the lock is in the table, in the words of the caller
CREATE TEMP TABLE seen (key text, scope text, owner text, own_pid boolean, own_fence boolean);
CALL distlock.run_exclusively('job', '1 min', 'INSERT INTO seen SELECT key, scope, owner, pid = pg_backend_pid(), fence = distlock.current_fence() FROM distlock.locks', '0', 'me');
TABLE seen;
-- a chunk that fails: the ones before stay, the error arrives as it is
CALL distlock.run_exclusively('job', '1 min', 'CALL regress_work(4, 9, 6)');
TABLE state;
-- several statements, some of which commit; DO blocks
CALL distlock.run_exclusively('job', '1 min', $$INSERT INTO regress_chunks VALUES (6); CALL regress_work(7, 7); INSERT INTO regress_chunks VALUES (8);
	DO $do$ BEGIN INSERT INTO regress_chunks VALUES (9); COMMIT; INSERT INTO regress_chunks VALUES (10); END $do$ $$);
TABLE state;
-- plain statements are one transaction
CALL distlock.run_exclusively('job', '1 min', 'INSERT INTO regress_chunks VALUES (11);SELECT 1 / 0');
CALL distlock.run_exclusively('job', '1 min', 'INSERT INTO regress_chunks VALUES (11); CREATE TEMP TABLE regress_temp AS TABLE regress_chunks; SELECT * FROM regress_temp; DROP TABLE regress_temp');
TABLE state;
-- ROLLBACK in a block undoes work, not the lock
CALL distlock.run_exclusively('job', '1 min', $$DO $do$ BEGIN
	INSERT INTO regress_chunks VALUES (12);
	ROLLBACK;
	INSERT INTO regress_chunks VALUES (13, distlock.is_held('job'), distlock.current_fence());
END $do$ $$);
SELECT n, held, fence > 0 AS fence FROM regress_chunks WHERE n >= 12;
TABLE state;
-- each run has a fence of its own
CALL distlock.run_exclusively('job', '1 min', 'CALL regress_work(14, 14)');
SELECT count(DISTINCT fence) AS fences, bool_and(fence > 0) AS positive FROM regress_chunks WHERE n IN (1, 4, 7, 14);
-- cancelled: by statement_timeout
SET statement_timeout = '500 ms';
CALL distlock.run_exclusively('job', '1 min', 'SELECT pg_sleep(60)');
RESET statement_timeout;
TABLE state;
-- nested: another key, the same key
CALL distlock.run_exclusively('job', '1 min', $$CALL distlock.run_exclusively('job 2', '1 min', 'CALL regress_work(16, 17)')$$);
SELECT count(DISTINCT fence) AS fences, bool_and(held) AS held FROM regress_chunks WHERE n >= 16;
CALL distlock.run_exclusively('job', '1 min', $$CALL distlock.run_exclusively('job', '1 min', 'CALL regress_work(18, 18)', wait => '1 h')$$);
TABLE state;
-- the inner command fails, with an outer one that has committed work
CALL distlock.run_exclusively('job', '1 min', $$CALL regress_work(18, 18);CALL distlock.run_exclusively('job 2', '1 min', 'CALL regress_work(19, 21, 20)')$$);
TABLE state;
-- do_exclusively within
CALL distlock.run_exclusively('job', '1 min', $$SELECT distlock.do_exclusively('job 2', '1 min', 'INSERT INTO regress_chunks VALUES (21)')$$);
CALL distlock.run_exclusively('job', '1 min', $$SELECT distlock.do_exclusively('job', '1 min', 'SELECT 1')$$);
TABLE state;
-- called from a block and from a procedure
DO $$ BEGIN
	CALL distlock.run_exclusively('job', '1 min', 'CALL regress_work(22, 23)');
	RAISE NOTICE 'held %', distlock.is_held('job');
END $$;
CREATE PROCEDURE regress_caller() LANGUAGE plpgsql AS $$ BEGIN CALL distlock.run_exclusively('job', '1 min', 'CALL regress_work(24, 25, 25)'); END $$;
CALL regress_caller();
TABLE state;
DROP PROCEDURE regress_work(int, int, int), regress_caller();
DROP VIEW state;
DROP TABLE regress_chunks;
