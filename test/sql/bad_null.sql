-- A NULL where a value is needed is an error, in every argument of every function.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
CREATE TEMP TABLE value (argument name PRIMARY KEY, literal text);
INSERT INTO value VALUES
	('key', $$'bad'$$), ('token', $$'tok'$$), ('ttl', $$'1 min'$$),
	('wait', $$'0'$$), ('scope', $$'lease'$$), ('owner', $$'me'$$),
	('data', $$'x'$$), ('retry', $$distlock.limit_retry(distlock.linear_backoff('1 ms'), 1)$$),
	('delay', $$'1 ms'$$), ('min', $$'1 ms'$$), ('max', $$'1 ms'$$),
	('n', '1'), ('command', $$'SELECT 1'$$), ('fence', '1'), ('incarnation', 'now()');
-- "max" is a number in limit_retry, "ttl" one in session_end
CREATE TEMP VIEW call AS
	SELECT p.proname, a.argument AS "null", a.number,
		format('%s distlock.%I(%s)', CASE p.prokind WHEN 'p' THEN 'CALL' ELSE 'SELECT' END, p.proname,
			   string_agg(format('%I => %s', b.argument,
								 CASE WHEN b.number = a.number THEN 'NULL'
									  WHEN (p.proname, b.argument) IN (('limit_retry', 'max'), ('session_end', 'ttl')) THEN '1'
									  ELSE v.literal END), ', ' ORDER BY b.number)) AS statement
	FROM pg_proc p,
		LATERAL unnest(p.proargnames) WITH ORDINALITY a(argument, number),
		LATERAL unnest(p.proargnames) WITH ORDINALITY b(argument, number)
			LEFT JOIN value v ON v.argument = b.argument
	WHERE p.pronamespace = 'distlock'::regnamespace
		AND p.proargmodes IS NULL
	GROUP BY p.proname, p.oid, a.argument, a.number;
-- these may be NULL
CREATE TEMP VIEW optional AS
	SELECT * FROM call
	WHERE "null" IN ('owner', 'data')
		OR ("null" = 'retry' AND proname LIKE '%acquire%')
		OR ("null" = 'ttl' AND proname IN ('extend', 'try_extend'));
SELECT proname AS function, "null", pg_temp.harmless(statement) AS sqlstate
FROM call
WHERE (proname, "null") NOT IN (SELECT proname, "null" FROM optional)
ORDER BY proname, number;
-- the others are not errors: with somebody else's token around, they fail for
-- want of the lock, or because a procedure may not commit in a function
SELECT fence IS NOT NULL AS held FROM distlock.acquire_with_token('bad', 'other', '1 h') fence;
SELECT proname AS function, "null", pg_temp.harmless(statement) AS result
FROM optional
WHERE proname NOT LIKE 'force%'
ORDER BY proname, number;
SELECT distlock.release('bad', 'other');
-- what the message says
SELECT distlock.acquire(NULL, '1 s');
SELECT distlock.release('bad', NULL);
SELECT distlock.ensure('bad', 'tok', NULL);
