-- Times to live, to wait and between attempts that cannot be.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.acquire_with_token('held', 'tok', '1 h') IS NOT NULL AS held;
CREATE TEMP TABLE bad_ttl (number serial, value text);
INSERT INTO bad_ttl (value) VALUES
	('0'), ('-1 s'), ('-1 us'), ('1 us'), ('999 us'), ('0.0009 s'),
	('1 day -24:00:00'), ('1 day -86400 s'), ('-1 day 23:59:59'),
	('1 mon'), ('-1 mon'), ('1 year'), ('1 century'), ('1000 years'),
	('1 mon -30 days'), ('1 year -365 days'),
	('178956970 years 7 mons'), ('-178956970 years -8 mons'),
	('2147483647 days'), ('-2147483648 days'), ('106751992 days'),
	('2147483647 days 2562047788:00:54.775807'),
	('106751991 days 04:00:54.775808'), ('106751991 days'),
	('109000000 days'), ('2562047788:00:54.775807'), ('2562000000:00:00');
SELECT pg_temp.harmless(format($$SELECT distlock.acquire('k', %L)$$, value)) AS sqlstate, value AS ttl
FROM bad_ttl ORDER BY number;
-- the other functions with a ttl, tried with all of these; a procedure says that
-- it cannot run in a function before it asks when the ttl would end
SELECT statement, count(*) AS tried,
	array_agg(DISTINCT pg_temp.harmless(format(statement, value))) AS sqlstates
FROM bad_ttl,
	(VALUES (1, $$SELECT distlock.try_acquire('k', %L)$$),
		(2, $$SELECT distlock.acquire_with_token('k', 'tok', %L)$$),
		(3, $$SELECT distlock.try_acquire_with_token('k', 'tok', %L)$$),
		(4, $$SELECT distlock.acquire_with_token('held', 'tok', %L)$$),
		(5, $$SELECT distlock.try_acquire_with_token('held', 'tok', %L)$$),
		(6, $$SELECT distlock.extend('held', 'tok', %L)$$),
		(7, $$SELECT distlock.try_extend('held', 'tok', %L)$$),
		(8, $$SELECT distlock.ensure('held', 'tok', %L)$$),
		(9, $$SELECT distlock.try_ensure('held', 'tok', %L)$$),
		(10, $$SELECT distlock.extend_all('tok', %L)$$),
		(11, $$SELECT distlock.force_acquire('held', %L)$$),
		(12, $$SELECT distlock.force_acquire('k', %L)$$),
		(13, $$SELECT distlock.do_exclusively('k', %L, 'SELECT 1')$$),
		(14, $$SELECT distlock.try_do_exclusively('held', %L, 'SELECT 1')$$),
		(15, $$CALL distlock.run_exclusively('k', %L, 'SELECT 1')$$),
		(16, $$SELECT distlock.acquire('k', %L, scope => 'session')$$),
		(17, $$SELECT distlock.acquire('k', %L, scope => 'transaction')$$)) f(number, statement)
GROUP BY f.number, statement ORDER BY f.number;
-- infinite, which is no interval before PostgreSQL 17, and too many years,
-- which make_interval() refuses from some version on
SELECT pg_temp.harmless(format($$SELECT distlock.%s$$, call)) IN ('22023', '22007', '22008') AS refused, call
FROM (VALUES ($$acquire('k', 'infinity')$$), ($$acquire('k', '-infinity')$$),
	($$try_acquire('k', '1 s', 'infinity')$$), ($$try_acquire('k', '1 s', '-infinity')$$),
	($$extend('held', 'tok', 'infinity')$$), ($$ensure('held', 'tok', 'infinity')$$),
	($$extend_all('tok', 'infinity')$$), ($$force_acquire('held', 'infinity')$$),
	($$linear_backoff('infinity')$$), ($$exponential_backoff('1 ms', 'infinity')$$),
	($$acquire('k', make_interval(years => 300000000))$$),
	($$acquire('k', make_interval(years => -300000000))$$),
	($$acquire('k', make_interval(years => 178956971))$$),
	($$acquire('k', '1 s', make_interval(years => 300000000))$$),
	($$acquire('k', make_interval(weeks => 2147483647))$$),
	($$acquire('k', make_interval(secs => 'infinity'))$$),
	($$acquire('k', make_interval(secs => 'nan'))$$)) bad(call);
-- waits: also more than 24 hours
CREATE TEMP TABLE bad_wait (number serial, value text);
INSERT INTO bad_wait (value) VALUES
	('-1 us'), ('-1 ms'), ('-1 day'), ('1 day -25:00:00'), ('1 mon'), ('-1 mon'), ('1 mon -30 days'),
	('1 year'), ('24:00:00.000001'), ('1 day 00:00:01'), ('25 h'), ('2 days'),
	('2147483647 days'), ('-2147483648 days'), ('2562047788:00:54.775807'),
	('2147483647 days 2562047788:00:54.775807');
SELECT pg_temp.harmless(format($$SELECT distlock.try_acquire('held', '1 s', %L)$$, value)) AS sqlstate, value AS wait
FROM bad_wait ORDER BY number;
SELECT statement, count(*) AS tried,
	array_agg(DISTINCT pg_temp.harmless(format(statement, value))) AS sqlstates
FROM bad_wait,
	(VALUES (1, $$SELECT distlock.acquire('k', '1 s', %L)$$),
		(2, $$SELECT distlock.try_acquire('k', '1 s', %L)$$),
		(3, $$SELECT distlock.acquire_with_token('held', 'tok', '1 s', %L)$$),
		(4, $$SELECT distlock.try_acquire_with_token('k', 'tok', '1 s', %L)$$),
		(5, $$SELECT distlock.do_exclusively('k', '1 s', 'SELECT 1', %L)$$),
		(6, $$SELECT distlock.try_do_exclusively('held', '1 s', 'SELECT 1', %L)$$),
		(7, $$CALL distlock.run_exclusively('k', '1 s', 'SELECT 1', %L)$$)) f(number, statement)
GROUP BY f.number, statement ORDER BY f.number;
-- delays: 1 ms to 24 hours
CREATE TEMP TABLE bad_delay AS
	SELECT value FROM bad_ttl UNION SELECT value FROM bad_wait;
SELECT statement, count(*) AS tried,
	array_agg(DISTINCT pg_temp.harmless(format(statement, value))) AS sqlstates
FROM bad_delay,
	(VALUES (1, $$SELECT distlock.linear_backoff(%L)$$),
		(2, $$SELECT distlock.exponential_backoff(%L, '1 day')$$),
		(3, $$SELECT distlock.exponential_backoff('1 ms', %L)$$),
		(4, $$SELECT distlock.try_acquire('k', '1 s', retry => ROW(%L, '1 day', 1)::distlock.retry)$$),
		(5, $$SELECT distlock.limit_retry(ROW('1 ms', %L, 1)::distlock.retry, 1)$$)) f(number, statement)
GROUP BY f.number, statement ORDER BY f.number;
-- no interval at all
SELECT pg_temp.harmless(format($$SELECT distlock.%s$$, call)) AS sqlstate, call
FROM (VALUES ($$acquire('k', '')$$), ($$acquire('k', 'soon')$$), ($$acquire('k', '1 fortnight')$$),
	($$acquire('k', '2147483648 days')$$), ($$acquire('k', '99999999999999999999 s')$$),
	($$acquire('k', '1 s', 'soon')$$), ($$linear_backoff('')$$)) bad(call);
-- what the messages say
SELECT distlock.acquire('k', '0');
SELECT distlock.acquire('k', '1 mon');
SELECT distlock.acquire('k', '2147483647 days');
SELECT distlock.acquire('k', '1 s', '-1 s');
SELECT distlock.acquire('k', '1 s', '25 h');
SELECT distlock.linear_backoff('999 us');
-- the limits themselves are allowed
SELECT distlock.try_acquire('held', '1 ms') IS NULL AS shortest_ttl;
SELECT distlock.try_acquire('k', '2540000000 h') IS NOT NULL AS longest_ttl;
SELECT expires_at > '291000-01-01' AS far FROM distlock.locks WHERE key = 'k';
SELECT distlock.force_release('k');
SELECT distlock.try_acquire('k', '1 s', '24 h') IS NOT NULL AS longest_wait;
SELECT distlock.force_release('k');
SELECT distlock.try_acquire('k', '1 s', '1 day') IS NOT NULL AS day_of_wait;
SELECT distlock.force_release('k');
SELECT distlock.try_acquire('k', '1 day -23:59:00') IS NOT NULL AS day_less_hours;
SELECT distlock.force_release('k');
SELECT distlock.retry_delay(distlock.linear_backoff('24 h'), 1);
SELECT distlock.retry_delay(distlock.linear_backoff('1 ms'), 1);
SELECT distlock.release('held', 'tok');
