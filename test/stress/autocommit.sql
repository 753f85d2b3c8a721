-- Statements of their own: take the lock, perhaps keep it for longer or
-- shorter, give it back with the right token, with a wrong one, or walk away.
\set key random(1, 4)
\set ttl random_exponential(1, 150, 5)
\set wait greatest(0, random(-60, 60))
\set keep random(1, 6)
\set again random_exponential(1, 150, 5)
\set leave random(1, 10)
SELECT clock_timestamp() AS asked, coalesce(:schema.try_acquire('key :key', interval ':ttl ms', interval ':wait ms', owner => 'autocommit'), 'none') AS token, clock_timestamp() AS answered \gset
SELECT stress.note(':asked', ':answered', ':token') AS granted \gset
\if :granted
	\if :keep = 1
		SELECT :schema.try_extend('key :key', ':token', interval ':again ms');
	\elif :keep = 2
		SELECT :schema.try_ensure('key :key', ':token', interval ':again ms');
	\elif :keep = 3
		\sleep 2 ms
		SELECT :schema.try_extend('key :key', ':token', interval '1 ms');
	\endif
	\if :leave = 1
		\sleep 1 ms
	\elif :leave = 2
		SELECT stress.must_be(NOT :schema.try_release('key :key', 'wrong'), 'a wrong token released');
		SELECT stress.must_be(:schema.try_extend('key :key', 'wrong', '1 hour') IS NULL, 'a wrong token extended');
		SELECT :schema.try_release('key :key', ':token');
	\else
		SELECT :schema.try_release('key :key', ':token');
		SELECT stress.must_be(NOT :schema.try_release('key :key', ':token'), 'released twice');
		SELECT stress.must_be(:schema.try_ensure('key :key', ':token', '1 hour') IS NULL, 'extended after release');
	\endif
\endif
