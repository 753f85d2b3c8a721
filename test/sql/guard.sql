-- A guard pins a lock that is held to the end of the transaction.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
CREATE TEMP VIEW key_locks AS
	SELECT mode FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() ORDER BY mode;
SELECT distlock.acquire_with_token('job', 'tok', '1 h') AS fence \gset
-- it returns the fence, changes no row, needs no transaction id
BEGIN;
SELECT ctid AS before FROM distlock.lock WHERE key = 'job' \gset
SELECT distlock.guard('job', 'tok') = :fence AS fence, distlock.guard('job', 'tok') = :fence AS again;
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_xid;
TABLE key_locks;
COMMIT;
TABLE key_locks;
SELECT ctid = :'before' AS not_changed FROM distlock.lock WHERE key = 'job';
-- with work written, the row is touched
CREATE TEMP TABLE work (n int);
BEGIN;
SELECT distlock.guard('job', 'tok') = :fence AS fence;
INSERT INTO work VALUES (1);
COMMIT;
SELECT ctid <> :'before' AS touched, token = 'tok' AS held, fence = :fence AS fence FROM distlock.lock WHERE key = 'job';
-- not held: LK001, and nothing is left
BEGIN;
SELECT pg_temp.harmless(statement) AS sqlstate, statement
FROM (VALUES ($$SELECT distlock.guard('job', 'other')$$), ($$SELECT distlock.guard('never seen', 'tok')$$), ($$SELECT distlock.guard('JOB', 'tok')$$)) t(statement);
TABLE key_locks;
COMMIT;
SELECT distlock.guard('job', 'other');
SELECT distlock.release('job', 'tok');
SELECT pg_temp.harmless($$SELECT distlock.guard('job', 'tok')$$) AS released;
SELECT distlock.acquire_with_token('job', 'tok', '1 ms') IS NOT NULL AS acquired;
SELECT pg_temp.await_expiry('job');
SELECT pg_temp.harmless($$SELECT distlock.guard('job', 'tok')$$) AS expired;
SELECT distlock.acquire_with_token('job', 'tok', '1 h') IS NOT NULL AS acquired, distlock.force_release('job');
SELECT pg_temp.harmless($$SELECT distlock.guard('job', 'tok')$$) AS forced;
-- pinned past its end: held, but its token is as dead as ever afterwards
SELECT distlock.acquire_with_token('job', 'tok', '250 ms') AS fence \gset
BEGIN;
SELECT distlock.guard('job', 'tok') = :fence AS fence;
DO $$
BEGIN
	WHILE distlock.ttl('job', 'tok') IS NOT NULL LOOP
		PERFORM pg_sleep(0.005);
	END LOOP;
END $$;
SELECT distlock.is_held('job') AS pinned;
SELECT pg_temp.sqlstate($$SELECT distlock.extend('job', 'tok')$$) AS extend, distlock.ttl('job', 'tok') IS NULL AS no_ttl;
COMMIT;
SELECT distlock.is_held('job');
-- the guard's own transaction may extend and release; a rollback to a savepoint lets go of the guard
SELECT distlock.acquire_with_token('job', 'tok', '1 min') AS fence \gset
BEGIN;
SELECT distlock.guard('job', 'tok') = :fence AS fence;
SELECT distlock.extend('job', 'tok', '1 h') IS NOT NULL AS extended, distlock.ensure('job', 'tok', '1 min') IS NOT NULL AS ensured;
SELECT distlock.guard('job', 'tok') = :fence AS fence;
COMMIT;
SELECT distlock.ttl('job', 'tok') > '59 min' AS extended;
BEGIN;
SAVEPOINT s;
SELECT distlock.guard('job', 'tok') = :fence AS fence;
ROLLBACK TO s;
TABLE key_locks;
SELECT distlock.guard('job', 'tok') = :fence AS fence;
SELECT distlock.release('job', 'tok');
SELECT pg_temp.sqlstate($$SELECT distlock.guard('job', 'tok')$$) AS guard, distlock.is_held('job');
COMMIT;
SELECT distlock.is_held('job');
-- an acquisition of this transaction can be guarded; so can a lock of each scope
BEGIN;
SELECT distlock.acquire_with_token('job', 'tok', '1 h') AS fence \gset
SELECT distlock.guard('job', 'tok') = :fence AS lease;
SELECT distlock.acquire_with_token('tjob', 'tok', '1 h', scope => 'transaction') AS fence \gset
SELECT distlock.guard('tjob', 'tok') = :fence AS transaction;
SELECT distlock.acquire_with_token('sjob', 'tok', '1 h', scope => 'session') AS fence \gset
SELECT distlock.guard('sjob', 'tok') = :fence AS session;
SELECT pg_temp.sqlstate($$SELECT distlock.guard('tjob', 'other')$$) AS wrong_token;
COMMIT;
SELECT distlock.guard('sjob', 'tok') = :fence AS session_later;
SELECT pg_temp.sqlstate($$SELECT distlock.guard('tjob', 'tok')$$) AS transaction_later;
-- a read-only transaction can guard
SELECT distlock.fence('job', 'tok') AS fence \gset
BEGIN READ ONLY;
SELECT distlock.guard('job', 'tok') = :fence AS lease;
SELECT distlock.guard('sjob', 'tok') > 0 AS session;
SELECT pg_temp.sqlstate($$SELECT distlock.guard('job', 'other')$$) AS wrong;
TABLE key_locks;
COMMIT;
-- and one that sees the grant
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT distlock.guard('job', 'tok') = :fence AS fence;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SELECT distlock.guard('job', 'tok') = :fence AS fence;
COMMIT;
-- the guard's own transaction may use force, too
BEGIN;
SELECT distlock.guard('job', 'tok') = :fence AS fence;
SELECT distlock.force_release('job');
SELECT pg_temp.sqlstate($$SELECT distlock.guard('job', 'tok')$$) AS guard, distlock.is_held('job');
ROLLBACK;
BEGIN;
SELECT distlock.guard('job', 'tok') = :fence AS fence;
SELECT distlock.force_acquire('job', '1 h') AS token \gset
SELECT pg_temp.sqlstate($$SELECT distlock.guard('job', 'tok')$$) AS old, distlock.guard('job', :'token') > :fence AS new;
COMMIT;
SELECT distlock.guard('job', :'token') > :fence AS taken_over;
SELECT distlock.release('job', :'token'), distlock.release('sjob', 'tok');
