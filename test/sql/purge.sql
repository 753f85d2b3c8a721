-- CALL purge: what nobody needs goes, what is held stays.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT count(distlock.acquire_with_token('purge ' || i, 'tok', '1 h')) FROM generate_series(1, 100) i;
SELECT count(distlock.acquire_with_token('purge lapsed ' || i, 'lapsed', '1 ms')) FROM generate_series(1, 10) i;
SELECT count(*) FILTER (WHERE distlock.try_release('purge ' || i, 'tok')) FROM generate_series(1, 97) i;
SELECT max(fence) AS fence FROM distlock.lock \gset
SELECT pg_temp.await_expiry('purge lapsed 10');
-- rows that some snapshot still needs stay until the next time
DO $$
BEGIN
	FOR i IN 1 .. 1000 LOOP
		CALL distlock.purge();
		EXIT WHEN (SELECT count(*) = 3 FROM distlock.lock WHERE key LIKE 'purge %');
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
SELECT key, distlock.fence(key, 'tok') IS NOT NULL AS held FROM distlock.lock WHERE key LIKE 'purge %' ORDER BY key;
SELECT distlock.acquire_with_token('purge 1', 'tok', '1 min') > :fence AS fence_grows;
SELECT distlock.release_all('tok');
-- where it cannot be
BEGIN;
CALL distlock.purge();
ROLLBACK;
SELECT pg_temp.sqlstate('CALL distlock.purge()');
DO $$
BEGIN
	BEGIN
		CALL distlock.purge();
	EXCEPTION WHEN OTHERS THEN
		RAISE NOTICE '%', SQLSTATE;
	END;
END $$;
CREATE FUNCTION pg_temp.f() RETURNS void LANGUAGE plpgsql AS 'BEGIN CALL distlock.purge(); END';
SELECT pg_temp.complaint($$SELECT pg_temp.f()$$);
SET default_transaction_read_only = on;
CALL distlock.purge();
RESET default_transaction_read_only;
-- at any isolation level
SET default_transaction_isolation = 'serializable';
CALL distlock.purge();
RESET default_transaction_isolation;
-- without it, commits that add a key sweep up after others, but not what ended
-- only just: its key may be about to come again
SET distlock.durable = off;
SET synchronous_commit = off;
CREATE PROCEDURE pg_temp.add_keys(prefix text) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. 1000 LOOP
		PERFORM distlock.release(prefix || i, distlock.acquire(prefix || i, '1 min'));
		COMMIT;
	END LOOP;
END $$;
CALL pg_temp.add_keys('first ');
UPDATE distlock.lock SET expires_at = expires_at - interval '1 min' WHERE key LIKE 'first %';
CALL pg_temp.add_keys('second ');
SELECT count(*) FILTER (WHERE key LIKE 'first %') < 300 AS few, count(*) FILTER (WHERE key LIKE 'second %') > 500 AS new
FROM distlock.lock;
