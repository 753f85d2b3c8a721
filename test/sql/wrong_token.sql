-- A token that is wrong, old or another key's changes nothing.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.acquire_with_token('job', 'old', '1 min') IS NOT NULL AS acquired;
SELECT distlock.release('job', 'old');
SELECT distlock.acquire('job', '1 min') AS token \gset
SELECT distlock.acquire_with_token('job 2', 'tok 2', '1 min') IS NOT NULL AS acquired;
SELECT distlock.acquire_with_token('job 3', 'gone', '1 min') IS NOT NULL AS acquired;
SELECT distlock.force_release('job 3');
CREATE TEMP TABLE wrong (number serial, what text, key text, token text);
INSERT INTO wrong (what, key, token) VALUES
	('wrong token', 'job', 'guess'),
	('token of the holder before', 'job', 'old'),
	('token of another key', 'job', 'tok 2'),
	('the key itself', 'job', 'job'),
	('upper case', 'job', upper(:'token')),
	('one letter less', 'job', left(:'token', -1)),
	('one letter more', 'job', :'token' || '0'),
	('right token, other case of the key', 'JOB', :'token'),
	('right token, key with a blank', 'job ', :'token'),
	('right token, another key', 'job 2', :'token'),
	('right token, free key', 'job 3', :'token'),
	('token forced out', 'job 3', 'gone'),
	('right token, key never seen', 'job 4', :'token');
SELECT what, string_agg(pg_temp.harmless(format(statement, key, token)), ' ' ORDER BY f.number) AS results
FROM wrong, (VALUES (1, 'SELECT distlock.extend(%L, %L)'), (2, 'SELECT distlock.extend(%L, %L, ''1 h'')'),
	(3, 'SELECT distlock.ensure(%L, %L, ''1 h'')'), (4, 'SELECT distlock.release(%L, %L)'),
	(5, 'SELECT distlock.try_extend(%L, %L)'), (6, 'SELECT distlock.try_ensure(%L, %L, ''1 h'')'),
	(7, 'SELECT distlock.try_release(%L, %L)'),
	(8, 'SELECT distlock.ttl(%L, %L)'), (9, 'SELECT distlock.fence(%L, %L)')) f(number, statement)
GROUP BY what, wrong.number ORDER BY wrong.number;
SELECT what, pg_temp.harmless(format('SELECT distlock.try_acquire_with_token(%L, %L, ''1 h'')', key, token)) AS result,
	pg_temp.harmless(format('SELECT distlock.acquire_with_token(%L, %L, ''1 h'')', key, token)) AS result
FROM wrong WHERE key IN ('job', 'job 2') ORDER BY number;
SELECT what, pg_temp.harmless(format('SELECT distlock.extend_all(%L, ''1 h'')', token)) AS extended,
	pg_temp.harmless(format('SELECT distlock.release_all(%L)', token)) AS released
FROM wrong WHERE token NOT IN (:'token', 'tok 2') ORDER BY number;
-- no message shows a token
SELECT pg_temp.complaint(format('SELECT distlock.extend(%L, %L)', 'job', 'guess'));
SELECT distlock.release('job', :'token'), distlock.release('job 2', 'tok 2');
