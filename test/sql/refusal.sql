-- A refusal leaves nothing: no lock, no transaction id, no changed setting.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.acquire_with_token('job', 'tok', '1 min') IS NOT NULL AS acquired;
CREATE TEMP TABLE settings AS SELECT name, setting FROM pg_settings;
-- refused at once
BEGIN;
SELECT distlock.try_acquire('job', '1 min') IS NULL AS refused;
SELECT distlock.try_acquire_with_token('job', 'other', '1 min') IS NULL AS refused;
SELECT distlock.try_release('job', 'other') AS released;
SELECT distlock.try_release('never seen', 'other') AS released;
SELECT distlock.try_extend('job', 'other') IS NULL AS refused;
SELECT distlock.try_extend('never seen', 'other') IS NULL AS refused;
SELECT distlock.try_ensure('job', 'other', '1 min') IS NULL AS refused;
SELECT distlock.extend_all('other', '1 min'), distlock.release_all('other');
SELECT distlock.force_release('never seen');
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_xid;
-- refused after a wait, in the queue and with a strategy
SET LOCAL lock_timeout = '1 h';
SET LOCAL statement_timeout = '2 h';
SELECT distlock.try_acquire('job', '1 min', wait => '10 ms') IS NULL AS refused;
SELECT distlock.try_acquire_with_token('job', 'other', '1 min', wait => '10 ms') IS NULL AS refused;
SELECT distlock.try_acquire('job', '1 min', wait => '1 us') IS NULL AS refused;
SELECT distlock.try_acquire('job', '1 min', retry => distlock.limit_retry(distlock.linear_backoff('1 ms'), 3)) IS NULL AS refused;
SELECT distlock.try_acquire('job', '1 min', wait => '10 ms', retry => distlock.linear_backoff('1 ms')) IS NULL AS refused;
SELECT name, setting FROM pg_settings EXCEPT TABLE settings ORDER BY name;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
SELECT count(*) FROM distlock.waiters;
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_xid;
-- and the transaction can go on
SELECT distlock.try_acquire('job 2', '1 min') AS token \gset
SELECT distlock.release('job 2', :'token');
COMMIT;
-- a verb that raises, in a subtransaction
BEGIN;
SAVEPOINT s;
SELECT pg_temp.sqlstate($$SELECT distlock.acquire('job', '1 min')$$);
SELECT pg_temp.sqlstate($$SELECT distlock.acquire('job', '1 min', wait => '10 ms')$$);
SELECT pg_temp.sqlstate($$SELECT distlock.release('job', 'other')$$);
SELECT pg_temp.sqlstate($$SELECT distlock.extend('job', 'other')$$);
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_xid;
COMMIT;
SELECT distlock.release('job', 'tok');
