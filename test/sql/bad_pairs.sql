-- Every function with every pair of its arguments odd: only errors that are documented.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.acquire_with_token('held', 'tok', '1 h') AS fence \gset
CREATE TEMP TABLE odd (type regtype, literal text, argument text);
INSERT INTO odd VALUES
	('text', 'NULL'), ('text', $$''$$), ('text', $$'held'$$), ('text', $$'tok'$$), ('text', $$E'\n\t"%s\\\x7f'$$), ('text', $$repeat('é', 128)$$),
	('text', $$repeat('é', 257)$$), ('text', $$repeat('a', 10000)$$), ('text', $$'lease'$$), ('text', $$'session'$$),
	('interval', 'NULL'), ('interval', $$'0'$$), ('interval', $$'-1 us'$$), ('interval', $$'1 ms'$$), ('interval', $$'1 day 3 ms'$$),
	('interval', $$'1 mon -30 days'$$), ('interval', $$'2147483647 days'$$), ('interval', $$'-178956970 years'$$), ('interval', $$'100000000 days'$$),
	('integer', 'NULL'), ('integer', '0'), ('integer', '-1'), ('integer', '2147483647'), ('integer', '(-2147483648)'),
	('distlock.retry', 'NULL'), ('distlock.retry', 'ROW(NULL, NULL, NULL)'), ('distlock.retry', $$ROW('1 ms', '2 ms', 1)$$),
	('distlock.retry', $$ROW('2 ms', '1 ms', NULL)$$), ('distlock.retry', $$ROW('1 ms', '25 h', 2147483647)$$), ('distlock.retry', $$ROW('-1 s', '1 mon', -1)$$),
	('bigint', 'NULL'), ('bigint', '0'), ('bigint', '-1'), ('bigint', '9223372036854775807'), ('bigint', '(-9223372036854775808)'),
	('timestamptz', 'NULL'), ('timestamptz', $$'epoch'$$), ('timestamptz', $$'infinity'$$), ('timestamptz', $$'-infinity'$$);
-- texts that are commands, more or less
INSERT INTO odd SELECT 'text', literal, 'command' FROM (VALUES
	('NULL'), ($$''$$), ($$E'-- nothing\n ; /* at all */'$$), ($$repeat('SELECT 1; ', 100)$$), ($$'SELECT 1/0'$$), ($$'CREATE TEMP TABLE odd_command ()'$$), ($$'COMMIT'$$),
	($$'COPY (SELECT 1) TO STDOUT'$$), ($$repeat('a', 10000)$$), ($$E'SELECT \'\n\t"%s'$$), ($$'SELECT distlock.acquire(''k'', ''1 s'')'$$),
	($$'SELECT distlock.current_fence()'$$)) command(literal);
CREATE TEMP TABLE sane (argument text, literal text);
INSERT INTO sane VALUES ('key', $$'k'$$), ('token', $$'tok'$$), ('ttl', $$'1 min'$$), ('wait', $$'0'$$), ('scope', $$'lease'$$),
	('owner', 'NULL'), ('data', 'NULL'), ('retry', $$'("1 ms","1 ms",1)'$$), ('delay', $$'1 ms'$$), ('min', $$'1 ms'$$), ('max', $$'2'$$), ('n', '1'),
	('command', $$'SELECT 1'$$), ('fence', '1'), ('incarnation', $$'epoch'$$);
CREATE TEMP VIEW argument AS
	SELECT p.oid, p.proname, p.pronargs, number, name, type::regtype
	FROM pg_proc p, unnest(p.proargnames, p.proargtypes::oid[]) WITH ORDINALITY a(name, type, number)
	WHERE pronamespace = 'distlock'::regnamespace AND prokind = 'f' AND proargmodes IS NULL;
-- functions of one argument have pairs too: the same twice
CREATE TEMP VIEW call AS
	SELECT a.proname, format('SELECT distlock.%I(%s)', a.proname,
		(SELECT string_agg(format('%I => %s%s', c.name,
				CASE c.number WHEN a.number THEN x.literal WHEN b.number THEN y.literal ELSE CASE WHEN c.type = 'bigint'::regtype THEN '1' ELSE s.literal END END,
				CASE c.type WHEN 'distlock.retry'::regtype THEN '::distlock.retry' ELSE '' END), ', ' ORDER BY c.number)
		 FROM argument c LEFT JOIN sane s ON s.argument = c.name WHERE c.oid = a.oid)) AS statement
	FROM argument a JOIN odd x ON x.type = a.type AND (x.argument = 'command') IS TRUE = (a.name = 'command')
		JOIN argument b ON b.oid = a.oid AND (b.number > a.number OR a.pronargs = 1)
			JOIN odd y ON y.type = b.type AND (y.argument = 'command') IS TRUE = (b.name = 'command')
	WHERE a.pronargs > 1 OR x.literal = y.literal;
-- each call is undone, whatever it gave
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RAISE EXCEPTION USING ERRCODE = 'RB000';
EXCEPTION WHEN OTHERS THEN
	RETURN CASE SQLSTATE WHEN 'RB000' THEN 'ok' ELSE SQLSTATE END;
END $$;
-- a wait of more than an instant is not tried
SET client_min_messages = warning;
CREATE TEMP TABLE tried AS
	SELECT proname, statement, pg_temp.try(statement) AS result FROM call
	WHERE statement NOT LIKE '%wait => ''1 day%' AND statement NOT LIKE '%2147483647)::distlock.retry%';
SELECT proname AS function, count(*) AS calls, string_agg(DISTINCT result, ' ' ORDER BY result) AS results
FROM tried GROUP BY proname ORDER BY proname;
SELECT count(*) > 10000 AS many, count(*) FILTER (WHERE result ~ '^(XX|5[78]|08|F0|0[1-9B-Z])') AS internal FROM tried;
SELECT distlock.fence('held', 'tok') = :fence AS still_held;
SELECT key FROM distlock.locks WHERE key <> 'held';
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
SELECT distlock.release('held', 'tok');
