-- A purge, too, locks no more keys in a transaction than it may: the rest is left for
-- the next one.
CALL distlock.purge();
SELECT count(distlock.acquire_with_token('job ' || i, 'tok', '1 min')) FROM generate_series(1, 3) i;
SELECT distlock.release_all('tok') AS released;
SET distlock.max_keys_per_transaction = 2;
CALL distlock.purge();
SELECT count(*) FROM distlock.lock WHERE key LIKE 'job %';
RESET distlock.max_keys_per_transaction;
CALL distlock.purge();
SELECT count(*) FROM distlock.lock WHERE key LIKE 'job %';
