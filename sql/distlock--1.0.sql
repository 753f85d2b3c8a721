/* distlock 1.0 */

-- complain if this script is run by hand in psql
\echo Use "CREATE EXTENSION distlock" to load this file. \quit

/*
 * The schema is made here and not by the control file: a schema of this name
 * that is already there, with whatever its owner put into it, makes the
 * installation fail instead of being moved into.
 */
CREATE SCHEMA distlock;
COMMENT ON SCHEMA distlock IS 'named locks with time to live, tokens and fencing numbers';

-- ---------------------------------------------------------------------------
-- The lock table.  Only src/lock_table.c reads and writes it; it checks the
-- shape given here, so change both together.
-- ---------------------------------------------------------------------------

CREATE TABLE distlock.lock (
	fence bigint NOT NULL,
	acquired_at timestamptz NOT NULL,
	expires_at timestamptz NOT NULL,
	ttl bigint NOT NULL,
	pid integer NOT NULL,
	role oid NOT NULL,
	permit smallint NOT NULL,
	scope "char" NOT NULL,
	key text COLLATE "C" NOT NULL,
	token text COLLATE "C",
	owner text,
	data text,
	incarnation timestamptz,
	PRIMARY KEY (key, permit)
) USING heap WITH (
	fillfactor = 70,
	vacuum_truncate = false,
	autovacuum_vacuum_scale_factor = 0,
	autovacuum_vacuum_threshold = 5000,
	autovacuum_vacuum_insert_scale_factor = 0,
	autovacuum_vacuum_insert_threshold = 100000,
	autovacuum_analyze_scale_factor = 0.5
);
REVOKE ALL ON TABLE distlock.lock FROM PUBLIC;
-- what ANALYZE samples can be seen by others than may read the table
ALTER TABLE distlock.lock ALTER COLUMN token SET STATISTICS 0,
	ALTER COLUMN owner SET STATISTICS 0,
	ALTER COLUMN data SET STATISTICS 0;
COMMENT ON TABLE distlock.lock IS 'one row for each key in use or used lately; written by the functions of this extension only, never by SQL';
COMMENT ON COLUMN distlock.lock.fence IS 'fencing number of the last grant; after a forced release the number that ended it';
COMMENT ON COLUMN distlock.lock.acquired_at IS 'when it was last granted: the clock read while the key was locked';
COMMENT ON COLUMN distlock.lock.expires_at IS 'when the lease ends; infinity for scope session; of a free row, when it was released';
COMMENT ON COLUMN distlock.lock.ttl IS 'time to live last asked for, in microseconds';
COMMENT ON COLUMN distlock.lock.pid IS 'process that acquired it (it need not live any more)';
COMMENT ON COLUMN distlock.lock.role IS 'role that acquired it';
COMMENT ON COLUMN distlock.lock.permit IS 'which of the places of the key this row is; 0 for an exclusive lock';
COMMENT ON COLUMN distlock.lock.scope IS 'l: lease; s: session; t, of a free row: last held by a transaction';
COMMENT ON COLUMN distlock.lock.key IS 'name of the lock, 1 to 512 bytes';
COMMENT ON COLUMN distlock.lock.token IS 'proof of holding; NULL when the lock is free';
COMMENT ON COLUMN distlock.lock.owner IS 'who holds it, in the words of the caller';
COMMENT ON COLUMN distlock.lock.data IS 'what the caller wished to keep with the lock';
COMMENT ON COLUMN distlock.lock.incarnation IS 'of scope session: start of the server in which the session lives';

-- ---------------------------------------------------------------------------
-- The state of the fence, see src/fence.c.  The counter itself and its limit are
-- not dumped: restoring them could only take them back.
-- ---------------------------------------------------------------------------

CREATE SEQUENCE distlock.fence_seq AS bigint NO CYCLE;
REVOKE ALL ON SEQUENCE distlock.fence_seq FROM PUBLIC;
COMMENT ON SEQUENCE distlock.fence_seq IS 'the last fencing number';

CREATE SEQUENCE distlock.limit_seq AS bigint NO CYCLE;
REVOKE ALL ON SEQUENCE distlock.limit_seq FROM PUBLIC;
COMMENT ON SEQUENCE distlock.limit_seq IS 'a number that no fence given out is above, on disk before it is reached';

CREATE SEQUENCE distlock.start_seq AS bigint NO CYCLE;
REVOKE ALL ON SEQUENCE distlock.start_seq FROM PUBLIC;
COMMENT ON SEQUENCE distlock.start_seq IS 'the start of the server for which fences go on above the limit';

CREATE SEQUENCE distlock.epoch_seq AS bigint NO CYCLE;
REVOKE ALL ON SEQUENCE distlock.epoch_seq FROM PUBLIC;
COMMENT ON SEQUENCE distlock.epoch_seq IS 'the epoch of the fence last begun';

CREATE SEQUENCE distlock.incarnation_seq AS bigint NO CYCLE;
REVOKE ALL ON SEQUENCE distlock.incarnation_seq FROM PUBLIC;
-- who installed the extension, superuser or not, can dump and restore it
GRANT SELECT, UPDATE ON SEQUENCE distlock.epoch_seq, distlock.incarnation_seq TO @extowner@;
COMMENT ON SEQUENCE distlock.incarnation_seq IS 'digest of the incarnation of the data that the epoch belongs to';

SELECT pg_catalog.pg_extension_config_dump('distlock.epoch_seq', '');
SELECT pg_catalog.pg_extension_config_dump('distlock.incarnation_seq', '');

/*
 * Records the incarnation that the extension is created in, so that a restored
 * dump of an extension never used differs from a new one.
 */
CREATE FUNCTION distlock.record_incarnation() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_record_incarnation';
SELECT distlock.record_incarnation();
DROP FUNCTION distlock.record_incarnation();

-- ---------------------------------------------------------------------------
-- Retry strategies
-- ---------------------------------------------------------------------------

CREATE TYPE distlock.retry AS (
	min_delay interval,
	max_delay interval,
	max_retries integer
);
COMMENT ON TYPE distlock.retry IS 'when to try again: delays that double from 4 ms on, kept between min_delay and max_delay; at most max_retries of them (NULL: no limit)';

CREATE FUNCTION distlock.linear_backoff(delay interval) RETURNS distlock.retry
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_linear_backoff';
COMMENT ON FUNCTION distlock.linear_backoff(interval) IS 'try again after each delay (1 ms to 24 h). Errors: 22004, 22023';

CREATE FUNCTION distlock.exponential_backoff(min interval, max interval) RETURNS distlock.retry
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_exponential_backoff';
COMMENT ON FUNCTION distlock.exponential_backoff(interval, interval) IS 'wait 2^(n+1) ms before the n-th retry, but at least min and at most max (1 ms to 24 h). Errors: 22004, 22023';

CREATE FUNCTION distlock.limit_retry(retry distlock.retry, max integer) RETURNS distlock.retry
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_limit_retry';
COMMENT ON FUNCTION distlock.limit_retry(distlock.retry, integer) IS 'the same strategy with at most max retries, that is max + 1 attempts. Errors: 22004, 22023';

CREATE FUNCTION distlock.retry_delay(retry distlock.retry, n integer) RETURNS interval
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_retry_delay';
COMMENT ON FUNCTION distlock.retry_delay(distlock.retry, integer) IS 'the delay before the n-th retry (n from 1), NULL when there is no such retry. Errors: 22004, 22023';

-- ---------------------------------------------------------------------------
-- Acquire
-- ---------------------------------------------------------------------------

CREATE FUNCTION distlock.acquire(key text, ttl interval, wait interval DEFAULT '0',
		scope text DEFAULT 'lease', owner text DEFAULT NULL, data text DEFAULT NULL,
		retry distlock.retry DEFAULT NULL) RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_acquire';
COMMENT ON FUNCTION distlock.acquire(text, interval, interval, text, text, text, distlock.retry) IS 'take the lock and return its token; ttl at least 1 ms, wait 0 to 24 h. Errors: 55P03 not granted within wait, 40001, 25006, 54000, 22004, 22023, 22001';

CREATE FUNCTION distlock.try_acquire(key text, ttl interval, wait interval DEFAULT '0',
		scope text DEFAULT 'lease', owner text DEFAULT NULL, data text DEFAULT NULL,
		retry distlock.retry DEFAULT NULL) RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_try_acquire';
COMMENT ON FUNCTION distlock.try_acquire(text, interval, interval, text, text, text, distlock.retry) IS 'take the lock and return its token, NULL when not granted within wait (0 to 24 h). Errors: 40001, 25006, 54000, 22004, 22023, 22001';

CREATE FUNCTION distlock.acquire_with_token(key text, token text, ttl interval, wait interval DEFAULT '0',
		scope text DEFAULT 'lease', owner text DEFAULT NULL, data text DEFAULT NULL,
		retry distlock.retry DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_acquire_with_token';
COMMENT ON FUNCTION distlock.acquire_with_token(text, text, interval, interval, text, text, text, distlock.retry) IS 'take the lock under a token of 1 to 256 bytes and return its fence; with the token of the live holder, start its ttl anew and return the same fence. Errors: 55P03 not granted within wait, 40001, 25006, 54000, 22004, 22023, 22001';

CREATE FUNCTION distlock.try_acquire_with_token(key text, token text, ttl interval, wait interval DEFAULT '0',
		scope text DEFAULT 'lease', owner text DEFAULT NULL, data text DEFAULT NULL,
		retry distlock.retry DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_try_acquire_with_token';
COMMENT ON FUNCTION distlock.try_acquire_with_token(text, text, interval, interval, text, text, text, distlock.retry) IS 'as acquire_with_token, but NULL when not granted within wait. Errors: 40001, 25006, 54000, 22004, 22023, 22001';

-- ---------------------------------------------------------------------------
-- Keep
-- ---------------------------------------------------------------------------

CREATE FUNCTION distlock.extend(key text, token text, ttl interval DEFAULT NULL) RETURNS timestamptz
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_extend';
COMMENT ON FUNCTION distlock.extend(text, text, interval) IS 'let the lease end ttl from now (NULL: the ttl given before), also if that is earlier; returns the new expiry. Errors: LK001 not held, 25006, 54000, 22004, 22023, 22001';

CREATE FUNCTION distlock.try_extend(key text, token text, ttl interval DEFAULT NULL) RETURNS timestamptz
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_try_extend';
COMMENT ON FUNCTION distlock.try_extend(text, text, interval) IS 'as extend, but NULL when not held. Errors: 25006, 54000, 22004, 22023, 22001';

CREATE FUNCTION distlock.ensure(key text, token text, ttl interval) RETURNS timestamptz
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_ensure';
COMMENT ON FUNCTION distlock.ensure(text, text, interval) IS 'let the lease last at least ttl from now, never shortening it; returns the expiry. Errors: LK001 not held, 25006, 54000, 22004, 22023, 22001';

CREATE FUNCTION distlock.try_ensure(key text, token text, ttl interval) RETURNS timestamptz
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_try_ensure';
COMMENT ON FUNCTION distlock.try_ensure(text, text, interval) IS 'as ensure, but NULL when not held. Errors: 25006, 54000, 22004, 22023, 22001';

CREATE FUNCTION distlock.extend_all(token text, ttl interval) RETURNS integer
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_extend_all';
COMMENT ON FUNCTION distlock.extend_all(text, interval) IS 'extend every lock held under the token; returns how many. Reads the whole table. Errors: 25006, 54000, 22004, 22023, 22001';

-- ---------------------------------------------------------------------------
-- Release
-- ---------------------------------------------------------------------------

CREATE FUNCTION distlock.release(key text, token text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_release';
COMMENT ON FUNCTION distlock.release(text, text) IS 'give the lock back when the transaction commits. Errors: LK001 not held (expired, released, another''s), 25006, 54000, 22004, 22023, 22001';

CREATE FUNCTION distlock.try_release(key text, token text) RETURNS boolean
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_try_release';
COMMENT ON FUNCTION distlock.try_release(text, text) IS 'as release, but false when not held. Errors: 25006, 54000, 22004, 22023, 22001';

CREATE FUNCTION distlock.release_all(token text) RETURNS integer
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_release_all';
COMMENT ON FUNCTION distlock.release_all(text) IS 'release every lock held under the token; returns how many. Reads the whole table. Errors: 25006, 54000, 22004, 22023, 22001';

-- ---------------------------------------------------------------------------
-- Work under a lock
-- ---------------------------------------------------------------------------

CREATE FUNCTION distlock.guard(key text, token text) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_guard';
COMMENT ON FUNCTION distlock.guard(text, text) IS 'make sure that the lock is held now and cannot be taken over before this transaction ends, even when it expires; returns its fence. Errors: LK001 not held, 40001, 25006, 54000, 22004, 22023, 22001';

CREATE FUNCTION distlock.do_exclusively(key text, ttl interval, command text,
		wait interval DEFAULT '0', owner text DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_do_exclusively';
COMMENT ON FUNCTION distlock.do_exclusively(text, interval, text, interval, text) IS 'run one or several statements in this transaction under a lock that ends with the transaction; returns the number of rows processed. Errors: 55P03 not granted within wait (0 to 24 h), 40001, 25006, 54000, 22004, 22023, 22001, 0A000, 2D000, and those of the command';

CREATE FUNCTION distlock.try_do_exclusively(key text, ttl interval, command text,
		wait interval DEFAULT '0', owner text DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_try_do_exclusively';
COMMENT ON FUNCTION distlock.try_do_exclusively(text, interval, text, interval, text) IS 'as do_exclusively, but NULL, with nothing run, when the lock is not granted within wait. Errors: 40001, 25006, 54000, 22004, 22023, 22001, 0A000, 2D000, and those of the command';

CREATE PROCEDURE distlock.run_exclusively(key text, ttl interval, command text,
		wait interval DEFAULT '0', owner text DEFAULT NULL)
	LANGUAGE c
	AS 'MODULE_PATHNAME', 'distlock_run_exclusively';
COMMENT ON PROCEDURE distlock.run_exclusively(text, interval, text, interval, text) IS 'run one or several statements in transactions of their own under a lock of the session, which everybody can see; procedures and DO blocks in the command may commit; the lock ends when the command ends or fails. Errors: 55P03 not granted within wait (0 to 24 h), LK001 lost while the command ran, 2D000 inside a transaction block, 25006, 22004, 22023, 22001, 0A000, and those of the command';

CREATE FUNCTION distlock.current_fence() RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_current_fence';
COMMENT ON FUNCTION distlock.current_fence() IS 'fence of the lock that the running command is under (the innermost); NULL outside of do_exclusively and run_exclusively. Errors: 25006';

CREATE FUNCTION distlock.require_lock() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_require_lock';
COMMENT ON FUNCTION distlock.require_lock() IS 'BEFORE trigger with a key as argument: lets a table be changed only by transactions that hold or guard the key. Errors: LK001, 39P01';

-- ---------------------------------------------------------------------------
-- Look
-- ---------------------------------------------------------------------------

CREATE FUNCTION distlock.ttl(key text, token text) RETURNS interval
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_ttl';
COMMENT ON FUNCTION distlock.ttl(text, text) IS 'time left of the lease; NULL when not held with that token. Errors: 22004, 22023, 22001';

CREATE FUNCTION distlock.fence(key text, token text) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_fence';
COMMENT ON FUNCTION distlock.fence(text, text) IS 'fencing number of the grant; NULL when not held with that token. Errors: 25006 when it is to be drawn for a lock of scope transaction in a read-only one, 22004, 22023, 22001';

CREATE FUNCTION distlock.is_held(key text) RETURNS boolean
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_is_held';
COMMENT ON FUNCTION distlock.is_held(text) IS 'whether anyone holds the lock at this moment, holders that have not committed yet included. Errors: 22004, 22023, 22001';

CREATE FUNCTION distlock.key_id(key text) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_key_id';
COMMENT ON FUNCTION distlock.key_id(text) IS 'the number under which pg_locks shows the key: (classid << 32) | objid. Errors: 22004, 22023, 22001';

-- ---------------------------------------------------------------------------
-- For administrators
-- ---------------------------------------------------------------------------

CREATE FUNCTION distlock.force_release(key text) RETURNS boolean
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_force_release';
REVOKE ALL ON FUNCTION distlock.force_release(text) FROM PUBLIC;
COMMENT ON FUNCTION distlock.force_release(text) IS 'end the lock whoever holds it; its token is dead at once. Waits up to 1 s for a change under way. False when nobody held it. Errors: 55P03 another transaction has the key locked, 25006, 54000, 22004, 22023, 22001, 42501';

CREATE FUNCTION distlock.force_acquire(key text, ttl interval, scope text DEFAULT 'lease',
		owner text DEFAULT NULL, data text DEFAULT NULL) RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_force_acquire';
REVOKE ALL ON FUNCTION distlock.force_acquire(text, interval, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION distlock.force_acquire(text, interval, text, text, text) IS 'take the lock over from whoever holds it and return the new token; the old one is dead at once. Waits up to 1 s for a change under way. Errors: 25000 when it is held and this is a REPEATABLE READ or SERIALIZABLE transaction, 0A000 scope transaction, 55P03 another transaction has the key locked, 40001, 25006, 54000, 22004, 22023, 22001, 42501';

CREATE FUNCTION distlock.advance_fence() RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_advance_fence';
REVOKE ALL ON FUNCTION distlock.advance_fence() FROM PUBLIC;
COMMENT ON FUNCTION distlock.advance_fence() IS 'begin a new epoch of fencing numbers, after a restore that cannot be detected; every later fence is greater than the result. Not undone by a rollback. Errors: 25006, 42501';

CREATE PROCEDURE distlock.purge()
	LANGUAGE c
	AS 'MODULE_PATHNAME', 'distlock_purge';
REVOKE ALL ON PROCEDURE distlock.purge() FROM PUBLIC;
COMMENT ON PROCEDURE distlock.purge() IS 'free the rows of lapsed leases and delete the free rows that no snapshot can need, in small transactions of its own. Errors: 2D000 inside a transaction block, 25006, 42501';

-- Whoever installs the extension administers it (it need not be a superuser).
GRANT EXECUTE ON FUNCTION distlock.force_release(text) TO @extowner@;
GRANT EXECUTE ON FUNCTION distlock.force_acquire(text, interval, text, text, text) TO @extowner@;
GRANT EXECUTE ON FUNCTION distlock.advance_fence() TO @extowner@;
GRANT EXECUTE ON PROCEDURE distlock.purge() TO @extowner@;

-- ---------------------------------------------------------------------------
-- Views.  None shows a token.
-- ---------------------------------------------------------------------------

CREATE FUNCTION distlock.queue(OUT key text, OUT "position" integer, OUT pid integer,
		OUT waiting_since timestamptz, OUT wait_until timestamptz) RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_queue';
COMMENT ON FUNCTION distlock.queue() IS 'who waits for which key, in the order of service; see the view distlock.waiters';

CREATE VIEW distlock.waiters WITH (security_barrier) AS
	SELECT q.key,
		q."position",
		q.pid,
		a.usename AS role,
		a.application_name,
		q.waiting_since,
		q.wait_until
	FROM distlock.queue() q
		LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid OPERATOR(pg_catalog.=) q.pid;
COMMENT ON VIEW distlock.waiters IS 'who waits for which key; position 1 is served next';

CREATE FUNCTION distlock.transaction_holders(OUT key text, OUT pid integer) RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_transaction_holders';
COMMENT ON FUNCTION distlock.transaction_holders() IS 'locks of scope transaction held now; key is NULL when no row of the table tells it, pid is NULL for a prepared transaction; see the view distlock.locks';

CREATE FUNCTION distlock.session_end(fence bigint, ttl bigint, incarnation timestamptz) RETURNS timestamptz
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_session_end';
COMMENT ON FUNCTION distlock.session_end(bigint, bigint, timestamptz) IS 'when a lock of scope session ends: infinity while its session lives, -infinity when that has ended, ttl (microseconds) after the start of the server if that has restarted since; see the view distlock.locks. Errors: 22004';

CREATE VIEW distlock.locks WITH (security_barrier) AS
	SELECT l.key,
		CASE l.scope WHEN 'l' THEN 'lease' WHEN 's' THEN 'session' END AS scope,
		l.fence,
		l.owner,
		CASE WHEN pg_catalog.pg_has_role(l.role, 'USAGE')
				OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
			THEN l.data END AS data,
		l.pid,
		pg_catalog.pg_get_userbyid(l.role) AS role,
		a.application_name,
		a.client_addr,
		l.acquired_at,
		l.expires_at,
		CASE WHEN pg_catalog.isfinite(l.expires_at)
			THEN pg_catalog.ceil(EXTRACT(epoch FROM l.expires_at OPERATOR(pg_catalog.-) l.now)
				OPERATOR(pg_catalog.*) 1000)::bigint END AS remaining_ms,
		COALESCE(w.waiters, 0)::integer AS waiters
	FROM (SELECT r.key, r.scope, r.fence, r.owner, r.data, r.pid, r.role,
				r.acquired_at, c.now,
				CASE r.scope WHEN 's' THEN distlock.session_end(r.fence, r.ttl, r.incarnation)
					ELSE r.expires_at END AS expires_at
			FROM (SELECT pg_catalog.clock_timestamp() AS now OFFSET 0) c
				JOIN distlock.lock r ON r.token IS NOT NULL
			OFFSET 0) l
		LEFT JOIN (SELECT q.key, pg_catalog.count(*) AS waiters
			FROM distlock.queue() q GROUP BY q.key) w
			ON w.key OPERATOR(pg_catalog.=) l.key
		LEFT JOIN pg_catalog.pg_stat_activity a
			ON a.pid OPERATOR(pg_catalog.=) l.pid
				AND a.backend_start OPERATOR(pg_catalog.<=) l.acquired_at
	WHERE l.expires_at OPERATOR(pg_catalog.>) l.now
	UNION ALL
	SELECT t.key,
		'transaction',
		NULL::bigint,
		NULL::text,
		NULL::text,
		t.pid,
		a.usename,
		a.application_name,
		a.client_addr,
		NULL::timestamptz,
		NULL::timestamptz,
		NULL::bigint,
		COALESCE(w.waiters, 0)::integer
	FROM distlock.transaction_holders() t
		LEFT JOIN (SELECT q.key, pg_catalog.count(*) AS waiters
			FROM distlock.queue() q GROUP BY q.key) w
			ON w.key OPERATOR(pg_catalog.=) t.key
		LEFT JOIN pg_catalog.pg_stat_activity a
			ON a.pid OPERATOR(pg_catalog.=) t.pid;
COMMENT ON VIEW distlock.locks IS 'the locks held now, as far as committed; data of other roles'' locks only for members of pg_read_all_stats; application_name and client_addr while the session that acquired lives';

-- ---------------------------------------------------------------------------
-- The worker and statistics, see src/README.worker.md and src/stats.c
-- ---------------------------------------------------------------------------

CREATE FUNCTION distlock.start_worker() RETURNS boolean
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_start_worker';
REVOKE ALL ON FUNCTION distlock.start_worker() FROM PUBLIC;
COMMENT ON FUNCTION distlock.start_worker() IS 'see to it that this database has a worker, and wait until it runs (10 s at most); false when it already did. Errors: 25006 during recovery, 53400 no place for another process, 55000 it does not start, 42501';

CREATE FUNCTION distlock.stop_worker() RETURNS boolean
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_stop_worker';
REVOKE ALL ON FUNCTION distlock.stop_worker() FROM PUBLIC;
COMMENT ON FUNCTION distlock.stop_worker() IS 'end the worker of this database and wait until it has gone (10 s at most); it stays away until start_worker() or a restart of the server. False when there was none. Errors: 55000 it does not end, 42501';

CREATE FUNCTION distlock.reset_stats() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_reset_stats';
REVOKE ALL ON FUNCTION distlock.reset_stats() FROM PUBLIC;
COMMENT ON FUNCTION distlock.reset_stats() IS 'set all that is counted for this database back to zero. Errors: 42501';

CREATE FUNCTION distlock.mirror_check(timeout interval DEFAULT '30 s', OUT mirror text,
		OUT key text, OUT redis_key text, OUT problem text) RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_mirror_check';
REVOKE ALL ON FUNCTION distlock.mirror_check(interval) FROM PUBLIC;
COMMENT ON FUNCTION distlock.mirror_check(interval) IS 'compare the locks with what is in Redis, by the worker: a row for each difference, which is then repaired. Problems: not connected, missing, foreign, different, expires early, expires late, surplus. Errors: 55000 no worker, no mirror, or not done in time; 0A000 built without Redis; 22004, 22023, 42501';

GRANT EXECUTE ON FUNCTION distlock.mirror_check(interval) TO @extowner@;
GRANT EXECUTE ON FUNCTION distlock.start_worker() TO @extowner@;
GRANT EXECUTE ON FUNCTION distlock.stop_worker() TO @extowner@;
GRANT EXECUTE ON FUNCTION distlock.reset_stats() TO @extowner@;

CREATE FUNCTION distlock.read_worker_status(OUT database oid, OUT state text, OUT pid integer,
		OUT started_at timestamptz, OUT last_pass_at timestamptz,
		OUT last_pass_ms double precision, OUT longest_step_ms double precision,
		OUT next_pass_at timestamptz, OUT passes bigint, OUT expired bigint, OUT purged bigint,
		OUT errors bigint, OUT last_error text, OUT last_error_at timestamptz) RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_read_worker_status';
COMMENT ON FUNCTION distlock.read_worker_status() IS 'the worker of this database, to members of pg_read_all_stats those of all; see the view distlock.worker_status';

CREATE FUNCTION distlock.read_mirror_status(OUT database oid, OUT mirror text, OUT state text,
		OUT since timestamptz, OUT lag_ms double precision, OUT keys bigint,
		OUT conflicts bigint, OUT connections bigint, OUT reconciled_at timestamptz,
		OUT errors bigint, OUT last_error text, OUT last_error_at timestamptz,
		OUT rank integer) RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_read_mirror_status';
COMMENT ON FUNCTION distlock.read_mirror_status() IS 'the mirrors of this database in Redis, to members of pg_read_all_stats those of all; see the view distlock.mirror_status';

CREATE VIEW distlock.mirror_status WITH (security_barrier) AS
	SELECT d.datname AS database, m.mirror, m.state, m.since, m.lag_ms, m.keys, m.conflicts,
		m.connections, m.reconciled_at, m.errors, m.last_error, m.last_error_at
	FROM distlock.read_mirror_status() m
		JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) m.database;
COMMENT ON VIEW distlock.mirror_status IS 'the mirrors of this database in Redis, to members of pg_read_all_stats those of all; state is disconnected, connecting, reconciling, failing or connected';

CREATE VIEW distlock.worker_status WITH (security_barrier) AS
	SELECT d.datname AS database, w.state, w.pid, w.started_at, w.last_pass_at,
		w.last_pass_ms, w.longest_step_ms, w.next_pass_at, w.passes, w.expired, w.purged,
		w.errors, w.last_error, w.last_error_at, m.state AS mirror_state,
		m.since AS mirror_since, m.lag_ms AS mirror_lag_ms, m.keys AS mirror_keys,
		m.conflicts AS mirror_conflicts, m.last_error AS mirror_last_error
	FROM distlock.read_worker_status() w
		JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) w.database
		LEFT JOIN (
			SELECT DISTINCT ON (s.database) s.database, s.state, s.since,
				pg_catalog.max(s.lag_ms) OVER one AS lag_ms,
				pg_catalog.min(s.keys) OVER one AS keys,
				(pg_catalog.sum(s.conflicts) OVER one)::bigint AS conflicts, s.last_error
			FROM distlock.read_mirror_status() s
			WINDOW one AS (PARTITION BY s.database)
			ORDER BY s.database, s.rank) m
			ON m.database OPERATOR(pg_catalog.=) w.database;
COMMENT ON VIEW distlock.worker_status IS 'the worker of this database, to members of pg_read_all_stats those of all; state is off, stopped, starting, running or failed; of several mirrors the one that is worst off';

CREATE FUNCTION distlock.read_stats(OUT database oid, OUT grants bigint, OUT refusals bigint,
		OUT releases bigint, OUT extensions bigint, OUT expiries bigint, OUT take_overs bigint,
		OUT waits bigint, OUT wait_ms double precision, OUT hold_ms double precision,
		OUT events bigint, OUT events_lost bigint, OUT since timestamptz) RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_read_stats';
COMMENT ON FUNCTION distlock.read_stats() IS 'what was counted for this database, to members of pg_read_all_stats for all; see the view distlock.stats';

CREATE VIEW distlock.stats WITH (security_barrier) AS
	SELECT d.datname AS database, s.grants, s.refusals, s.releases, s.extensions, s.expiries,
		s.take_overs, s.waits, s.wait_ms, s.hold_ms, s.events, s.events_lost, s.since
	FROM distlock.read_stats() s
		JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) s.database;
COMMENT ON VIEW distlock.stats IS 'what was counted for this database, to members of pg_read_all_stats for all, since the start of the server or reset_stats()';

CREATE FUNCTION distlock.read_histograms(OUT database oid, OUT what text, OUT below interval,
		OUT count bigint) RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_read_histograms';
COMMENT ON FUNCTION distlock.read_histograms() IS 'how long was waited for locks, and how long they were held; see the view distlock.stats_histograms';

CREATE VIEW distlock.stats_histograms WITH (security_barrier) AS
	SELECT d.datname AS database, h.what, h.below, h.count
	FROM distlock.read_histograms() h
		JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) h.database;
COMMENT ON VIEW distlock.stats_histograms IS 'how many waits ("wait") took, and locks were held ("hold"), less than that but not less than half of it; below is NULL for the longest';

CREATE FUNCTION distlock.read_busiest_keys(OUT key text, OUT calls bigint, OUT inherited bigint,
		OUT grants bigint, OUT refusals bigint, OUT waits bigint,
		OUT wait_ms double precision) RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'distlock_read_busiest_keys';
COMMENT ON FUNCTION distlock.read_busiest_keys() IS 'the keys of this database with most calls; see the view distlock.busiest_keys';

CREATE VIEW distlock.busiest_keys WITH (security_barrier) AS
	SELECT b.key, b.calls, b.inherited, b.grants, b.refusals, b.waits, b.wait_ms
	FROM distlock.read_busiest_keys() b;
COMMENT ON VIEW distlock.busiest_keys IS 'the keys of this database with most grants and refusals; calls may be too many by inherited; key is NULL when the table has no row for it any more';

-- What everybody may do; docs/operations.md has the block for the other choice.
GRANT USAGE ON SCHEMA distlock TO PUBLIC;
GRANT SELECT ON distlock.locks, distlock.waiters, distlock.worker_status,
	distlock.mirror_status, distlock.stats,
	distlock.stats_histograms, distlock.busiest_keys TO PUBLIC;
