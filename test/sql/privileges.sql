-- What a plain user may do, and what not.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
CREATE ROLE regress_distlock_user;
CREATE ROLE regress_distlock_other;
SELECT distlock.acquire_with_token('job', 'tok', '1 h', owner => 'admin', data => 'of the admin') IS NOT NULL AS acquired;
-- what PUBLIC has been given
SELECT p.proname AS function, p.prokind AS kind
FROM pg_proc p
WHERE p.pronamespace = 'distlock'::regnamespace AND NOT has_function_privilege('regress_distlock_user', p.oid, 'EXECUTE')
ORDER BY 1;
SELECT c.relname, c.relkind, privilege
FROM pg_class c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER', 'USAGE']) privilege
WHERE c.relnamespace = 'distlock'::regnamespace AND c.relkind <> 'i' AND c.relkind <> 'c'
	AND CASE WHEN c.relkind = 'S' THEN privilege IN ('SELECT', 'UPDATE', 'USAGE') AND has_sequence_privilege('regress_distlock_user', c.oid, privilege)
			WHEN privilege = 'USAGE' THEN false
			ELSE has_table_privilege('regress_distlock_user', c.oid, privilege)
				OR (privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') AND has_any_column_privilege('regress_distlock_user', c.oid, privilege)) END
ORDER BY 1, 3;
SELECT has_schema_privilege('regress_distlock_user', 'distlock', 'USAGE') AS usage, has_schema_privilege('regress_distlock_user', 'distlock', 'CREATE') AS "create";
SELECT DISTINCT pg_get_userbyid(nspowner) = pg_get_userbyid(10) AS schema, pg_get_userbyid(relowner) = pg_get_userbyid(10) AS relations
FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid WHERE nspname = 'distlock';
SET ROLE regress_distlock_user;
SELECT pg_temp.harmless(statement) AS sqlstate, statement
FROM (VALUES
	($$SELECT * FROM distlock.lock$$),
	($$SELECT token FROM distlock.lock$$),
	($$SELECT ctid FROM distlock.lock$$),
	($$SELECT count(*) FROM distlock.lock$$),
	($$TABLE distlock.fence_seq$$),
	($$TABLE distlock.epoch_seq$$),
	($$TABLE distlock.incarnation_seq$$),
	($$SELECT nextval('distlock.fence_seq')$$),
	($$SELECT setval('distlock.fence_seq', 1)$$),
	($$SELECT setval('distlock.incarnation_seq', 1)$$),
	($$INSERT INTO distlock.lock (key) VALUES ('k')$$),
	($$UPDATE distlock.lock SET token = 'mine'$$),
	($$DELETE FROM distlock.lock$$),
	($$TRUNCATE distlock.lock$$),
	($$LOCK TABLE distlock.lock$$),
	($$LOCK TABLE distlock.lock IN ACCESS SHARE MODE$$),
	($$SELECT 1 FROM distlock.lock FOR UPDATE$$),
	($$CREATE INDEX ON distlock.lock (owner)$$),
	($$CREATE TRIGGER t BEFORE UPDATE ON distlock.lock EXECUTE FUNCTION suppress_redundant_updates_trigger()$$),
	($$CREATE RULE r AS ON UPDATE TO distlock.lock DO INSTEAD NOTHING$$),
	($$ALTER TABLE distlock.lock ADD x int$$),
	($$ALTER TABLE distlock.lock DISABLE TRIGGER ALL$$),
	($$DROP TABLE distlock.lock$$),
	($$CREATE TABLE distlock.mine ()$$),
	($$CREATE FUNCTION distlock.acquire(text) RETURNS text LANGUAGE sql AS 'SELECT 1::text'$$),
	($$CREATE OR REPLACE VIEW distlock.locks AS SELECT 1$$),
	($$DROP FUNCTION distlock.release(text, text)$$),
	($$ALTER FUNCTION distlock.release(text, text) RENAME TO r$$),
	($$DROP SCHEMA distlock CASCADE$$),
	($$DROP EXTENSION distlock$$),
	($$ALTER EXTENSION distlock UPDATE$$),
	($$CREATE FUNCTION pg_temp.f(text) RETURNS boolean LANGUAGE c AS '$libdir/distlock', 'distlock_force_release'$$),
	($$SELECT distlock.force_release('job')$$),
	($$SELECT distlock.force_acquire('job', '1 h')$$),
	($$SELECT distlock.advance_fence()$$),
	($$CALL distlock.purge()$$),
	($$UPDATE distlock.locks SET owner = 'me'$$),
	($$DELETE FROM distlock.locks$$),
	($$SELECT token FROM distlock.locks$$)) t(statement);
-- what it is for
SELECT distlock.try_acquire('job', '1 h') IS NULL AS refused;
SELECT pg_temp.complaint($$SELECT distlock.acquire('job', '1 h')$$);
SELECT distlock.acquire_with_token('mine', 'tok', '1 h', owner => 'user', data => 'of the user') IS NOT NULL AS acquired;
SELECT distlock.extend('mine', 'tok') IS NOT NULL AS extended, distlock.ensure('mine', 'tok', '1 min') IS NOT NULL AS ensured,
	distlock.ttl('mine', 'tok') > '59 min' AS ttl, distlock.fence('mine', 'tok') > 0 AS fence, distlock.is_held('mine');
SELECT distlock.acquire_with_token('my session', 'tok', '1 h', scope => 'session') > 0 AS session, distlock.guard('mine', 'tok') > 0 AS guarded,
	distlock.do_exclusively('my job', '1 min', 'SELECT distlock.current_fence()') AS rows, distlock.current_fence() IS NULL AS no_fence;
CALL distlock.run_exclusively('my job', '1 min', 'SELECT distlock.current_fence()');
SELECT distlock.release('my session', 'tok');
BEGIN;
SELECT distlock.acquire('my transaction', '1 h', scope => 'transaction') IS NOT NULL AS transaction;
SELECT scope, role = session_user AS session_user FROM distlock.locks WHERE scope = 'transaction';
SELECT count(*) FROM distlock.transaction_holders();
COMMIT;
SELECT distlock.session_end(1, 1000, now()) > now() AS live, distlock.session_end(9223372036854775807, 1000, '-infinity') > now() AS live;
-- the view: everybody's locks, one's own data
SELECT key, owner, data, role = current_user AS own FROM distlock.locks WHERE key IN ('job', 'mine') ORDER BY key;
SELECT count(*) FROM distlock.waiters;
-- the barrier of the view holds
CREATE FUNCTION pg_temp.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$
BEGIN
	IF $1 LIKE '%admin%' THEN
		RAISE NOTICE 'saw %', $1;
	END IF;
	RETURN true;
END $$;
SELECT key FROM distlock.locks WHERE pg_temp.leak(data) AND key IN ('job', 'mine') ORDER BY key;
SET ROLE regress_distlock_other;
SELECT key, owner, data FROM distlock.locks WHERE key IN ('job', 'mine') ORDER BY key;
-- who knows the token, may: it is the token that counts
SELECT distlock.try_release('mine', 'wrong'), distlock.try_release('mine', 'tok');
RESET ROLE;
-- members and monitors see the data
SELECT distlock.acquire_with_token('admin', 'tok', '1 h', data => 'more of the admin') IS NOT NULL AS acquired;
SET ROLE regress_distlock_user;
SELECT distlock.acquire_with_token('mine', 'tok', '1 h', data => 'of the user') IS NOT NULL AS acquired;
RESET ROLE;
GRANT regress_distlock_user TO regress_distlock_other;
SET ROLE regress_distlock_other;
SELECT key, data FROM distlock.locks WHERE key IN ('admin', 'mine') ORDER BY key;
RESET ROLE;
REVOKE regress_distlock_user FROM regress_distlock_other;
GRANT pg_monitor TO regress_distlock_other;
SET ROLE regress_distlock_other;
SELECT key, data FROM distlock.locks WHERE key IN ('admin', 'mine') ORDER BY key;
RESET ROLE;
SELECT key, data FROM distlock.locks WHERE key IN ('admin', 'mine') ORDER BY key;
-- administration can be given
GRANT EXECUTE ON FUNCTION distlock.force_release(text) TO regress_distlock_other;
GRANT EXECUTE ON PROCEDURE distlock.purge() TO regress_distlock_other;
SET ROLE regress_distlock_other;
SELECT distlock.force_release('job'), distlock.force_release('mine'), distlock.force_release('admin');
CALL distlock.purge();
RESET ROLE;
-- the other choice: only some may lock at all
BEGIN;
REVOKE USAGE ON SCHEMA distlock FROM PUBLIC;
SET LOCAL ROLE regress_distlock_user;
SELECT pg_temp.sqlstate($$SELECT distlock.try_acquire('job', '1 h')$$), pg_temp.sqlstate($$TABLE distlock.locks$$);
ROLLBACK;
DROP OWNED BY regress_distlock_user, regress_distlock_other;
DROP ROLE regress_distlock_user, regress_distlock_other;
