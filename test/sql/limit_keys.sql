-- How many keys one transaction may lock.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.is_held('other');
SHOW distlock.max_keys_per_transaction;
SET distlock.max_keys_per_transaction = 3;
SELECT distlock.acquire_with_token('other', 'tok', '1 min') IS NOT NULL AS acquired;
BEGIN;
SELECT count(distlock.acquire_with_token('key ' || i, 'tok', '1 min')) FROM generate_series(1, 3) i;
SAVEPOINT s;
SELECT distlock.acquire_with_token('key 4', 'tok', '1 min');
ROLLBACK TO s;
-- neither a try nor a release, an extend, a forced release get around it
SELECT pg_temp.harmless(statement) AS result, statement
FROM (VALUES ($$SELECT distlock.try_acquire('key 4', '1 min')$$),
	($$SELECT distlock.try_acquire_with_token('key 4', 'tok', '1 min', wait => '1 s')$$),
	($$SELECT distlock.release('other', 'tok')$$), ($$SELECT distlock.try_release('other', 'tok')$$),
	($$SELECT distlock.extend('other', 'tok')$$), ($$SELECT distlock.release_all('tok')$$),
	($$SELECT distlock.extend_all('tok', '1 min')$$),
	($$SELECT distlock.force_release('other')$$), ($$SELECT distlock.force_acquire('other', '1 min')$$)) t(statement);
-- but looks do, refusals, and what concerns the keys locked already
SELECT distlock.is_held('key 4'), distlock.ttl('other', 'tok') > '1 s' AS ttl;
SELECT distlock.try_acquire('other', '1 min') IS NULL AS refused, distlock.try_release('other', 'wrong') AS released;
SELECT distlock.extend('key 1', 'tok') IS NOT NULL AS extended, distlock.release('key 2', 'tok'),
	distlock.acquire_with_token('key 2', 'tok', '1 min') IS NOT NULL AS acquired;
COMMIT;
-- what was rolled back to a savepoint is not counted; what was released is
BEGIN;
SELECT distlock.release('key 1', 'tok'), distlock.release('key 2', 'tok');
SAVEPOINT s;
SELECT distlock.release('key 3', 'tok');
ROLLBACK TO s;
SAVEPOINT s;
SELECT distlock.release('other', 'tok');
RELEASE s;
SELECT pg_temp.sqlstate($$SELECT distlock.release('key 3', 'tok')$$);
SELECT pg_temp.sqlstate($$SELECT distlock.acquire('key 1', '1 min')$$);
ROLLBACK;
-- each transaction counts anew
SELECT distlock.release('key ' || i, 'tok') FROM generate_series(1, 3) i;
SELECT distlock.try_release('other', 'tok');
-- it is for superusers to say
SET distlock.max_keys_per_transaction = 0;
SELECT distlock.try_acquire('key 1', '1 min');
SELECT pg_temp.sqlstate('SET distlock.max_keys_per_transaction = -2');
CREATE ROLE regress_distlock_user;
SET ROLE regress_distlock_user;
SELECT pg_temp.sqlstate('SET distlock.max_keys_per_transaction = 10') AS max_keys,
	pg_temp.sqlstate('SET distlock.nonsense = 1') AS nonsense,
	pg_temp.sqlstate('SET distlock.durable = off') AS durable;
RESET ROLE;
DROP ROLE regress_distlock_user;
RESET distlock.max_keys_per_transaction;
SELECT count(distlock.acquire_with_token('key ' || i, 'tok', '1 min')) FROM generate_series(1, 30) i;
SELECT distlock.release_all('tok');
