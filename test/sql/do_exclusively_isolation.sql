-- Commands under a lock at higher isolation levels: they see the work of the holder before, or raise 40001.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
CREATE TABLE regress_work (n int);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT distlock.do_exclusively('job', '1 min', 'INSERT INTO regress_work VALUES (1); SELECT * FROM regress_work');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) FROM regress_work;
SELECT distlock.do_exclusively('job', '1 min', 'INSERT INTO regress_work SELECT count(*) + 1 FROM regress_work');
COMMIT;
SELECT * FROM regress_work ORDER BY n;
-- a lease that ran out after the snapshot was taken
SELECT distlock.acquire_with_token('job', 'tok', '250 ms') IS NOT NULL AS acquired;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM regress_work;
SELECT pg_temp.await_expiry('job');
SELECT pg_temp.harmless($$SELECT distlock.do_exclusively('job', '1 min', 'DELETE FROM regress_work')$$) AS do,
	pg_temp.harmless($$SELECT distlock.try_do_exclusively('job', '1 min', 'DELETE FROM regress_work')$$) AS try,
	pg_temp.harmless($$SELECT distlock.acquire('job', '1 min', scope => 'transaction')$$) AS transaction,
	pg_temp.harmless($$SELECT distlock.acquire('job', '1 min', scope => 'session')$$) AS session;
ROLLBACK;
-- run_exclusively works with snapshots of its own
SET default_transaction_isolation = 'repeatable read';
CALL distlock.run_exclusively('job', '1 min', 'INSERT INTO regress_work SELECT count(*) + 1 FROM regress_work; INSERT INTO regress_work SELECT count(*) + 1 FROM regress_work');
RESET default_transaction_isolation;
SELECT * FROM regress_work ORDER BY n;
-- a transaction that takes its own lock again
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT distlock.acquire_with_token('job', 'tok', '1 min', scope => 'transaction') > 0 AS granted;
SELECT distlock.release('job', 'tok');
SELECT distlock.acquire_with_token('job', 'tok', '1 min', scope => 'session') > 0 AS granted;
SELECT distlock.release('job', 'tok');
SELECT distlock.do_exclusively('job', '1 min', 'INSERT INTO regress_work VALUES (10)');
COMMIT;
DROP TABLE regress_work;
