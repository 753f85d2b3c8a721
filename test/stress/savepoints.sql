-- Undo an acquire, a release, an extend by going back to a savepoint.
\set key random(1, 4)
\set ttl random_exponential(1, 60, 3)
\set wait greatest(0, random(-20, 20))
\set what random(1, 4)
BEGIN;
SAVEPOINT before;
SELECT clock_timestamp() AS asked, coalesce(:schema.try_acquire('key :key', interval ':ttl ms', interval ':wait ms', owner => 'savepoints'), 'none') AS token, clock_timestamp() AS answered \gset
SELECT stress.note(':asked', ':answered', ':token') AS granted \gset
\if :granted
	\if :what = 1
		ROLLBACK TO before;
		SELECT stress.must_be(:schema.fence('key :key', ':token') IS NULL, 'held after ROLLBACK TO');
		SELECT coalesce(:schema.try_acquire('key :key', interval ':ttl ms', owner => 'savepoints'), 'none') AS token \gset
	\elif :what = 2
		SAVEPOINT held;
		SELECT :schema.try_release('key :key', ':token');
		ROLLBACK TO held;
		SELECT :schema.try_extend('key :key', ':token', interval ':ttl ms');
	\elif :what = 3
		SAVEPOINT held;
		SELECT :schema.try_extend('key :key', ':token', '1 hour');
		ROLLBACK TO held;
		RELEASE before;
	\else
		RELEASE before;
		SAVEPOINT released;
		SELECT :schema.try_release('key :key', ':token');
		SELECT coalesce(:schema.try_acquire('key :key', interval ':ttl ms', owner => 'savepoints'), 'none') AS token \gset
		RELEASE released;
	\endif
	SELECT :schema.try_release('key :key', ':token');
\endif
COMMIT;
