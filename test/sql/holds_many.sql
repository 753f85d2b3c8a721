-- What a transaction holds, when it is much: who is asked for is found, counted and
-- let go, and nobody else.
SET distlock.max_keys_per_transaction = 500;
BEGIN;
SELECT count(distlock.acquire_with_token('key ' || i, 'tok ' || i % 2, '1 h', scope => 'transaction')) FROM generate_series(1, 400) i;
SELECT count(*) FILTER (WHERE distlock.is_held('key ' || i)) AS held,
	count(*) FILTER (WHERE distlock.ttl('key ' || i, 'tok ' || i % 2) = '1 h') AS own,
	count(*) FILTER (WHERE distlock.ttl('key ' || i, 'tok ' || (i + 1) % 2) IS NULL) AS not_another,
	count(*) FILTER (WHERE distlock.is_held('other ' || i)) AS others
FROM generate_series(1, 400) i;
-- what is released counts no more, a guard does not count
SELECT distlock.acquire_with_token('lease', 'tok 1', '1 h') IS NOT NULL AS acquired, distlock.guard('lease', 'tok 1') > 0 AS guarded;
SELECT count(*) FILTER (WHERE distlock.try_release('key ' || i, 'tok 1')) AS released,
	count(*) FILTER (WHERE distlock.try_release('key ' || i, 'tok 1')) AS again
FROM generate_series(1, 100) i;
SELECT distlock.extend_all('tok 1', '2 h') AS extended, distlock.release_all('tok 1') AS released, distlock.release_all('tok 1') AS again;
SELECT count(*) FILTER (WHERE distlock.is_held('key ' || i)) AS held FROM generate_series(1, 400) i;
-- a row that is changed by a release lets go of guards of that key only
SELECT count(distlock.acquire_with_token('guarded ' || i, 'tok', '1 h')) FROM generate_series(1, 60) i;
SELECT count(distlock.guard('guarded ' || i, 'tok')) FROM generate_series(1, 60) i;
SELECT count(distlock.release('guarded ' || i, 'tok')) FROM generate_series(1, 60, 2) i;
SELECT count(*) FILTER (WHERE distlock.is_held('guarded ' || i)) AS held FROM generate_series(1, 60) i;
ROLLBACK;
SELECT count(*) FROM distlock.locks;
-- keys are counted at any depth of savepoints
SET distlock.max_keys_per_transaction = 45;
CREATE FUNCTION pg_temp.descend(depth int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	IF depth = 0 THEN
		RETURN 0;
	END IF;
	PERFORM distlock.acquire_with_token('depth ' || depth, 'tok', '1 h');
	RETURN 1 + pg_temp.descend(depth - 1);
EXCEPTION WHEN program_limit_exceeded THEN
	RETURN -1000;
END $$;
SELECT pg_temp.descend(40) AS within;
SELECT distlock.release_all('tok') AS released;
SELECT pg_temp.descend(50) AS beyond;
SELECT distlock.release_all('tok') AS released;
RESET distlock.max_keys_per_transaction;
