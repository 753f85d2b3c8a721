-- Retry strategies that cannot be, also those made by hand.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.acquire_with_token('held', 'tok', '1 h') IS NOT NULL AS held;
SELECT pg_temp.harmless('SELECT distlock.' || call) AS sqlstate, call
FROM (VALUES
	($$limit_retry(distlock.linear_backoff('1 ms'), -1)$$),
	($$limit_retry(distlock.linear_backoff('1 ms'), -2147483648)$$),
	($$exponential_backoff('2 ms', '1 ms')$$),
	($$exponential_backoff('1 day', '1 ms')$$),
	($$retry_delay(distlock.linear_backoff('1 ms'), 0)$$),
	($$retry_delay(distlock.linear_backoff('1 ms'), -1)$$),
	($$retry_delay(distlock.linear_backoff('1 ms'), -2147483648)$$),
	($$try_acquire('k', '1 s', retry => ROW(NULL, NULL, NULL)::distlock.retry)$$),
	($$try_acquire('k', '1 s', retry => ROW('1 ms', NULL, NULL)::distlock.retry)$$),
	($$try_acquire('k', '1 s', retry => ROW(NULL, '1 ms', NULL)::distlock.retry)$$),
	($$try_acquire('k', '1 s', retry => ROW(NULL, NULL, 1)::distlock.retry)$$),
	($$try_acquire('k', '1 s', retry => ROW('1 ms', '1 ms', -1)::distlock.retry)$$),
	($$try_acquire('k', '1 s', retry => ROW('2 ms', '1 ms', 1)::distlock.retry)$$),
	($$try_acquire('k', '1 s', retry => ROW('0', '1 ms', 1)::distlock.retry)$$),
	($$try_acquire('k', '1 s', retry => ROW('-1 s', '-1 s', 1)::distlock.retry)$$),
	($$try_acquire('k', '1 s', retry => ROW('1 ms', '25 h', 1)::distlock.retry)$$),
	($$try_acquire('k', '1 s', retry => ROW('1 mon', '1 mon', 1)::distlock.retry)$$),
	($$acquire('k', '1 s', retry => ROW(NULL, NULL, NULL)::distlock.retry)$$),
	($$acquire_with_token('held', 'tok', '1 s', retry => ROW(NULL, NULL, NULL)::distlock.retry)$$),
	($$try_acquire_with_token('held', 'tok', '1 s', retry => ROW('1 ms', '1 ms', -5)::distlock.retry)$$),
	($$limit_retry(ROW(NULL, NULL, NULL)::distlock.retry, 1)$$),
	($$limit_retry(ROW('1 ms', '1 ms', -1)::distlock.retry, 1)$$),
	($$retry_delay(ROW('2 ms', '1 ms', 1)::distlock.retry, 1)$$),
	($$retry_delay(ROW(NULL, '1 ms', 1)::distlock.retry, 1)$$),
	($$try_acquire('k', '1 s', retry => ROW('1 ms', '1 ms'))$$),
	($$try_acquire('k', '1 s', retry => ROW('1 ms', '1 ms', 1, 1))$$),
	($$try_acquire('k', '1 s', retry => ROW(1, 2, 3))$$),
	($$try_acquire('k', '1 s', retry => 'linear')$$),
	($$try_acquire('k', '1 s', retry => '(1 ms)')$$),
	($$try_acquire('k', '1 s', retry => '(soon,later,1)')$$),
	($$try_acquire('k', '1 s', retry => '(1 ms,1 ms,99999999999)')$$),
	($$try_acquire('k', '1 s', retry => '1 ms'::interval)$$)
) bad(call);
-- what the messages say
SELECT distlock.exponential_backoff('2 ms', '1 ms');
SELECT distlock.limit_retry(distlock.linear_backoff('1 ms'), -1);
SELECT distlock.retry_delay(distlock.linear_backoff('1 ms'), 0);
SELECT distlock.try_acquire('k', '1 s', retry => ROW(NULL, NULL, NULL)::distlock.retry);
SELECT distlock.try_acquire('k', '1 s', retry => ROW('2 ms', '1 ms', 1)::distlock.retry);
SELECT distlock.try_acquire('k', '1 s', retry => ROW('1 ms', '1 ms', -1)::distlock.retry);
-- a value of the type is as good as the functions that make one
SELECT distlock.try_acquire('held', '1 s', retry => '("1 ms","1 ms",2)') IS NULL AS refused;
SELECT distlock.release('held', 'tok');
