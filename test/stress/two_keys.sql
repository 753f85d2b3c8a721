-- Two locks in any order: deadlocks are to be expected.
\set first random(1, 4)
\set second random(1, 4)
BEGIN;
SELECT clock_timestamp() AS asked, coalesce(:schema.try_acquire('key :first', '50 ms', '100 ms', owner => 'two keys'), 'none') AS token, clock_timestamp() AS answered \gset
SELECT stress.note(':asked', ':answered', ':token') AS granted \gset
\if :granted
	SELECT clock_timestamp() AS asked, coalesce(:schema.try_acquire('key :second', '50 ms', '100 ms', owner => 'two keys'), 'none') AS token2, clock_timestamp() AS answered \gset
	SELECT stress.note(':asked', ':answered', ':token2') AS granted \gset
	SELECT :schema.try_release('key :first', ':token');
	\if :granted
		SELECT :schema.try_release('key :second', ':token2');
	\endif
\endif
COMMIT;
