-- Scope transaction: held to the end of the transaction, without a row.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
CREATE TEMP VIEW row_exists AS SELECT count(*) AS rows FROM distlock.lock WHERE key = 'xjob';
BEGIN;
SELECT distlock.acquire('xjob', '90 s', scope => 'transaction', owner => 'me') AS token \gset
SELECT distlock.is_held('xjob'), distlock.ttl('xjob', :'token');
SELECT distlock.acquire('yjob', '1 s', scope => 'transaction') IS NOT NULL AS granted;
-- no row, no transaction id
TABLE row_exists;
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_xid;
-- the key is not known to the view, the holder is
SELECT key, scope, fence, owner, pid = pg_backend_pid() AS own_pid, role = session_user AS own_role, acquired_at, expires_at, remaining_ms FROM distlock.locks;
COMMIT;
SELECT distlock.is_held('xjob'), distlock.fence('xjob', :'token');
TABLE row_exists;
SELECT count(*) FROM distlock.locks;
-- by itself, it ends with the statement
SELECT distlock.acquire('xjob', '1 h', scope => 'transaction') IS NOT NULL AS granted;
SELECT distlock.is_held('xjob');
-- a fence is drawn when it is asked for
BEGIN;
SELECT distlock.acquire('xjob', '1 s', scope => 'transaction') AS token \gset
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_xid;
SELECT distlock.fence('xjob', :'token') AS fence \gset
SELECT distlock.fence('xjob', :'token') = :fence AS same, distlock.fence('xjob', 'other') IS NULL AS wrong;
COMMIT;
BEGIN;
SELECT distlock.acquire_with_token('xjob', 'tok', '1 s', scope => 'transaction') AS fence2 \gset
SELECT :fence2 > :fence AS new_fence;
-- again with the own token: the same fence; under another: refused
SELECT distlock.acquire_with_token('xjob', 'tok', '1 s', scope => 'transaction') = :fence2 AS same_fence;
SELECT pg_temp.harmless(statement) AS result, statement
FROM (VALUES ($$SELECT distlock.acquire('xjob', '1 s', scope => 'transaction')$$),
	($$SELECT distlock.try_acquire('xjob', '1 s', scope => 'transaction', wait => '1 h')$$),
	($$SELECT distlock.try_acquire('xjob', '1 s', wait => '1 h')$$),
	($$SELECT distlock.try_acquire('xjob', '1 s', scope => 'session', wait => '1 h')$$),
	($$SELECT distlock.try_acquire_with_token('xjob', 'tok', '1 s')$$),
	($$SELECT distlock.try_acquire_with_token('xjob', 'tok', '1 s', scope => 'session')$$),
	($$SELECT distlock.try_do_exclusively('xjob', '1 s', 'SELECT 1')$$),
	($$SELECT distlock.try_release('xjob', 'other')$$), ($$SELECT distlock.try_extend('xjob', 'other')$$)) t(statement);
SELECT pg_temp.complaint($$SELECT distlock.acquire('xjob', '1 s', scope => 'transaction')$$);
-- to extend it means nothing
SELECT distlock.extend('xjob', 'tok', '1 ms'), distlock.ensure('xjob', 'tok', '1 ms'), distlock.try_extend('xjob', 'tok');
-- those for all keys of a token count it
SELECT distlock.acquire_with_token('lease', 'tok', '1 h') IS NOT NULL AS lease, distlock.acquire_with_token('session', 'tok', '1 h', scope => 'session') IS NOT NULL AS session;
SELECT distlock.extend_all('tok', '1 h');
SELECT distlock.release_all('tok');
SELECT distlock.is_held('xjob'), distlock.release_all('tok');
COMMIT;
-- released before the end: it can be taken again, with a new fence
BEGIN;
SELECT distlock.acquire_with_token('xjob', 'tok', '1 s', scope => 'transaction') AS fence \gset
SELECT distlock.release('xjob', 'tok');
SELECT distlock.is_held('xjob'), distlock.try_release('xjob', 'tok') AS again, distlock.try_extend('xjob', 'tok') IS NULL AS not_extended,
	distlock.ttl('xjob', 'tok') IS NULL AS no_ttl, distlock.fence('xjob', 'tok') IS NULL AS no_fence;
SELECT distlock.acquire_with_token('xjob', 'tok2', '1 s', scope => 'transaction') > :fence AS new_fence;
SELECT distlock.release('xjob', 'tok2');
SELECT distlock.acquire_with_token('xjob', 'tok3', '1 h') AS fence3 \gset
SELECT :fence3 > :fence AS new_fence;
SELECT distlock.release('xjob', 'tok3');
COMMIT;
-- savepoints
BEGIN;
SAVEPOINT s;
SELECT distlock.acquire_with_token('xjob', 'tok', '1 s', scope => 'transaction') IS NOT NULL AS granted;
ROLLBACK TO s;
SELECT distlock.is_held('xjob');
SELECT distlock.acquire_with_token('xjob', 'tok', '1 s', scope => 'transaction') IS NOT NULL AS granted;
RELEASE s;
SAVEPOINT s;
SELECT distlock.release('xjob', 'tok');
SELECT distlock.is_held('xjob');
ROLLBACK TO s;
SELECT distlock.is_held('xjob'), distlock.ttl('xjob', 'tok');
SAVEPOINT s;
SELECT distlock.release('xjob', 'tok');
RELEASE s;
SELECT distlock.is_held('xjob');
COMMIT;
