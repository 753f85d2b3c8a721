-- Several calls in one statement, and calls in all places of a statement.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.acquire_with_token('a', 'tok', '1 min') < distlock.acquire_with_token('b', 'tok', '1 min') AS in_order,
	distlock.try_acquire('a', '1 min') IS NULL AS a_held, distlock.try_acquire('b', '1 min') IS NULL AS b_held;
SELECT distlock.release('a', 'tok'), distlock.try_release('a', 'tok') AS again,
	distlock.acquire_with_token('a', 'other', '1 min') IS NOT NULL AS acquired, distlock.is_held('a');
SELECT distlock.release_all('tok') AS tok, distlock.release_all('other') AS other;
-- one key, many rows
SELECT i, distlock.try_acquire('a', '1 min') IS NOT NULL AS granted FROM generate_series(1, 3) i;
SELECT distlock.force_release('a');
-- in FROM, and by "(f()).*", which calls f once for each column of the result
SELECT (distlock.limit_retry(distlock.linear_backoff('1 s'), 3)).*;
CREATE FUNCTION pg_temp.both(key text, OUT first bigint, OUT second bigint)
	LANGUAGE sql RETURN (distlock.acquire_with_token(key, 'tok', '1 min'), distlock.acquire_with_token(key, 'tok', '1 min'));
SELECT first = second AS same FROM (SELECT (pg_temp.both('a')).*) b;
SELECT count(*) FROM distlock.acquire_with_token('a', 'tok', '1 min');
SELECT count(*) FROM generate_series(1, 5) i, LATERAL distlock.try_acquire('from ' || i, '1 min') t;
SELECT distlock.release('a', 'tok');
SELECT count(*) FILTER (WHERE distlock.force_release('from ' || i)) FROM generate_series(1, 5) i;
-- common table expressions, conditions, defaults of a table, RETURNING
WITH w AS MATERIALIZED (SELECT distlock.try_acquire('a', '1 min') AS t)
SELECT t IS NOT NULL AS granted, distlock.release('a', t) FROM w;
CREATE TEMP TABLE work (id int, token text DEFAULT distlock.acquire('default', '1 min'));
INSERT INTO work (id) VALUES (1);
SELECT pg_temp.complaint('INSERT INTO work (id) VALUES (2)');
SELECT count(*), distlock.is_held('default') FROM work;
UPDATE work SET id = 3 RETURNING distlock.try_release('default', token) AS released;
INSERT INTO work VALUES (4, 'x') RETURNING distlock.try_acquire('returning', '1 min') IS NOT NULL AS granted;
DELETE FROM work WHERE distlock.force_release('returning') RETURNING id;
SELECT distlock.is_held('returning');
-- a cursor, fetched from and rolled back
BEGIN;
DECLARE c CURSOR FOR SELECT distlock.acquire_with_token('cursor ' || i, 'tok', '1 min') IS NOT NULL AS granted FROM generate_series(1, 3) i;
FETCH 1 FROM c;
SAVEPOINT s;
FETCH 1 FROM c;
SELECT count(*) FROM distlock.locks WHERE key LIKE 'cursor %';
ROLLBACK TO s;
SELECT count(*) FROM distlock.locks WHERE key LIKE 'cursor %';
CLOSE c;
SELECT count(*) FROM distlock.locks WHERE key LIKE 'cursor %';
COMMIT;
SELECT distlock.release_all('tok');
-- a cursor that is run when its transaction commits
BEGIN;
DECLARE c CURSOR WITH HOLD FOR SELECT distlock.acquire_with_token('hold', 'tok', '1 min') IS NOT NULL AS granted;
COMMIT;
SELECT distlock.is_held('hold');
FETCH ALL FROM c;
CLOSE c;
SELECT distlock.release('hold', 'tok');
-- COPY, EXPLAIN, PREPARE
COPY (SELECT distlock.acquire_with_token('copy', 'tok', '1 min') IS NOT NULL) TO STDOUT;
EXPLAIN (COSTS OFF) SELECT distlock.release('copy', 'tok');
SELECT distlock.is_held('copy');
PREPARE release (text, text) AS SELECT distlock.release($1, $2);
EXECUTE release('copy', 'tok');
EXECUTE release('copy', 'tok');
DEALLOCATE release;
