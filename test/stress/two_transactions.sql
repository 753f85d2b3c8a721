-- Take the lock in one transaction, keep it and give it back in another that
-- may be rolled back.
\set key random(1, 4)
\set ttl random_exponential(1, 80, 3)
\set wait greatest(0, random(-60, 60))
\set leave random(1, 4)
BEGIN;
SELECT clock_timestamp() AS asked, coalesce(:schema.try_acquire('key :key', interval ':ttl ms', interval ':wait ms', owner => 'two transactions'), 'none') AS token, clock_timestamp() AS answered \gset
SELECT stress.note(':asked', ':answered', ':token') AS granted \gset
COMMIT;
\if :granted
	BEGIN ISOLATION LEVEL REPEATABLE READ;
	SELECT :schema.try_extend('key :key', ':token', interval ':ttl ms');
	SELECT :schema.try_release('key :key', ':token');
	\if :leave = 1
		ROLLBACK;
		SELECT :schema.try_release('key :key', ':token');
	\else
		COMMIT;
	\endif
\endif
