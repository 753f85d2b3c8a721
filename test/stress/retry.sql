-- Try again now and then instead of standing in the queue.
\set key random(1, 4)
\set ttl random_exponential(1, 60, 3)
\set what random(1, 3)
\if :what = 1
	SELECT clock_timestamp() AS asked, coalesce(:schema.try_acquire('key :key', interval ':ttl ms', owner => 'retry', retry => distlock.limit_retry(distlock.linear_backoff('3 ms'), 4)), 'none') AS token, clock_timestamp() AS answered \gset
\elif :what = 2
	SELECT clock_timestamp() AS asked, coalesce(:schema.try_acquire('key :key', interval ':ttl ms', '25 ms', owner => 'retry', retry => distlock.exponential_backoff('1 ms', '10 ms')), 'none') AS token, clock_timestamp() AS answered \gset
\else
	BEGIN;
	SELECT clock_timestamp() AS asked, coalesce(:schema.try_acquire('key :key', interval ':ttl ms', '10 ms', owner => 'retry', retry => distlock.linear_backoff('1 ms')), 'none') AS token, clock_timestamp() AS answered \gset
	COMMIT;
\endif
SELECT stress.note(':asked', ':answered', ':token') AS granted \gset
\if :granted
	SELECT :schema.try_release('key :key', ':token');
\endif
