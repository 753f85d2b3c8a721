-- Leave the end of the transaction to COMMIT PREPARED or ROLLBACK PREPARED.
\set key random(1, 4)
\set ttl random_exponential(1, 60, 3)
\set what random(1, 4)
BEGIN;
SELECT clock_timestamp() AS asked, coalesce(:schema.try_acquire('key :key', interval ':ttl ms', owner => 'prepared'), 'none') AS token, clock_timestamp() AS answered \gset
SELECT stress.note(':asked', ':answered', ':token') AS granted \gset
\if :granted
	SELECT stress.add_line('key :key', coalesce(:schema.fence('key :key', ':token'), 0));
	\if :what = 1
		SELECT :schema.try_release('key :key', ':token');
	\endif
	PREPARE TRANSACTION 'stress :client_id';
	\if :what = 2
		ROLLBACK PREPARED 'stress :client_id';
		SELECT stress.must_be(:schema.fence('key :key', ':token') IS NULL, 'held after ROLLBACK PREPARED');
	\else
		COMMIT PREPARED 'stress :client_id';
		SELECT :schema.try_release('key :key', ':token');
	\endif
\else
	COMMIT;
\endif
