-- Take the lock, work, perhaps give it back, all in one transaction at any
-- isolation level.
\set key random(1, 4)
\set ttl random_exponential(1, 100, 3)
\set wait greatest(0, random(-30, 30))
\set level random(1, 3)
\set leave random(1, 10)
BEGIN;
\if :level = 1
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
\elif :level = 2
	SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
\else
	SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;
\endif
SELECT clock_timestamp() AS asked, coalesce(:schema.try_acquire('key :key', interval ':ttl ms', interval ':wait ms', owner => 'one transaction'), 'none') AS token, clock_timestamp() AS answered \gset
SELECT stress.note(':asked', ':answered', ':token') AS granted \gset
\if :granted
	SELECT stress.add_line('key :key', coalesce(:schema.fence('key :key', ':token'), 0));
	\if :leave > 3
		SELECT :schema.try_release('key :key', ':token');
	\elif :leave = 3
		SELECT :schema.try_extend('key :key', ':token', '5 ms');
	\endif
\endif
\if :leave = 1
	ROLLBACK;
\else
	COMMIT;
\endif
