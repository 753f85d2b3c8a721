-- Every byte of a token counts, and all tokens that are generated are different.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.acquire_with_token('job', 'abcdefgh', '1 min') > 0 AS acquired;
-- one byte is wrong
SELECT i, overlay('abcdefgh' PLACING 'x' FROM i) AS token,
	pg_temp.harmless(format('SELECT distlock.release(%L, %L)', 'job', overlay('abcdefgh' PLACING 'x' FROM i))) AS result
FROM generate_series(1, 8) i;
-- the same bytes, or the same number of them
SELECT token, pg_temp.harmless(format('SELECT distlock.release(%L, %L)', 'job', token)) AS result
FROM unnest(ARRAY['bacdefgh', 'abcdefhg', 'hgfedcba', 'aaaaaaaa', 'abcdabcd', 'efghefgh', 'ABCDEFGH']) AS token;
-- and this is the right one
SELECT distlock.release('job', 'abcdefgh');
CREATE TEMP TABLE tokens AS SELECT distlock.acquire('job ' || i, '1 min') AS token FROM generate_series(1, 200) i;
INSERT INTO tokens SELECT distlock.acquire('job ' || i, '1 min') FROM generate_series(201, 400) i;
SELECT count(*), count(DISTINCT token) AS different, count(DISTINCT left(token, 16)) AS different_at_first,
	count(DISTINCT right(token, 16)) AS different_at_last, bool_and(token ~ '^[0-9a-f]{32}$') AS hexadecimal
FROM tokens;
SELECT count(distlock.force_release('job ' || i)) AS released FROM generate_series(1, 200) i;
SELECT count(distlock.force_release('job ' || i)) AS released FROM generate_series(201, 400) i;
