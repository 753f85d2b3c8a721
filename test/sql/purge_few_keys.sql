-- A purge, too, locks no more keys in a transaction than it may: the rest is left for
-- the next one.
-- until an old snapshot of somebody else, if there is one, is gone
CREATE PROCEDURE pg_temp.purge_all() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. 600 LOOP
		CALL distlock.purge();
		EXIT WHEN NOT EXISTS (SELECT FROM distlock.lock WHERE token IS NULL);
		COMMIT;
		PERFORM pg_sleep(0.1);
	END LOOP;
END $$;
CALL pg_temp.purge_all();
SELECT count(distlock.acquire_with_token('job ' || i, 'tok', '1 min')) FROM generate_series(1, 100) i;
SELECT distlock.release_all('tok') AS released;
SET distlock.max_keys_per_transaction = 2;
-- rows are deleted by some pages at a time, each of which has several
CALL distlock.purge();
SELECT count(*) > 0 AS some_left FROM distlock.lock WHERE key LIKE 'job %';
RESET distlock.max_keys_per_transaction;
CALL pg_temp.purge_all();
SELECT count(*) FROM distlock.lock WHERE key LIKE 'job %';
