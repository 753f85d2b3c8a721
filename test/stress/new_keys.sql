-- A key that nobody has used before, and then everybody at once; the purge of
-- those of a moment ago.
\set ttl random_exponential(1, 30, 3)
\set wait greatest(0, random(-20, 20))
\set purge random(1, 5)
SELECT floor(extract(epoch FROM clock_timestamp()) * 20)::bigint AS moment \gset
SELECT clock_timestamp() AS asked, coalesce(:schema.try_acquire('moment :moment', interval ':ttl ms', interval ':wait ms', owner => 'new keys'), 'none') AS token, clock_timestamp() AS answered \gset
SELECT stress.note(':asked', ':answered', ':token') AS granted \gset
\if :granted
	SELECT :schema.try_release('moment :moment', ':token');
\endif
\if :purge = 1
	CALL :schema.purge();
\endif
