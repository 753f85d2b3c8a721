-- The limits of keys, tokens, owners and data are exact, and count bytes.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
-- characters of 1 to 4 bytes; as many as fit, and one byte more
CREATE TEMP TABLE sample (bytes int, letter text);
INSERT INTO sample VALUES (1, 'a'), (2, 'é'), (3, '€'), (4, '😀');
SELECT bytes, octet_length(letter) AS octets FROM sample;
SELECT bytes, octet_length(key) AS octets,
	pg_temp.result(format($$SELECT distlock.acquire(%L, '1 min') IS NOT NULL$$, key)) AS acquired,
	distlock.is_held(key) AS held,
	pg_temp.harmless(format($$SELECT distlock.acquire(%L, '1 min')$$, key || 'a')) AS one_more
FROM (SELECT bytes, 'x' || rpad('', 512 % bytes, 'y') || repeat(letter, (512 - 1 - 512 % bytes) / bytes) AS k
	  FROM sample) s,
	LATERAL (SELECT k || repeat('z', 512 - octet_length(k)) AS key) padded
ORDER BY bytes;
SELECT bytes, octet_length(token) AS octets,
	pg_temp.result(format($$SELECT distlock.acquire_with_token(%L, %L, '1 min') IS NOT NULL$$, 'token of ' || bytes, token)) AS acquired,
	distlock.fence('token of ' || bytes, token) IS NOT NULL AS held,
	pg_temp.harmless(format($$SELECT distlock.release(%L, %L)$$, 'token of ' || bytes, token || 'a')) AS one_more
FROM (SELECT bytes, rpad('', 256 % bytes, 'x') || repeat(letter, 256 / bytes) AS token FROM sample) s
ORDER BY bytes;
SELECT count(distlock.acquire('owner of ' || bytes, '1 min',
	owner => rpad('', 256 % bytes, 'x') || repeat(letter, 256 / bytes),
	data => rpad('', 4096 % bytes, 'x') || repeat(letter, 4096 / bytes))) AS acquired
FROM sample;
SELECT key, octet_length(owner) AS owner, octet_length(data) AS data
FROM distlock.locks WHERE key LIKE 'owner of %' ORDER BY key;
-- the longest of all at once
SELECT distlock.try_acquire_with_token(repeat('k', 512), repeat('t', 256), '1 min',
	owner => repeat('o', 256), data => repeat('d', 4096)) IS NOT NULL AS acquired;
SELECT distlock.try_release(repeat('k', 512), repeat('t', 256)) AS released;
-- and values that do not compress
CREATE TEMP TABLE noise AS
	SELECT string_agg(encode(sha256(i::text::bytea), 'hex'), '' ORDER BY i) AS v FROM generate_series(1, 64) i;
SELECT distlock.acquire_with_token(left(v, 512), left(v, 256), '1 min', owner => right(v, 256), data => v) IS NOT NULL AS acquired
FROM noise;
SELECT distlock.extend(left(v, 512), left(v, 256)) IS NOT NULL AS extended FROM noise;
SELECT l.owner = right(v, 256) AS owner_kept, l.data = v AS data_kept
FROM noise, distlock.locks l WHERE l.key = left(v, 512);
SELECT distlock.try_release(left(v, 512), left(v, 256)) AS released FROM noise;
-- empty owner and data are values like others
SELECT distlock.acquire('empty owner', '1 min', owner => '', data => '') IS NOT NULL AS acquired;
SELECT owner = '' AS owner_empty, data = '' AS data_empty FROM distlock.locks WHERE key = 'empty owner';
SELECT count(distlock.force_release(key)) > 0 AS cleaned FROM distlock.locks;
