-- Scopes that do not exist, or not for this.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.acquire_with_token('held', 'tok', '1 h', scope => 'lease') IS NOT NULL AS held;
SELECT pg_temp.harmless(format($$SELECT distlock.acquire('k', '1 s', scope => %L)$$, scope)) AS sqlstate,
	quote_literal(left(scope, 20)) AS scope
FROM (VALUES (1, 'Session'), (2, 'transactions'), (3, ''), (4, 'Lease'), (5, 'LEASE'), (6, ' lease'),
		(7, 'lease '), (8, 'leases'), (9, 'l'), (10, 's'), (11, 't'), (12, 'database'), (13, repeat('x', 100000))) bad(number, scope)
ORDER BY number;
SELECT scope, array_agg(DISTINCT pg_temp.harmless(format(call, scope))) AS sqlstates, count(*) AS tried
FROM (VALUES (1, 'SESSION'), (2, 'xact'), (3, ''), (4, 'Lease')) bad(number, scope),
	(VALUES ($$SELECT distlock.try_acquire('k', '1 s', scope => %L)$$),
		($$SELECT distlock.acquire_with_token('k', 'tok', '1 s', scope => %L)$$),
		($$SELECT distlock.try_acquire_with_token('held', 'tok', '1 s', scope => %L)$$),
		($$SELECT distlock.force_acquire('held', '1 s', scope => %L)$$)) f(call)
GROUP BY number, scope ORDER BY number;
SELECT distlock.acquire('k', '1 s', scope => 'galaxy');
-- the three that do; a lock is renewed in its own scope only
SELECT pg_temp.harmless(format($$SELECT distlock.acquire_with_token('held', 'tok', '1 s', scope => %L)$$, scope)) AS sqlstate, scope
FROM (VALUES ('session'), ('transaction')) other(scope);
SELECT scope, distlock.acquire_with_token(scope, 'tok', '1 min', scope => scope) IS NOT NULL AS granted
FROM (VALUES ('lease'), ('session'), ('transaction')) good(scope);
SELECT pg_temp.harmless($$SELECT distlock.force_acquire('held', '1 s', scope => 'transaction')$$) AS sqlstate;
SELECT distlock.force_acquire('held', '1 s', scope => 'transaction');
SELECT distlock.release_all('tok');
