-- Savepoints: a rollback takes back what came after, and no more.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
CREATE TEMP VIEW key_locks AS
	SELECT CASE (classid::bigint << 32) | objid::bigint
			WHEN distlock.key_id('a') THEN 'a' WHEN distlock.key_id('b') THEN 'b' ELSE 'other' END AS key, mode
	FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
BEGIN;
SELECT distlock.acquire_with_token('a', 'tok', '1 h') AS fence_a \gset
SAVEPOINT s1;
SELECT distlock.acquire_with_token('b', 'tok', '1 h') AS fence_b \gset
SELECT * FROM key_locks ORDER BY 1;
ROLLBACK TO s1;
SELECT * FROM key_locks ORDER BY 1;
SELECT distlock.is_held('a') AS a, distlock.is_held('b') AS b;
-- again, with a fence not seen before
SELECT distlock.acquire_with_token('b', 'tok', '1 h') > :fence_b AS new_fence;
RELEASE s1;
SELECT * FROM key_locks ORDER BY 1;
SAVEPOINT s2;
SELECT distlock.release('a', 'tok');
SELECT distlock.release('b', 'tok');
SELECT distlock.is_held('a') AS a, distlock.is_held('b') AS b;
SELECT distlock.acquire_with_token('a', 'second', '1 h') > :fence_a AS new_fence;
SAVEPOINT s3;
SELECT distlock.extend('a', 'second', '3 h') IS NOT NULL AS extended;
SELECT distlock.ttl('a', 'second') > '1 h' AS extended;
ROLLBACK TO s3;
SELECT distlock.ttl('a', 'second') < '1 h' AS as_before;
ROLLBACK TO s2;
SELECT distlock.fence('a', 'tok') = :fence_a AS held_again, distlock.is_held('b') AS b;
SELECT distlock.fence('a', 'second') IS NULL AS gone;
COMMIT;
SELECT distlock.fence('a', 'tok') = :fence_a AS a, distlock.is_held('b') AS b;
SELECT * FROM key_locks ORDER BY 1;
-- a failed statement within
BEGIN;
SAVEPOINT s;
SELECT distlock.release('a', 'tok');
SELECT distlock.release('a', 'tok');
ROLLBACK TO s;
SELECT distlock.release('a', 'tok');
COMMIT;
SELECT distlock.is_held('a');
-- deep nesting, every other level rolled back
BEGIN;
DO $$
BEGIN
	FOR i IN 1 .. 40 LOOP
		BEGIN
			PERFORM distlock.acquire_with_token('deep ' || i, 'tok', '1 h');
			IF i % 2 = 0 THEN
				RAISE EXCEPTION 'no';
			END IF;
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
	END LOOP;
END $$;
SELECT count(*) FROM key_locks;
COMMIT;
SELECT count(*) FROM distlock.locks WHERE key LIKE 'deep %';
SELECT distlock.release_all('tok');
