-- Keys are compared byte by byte, whatever they look like.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
CREATE TEMP TABLE names (number serial, key text);
INSERT INTO names (key) VALUES ('a'), ('A'), ('a '), (' a'), (' '), ('a/b'), ('a.b'), ('%'), ('_'), (''''), ('"'), ('\'),
	('NULL'), ('null'), ('0'), ('00'), ('-1'), ('ä'), (E'a\xcc\x81'), ('á'), (E'\n'), (E'\t'), (E'\x01'), ('{a}'),
	('; DROP TABLE distlock.lock; --'), ('日本語'), ('😀'), (repeat('x', 511)), (repeat('x', 512));
SELECT count(*), count(distlock.acquire_with_token(key, 'tok', '1 min')) AS acquired FROM names;
SELECT count(*) FILTER (WHERE distlock.is_held(key)) AS held,
	count(distlock.try_acquire(key, '1 min')) AS acquired_again FROM names;
SELECT count(DISTINCT distlock.key_id(key)) FROM names;
SELECT count(*) FROM names JOIN distlock.locks USING (key);
SELECT count(*) FILTER (WHERE distlock.try_release(key, 'tok')) AS released FROM names WHERE key <> 'a';
SELECT key FROM distlock.locks WHERE distlock.is_held(key);
SELECT distlock.release_all('tok');
-- types that become text by themselves
SELECT distlock.acquire_with_token('a'::varchar, 'tok'::varchar, '1 min') IS NOT NULL AS acquired;
SELECT distlock.release('a'::name, 'tok'::name);
-- char(n) loses its blanks on the way
SELECT distlock.acquire_with_token('a'::char(5), 'tok', '1 min') IS NOT NULL AS acquired;
SELECT distlock.try_release('a', 'tok');
