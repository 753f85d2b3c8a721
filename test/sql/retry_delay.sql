-- Retry strategies: the times at which they try again.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SET intervalstyle = postgres;
SELECT n, distlock.retry_delay(distlock.linear_backoff('50 ms'), n) AS linear,
	distlock.retry_delay(distlock.exponential_backoff('10 ms', '300 ms'), n) AS exponential,
	distlock.retry_delay(distlock.limit_retry(distlock.exponential_backoff('1 ms', '24 h'), 6), n) AS limited
FROM generate_series(1, 10) n;
-- very late retries
SELECT n, distlock.retry_delay(distlock.linear_backoff('50 ms'), n) AS linear,
	distlock.retry_delay(distlock.exponential_backoff('1 ms', '1 day'), n) AS exponential
FROM (VALUES (24), (25), (26), (27), (61), (62), (63), (64), (1000), (2147483647)) v(n);
-- limits
SELECT n, distlock.retry_delay(distlock.limit_retry(distlock.linear_backoff('1 s'), 0), n) AS none,
	distlock.retry_delay(distlock.limit_retry(distlock.linear_backoff('1 s'), 1), n) AS one,
	distlock.retry_delay(distlock.limit_retry(distlock.limit_retry(distlock.linear_backoff('1 s'), 1), 2), n) AS one_then_two,
	distlock.retry_delay(distlock.limit_retry(distlock.limit_retry(distlock.linear_backoff('1 s'), 2), 1), n) AS two_then_one
FROM generate_series(1, 3) n;
SELECT distlock.retry_delay(distlock.limit_retry(distlock.linear_backoff('1 s'), 2147483647), 2147483647) AS last;
-- min and max alike
SELECT distlock.retry_delay(distlock.exponential_backoff('20 ms', '20 ms'), n) FROM generate_series(1, 5) n;
-- what a strategy looks like; it can be kept in a table
SELECT distlock.linear_backoff('1 s') AS linear, distlock.exponential_backoff('10 ms', '1 s') AS exponential,
	distlock.limit_retry(distlock.linear_backoff('1 s'), 3) AS limited;
CREATE TEMP TABLE strategy (retry distlock.retry);
INSERT INTO strategy VALUES (distlock.linear_backoff('1 s')), (('1 ms', '1 day', 5));
SELECT distlock.retry_delay(retry, 5) FROM strategy;
