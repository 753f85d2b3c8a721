-- Commands under a lock that ends with the transaction: results, rows, fences.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
CREATE TABLE regress_work (n int PRIMARY KEY, fence bigint);
-- rows are summed over the statements; what one has done the next one sees
SELECT distlock.do_exclusively('job', '1 min', 'INSERT INTO regress_work SELECT generate_series(1, 10)');
SELECT distlock.do_exclusively('job', '1 min',
	'UPDATE regress_work SET fence = 1 WHERE n > 7; DELETE FROM regress_work WHERE fence = 1; INSERT INTO regress_work SELECT count(*) + 100 FROM regress_work');
SELECT max(n), count(*) FROM regress_work;
SELECT distlock.do_exclusively('job', '1 min', 'SELECT 1') AS one, distlock.do_exclusively('job 2', '1 min', 'SELECT 1; SELECT 2;;  ; -- end') AS two,
	distlock.do_exclusively('job 3', '1 min', 'SELECT 1 WHERE false') AS none,
	distlock.do_exclusively('job 4', '1 min', 'INSERT INTO regress_work VALUES (1000), (1001) RETURNING n') AS returning;
SELECT distlock.do_exclusively('job', '1 min', 'SELECT * FROM generate_series(1, 100000)') AS many;
-- the quotes of the command are its own
SELECT distlock.do_exclusively('job', '1 min', $$INSERT INTO regress_work SELECT length('a;b''c') + 2000; INSERT INTO regress_work SELECT length(E'é;\'$') + 3000$$);
SELECT n FROM regress_work WHERE n > 2000;
-- DDL and what it makes can be used by the next statement; utility commands
SELECT distlock.do_exclusively('job', '1 min', 'CREATE TABLE regress_new (a int); INSERT INTO regress_new VALUES (1), (2); ALTER TABLE regress_new ADD b int DEFAULT 5; CREATE INDEX ON regress_new (b); ANALYZE regress_new');
SELECT distlock.do_exclusively('job', '1 min', 'CREATE TEMP TABLE regress_copy AS TABLE regress_new') AS ctas,
	distlock.do_exclusively('job 2', '1 min', 'TRUNCATE regress_new; DROP TABLE regress_new') AS dropped;
SELECT to_regclass('regress_new'), (SELECT sum(b) FROM regress_copy);
SELECT distlock.do_exclusively('job', '1 min', 'SET LOCAL distlock.durable = off; LOCK TABLE regress_work; DO $do$ BEGIN INSERT INTO regress_work VALUES (4000); END $do$; LISTEN regress_channel; UNLISTEN *');
-- it is part of the transaction
BEGIN;
SELECT distlock.do_exclusively('job', '1 min', 'DELETE FROM regress_work');
SELECT distlock.is_held('job'), count(*) FROM regress_work;
ROLLBACK;
SELECT distlock.is_held('job'), count(*) > 0 AS rows FROM regress_work;
-- its fence, inside and outside
SELECT distlock.current_fence() IS NULL AS outside;
SELECT distlock.do_exclusively('job', '1 min', 'INSERT INTO regress_work VALUES (5001, distlock.current_fence()), (5002, distlock.current_fence())');
SELECT distlock.do_exclusively('job', '1 min', 'INSERT INTO regress_work VALUES (5003, distlock.current_fence())');
SELECT a.fence > 0 AS fence, a.fence = b.fence AS same, c.fence > b.fence AS greater
FROM regress_work a, regress_work b, regress_work c WHERE a.n = 5001 AND b.n = 5002 AND c.n = 5003;
SELECT distlock.acquire_with_token('job', 'tok', '1 min') > fence AS greater_still FROM regress_work WHERE n = 5003;
SELECT distlock.release('job', 'tok');
-- nested: another key, each with its own fence
SELECT distlock.do_exclusively('outer', '1 min', $outer$
	INSERT INTO regress_work VALUES (6001, distlock.current_fence());
	SELECT distlock.do_exclusively('inner', '1 min', 'INSERT INTO regress_work VALUES (6002, distlock.current_fence())');
	INSERT INTO regress_work VALUES (6003, distlock.current_fence());
	INSERT INTO regress_work SELECT 6004 WHERE distlock.is_held('outer') AND distlock.is_held('inner');
$outer$);
SELECT distlock.current_fence() IS NULL AS outside;
SELECT o.fence = p.fence AS outer, i.fence <> o.fence AS inner, (SELECT count(*) FROM regress_work WHERE n = 6004) AS held
FROM regress_work o, regress_work i, regress_work p WHERE o.n = 6001 AND i.n = 6002 AND p.n = 6003;
-- who may wait has nobody to wait for; the ttl is only checked
SELECT distlock.do_exclusively('job', '1 ms', 'SELECT pg_sleep(0.01)', wait => '1 h', owner => 'me');
-- when it is busy
SELECT distlock.acquire_with_token('job', 'tok', '1 h', owner => 'somebody') IS NOT NULL AS acquired;
SELECT pg_temp.complaint($$SELECT distlock.do_exclusively('job', '1 min', 'DELETE FROM regress_work')$$);
SELECT distlock.try_do_exclusively('job', '1 min', 'DELETE FROM regress_work') IS NULL AS refused,
	distlock.try_do_exclusively('job', '1 min', 'DELETE FROM regress_work', wait => '10 ms') IS NULL AS after_a_wait;
SELECT count(*) > 0 AS nothing_run FROM regress_work;
SELECT distlock.release('job', 'tok');
SELECT distlock.try_do_exclusively('job', '1 min', 'DELETE FROM regress_work') > 0 AS deleted;
SELECT count(*) FROM regress_work;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
DROP TABLE regress_work;
