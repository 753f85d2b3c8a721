-- What somebody puts on the lock table is not run; what cannot be borne is refused.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.acquire_with_token('job', 'tok', '1 h') AS fence \gset
CREATE FUNCTION pg_temp.trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE FUNCTION pg_temp.use() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM distlock.extend('job', 'tok'), distlock.is_held('job'), distlock.fence('job', 'tok');
	PERFORM distlock.try_acquire('job', '1 h');
	PERFORM distlock.release('job', 'tok');
	PERFORM distlock.acquire_with_token('job', 'tok', '1 h');
	PERFORM distlock.acquire_with_token('table new', 'tok', '1 h');
	PERFORM distlock.release_all('tok');
	RETURN format('%s of 2 free', (SELECT count(*) FROM distlock.lock WHERE key IN ('job', 'table new') AND token IS NULL));
END $$;
-- not run
BEGIN;
CREATE TRIGGER a BEFORE INSERT OR UPDATE OR DELETE ON distlock.lock FOR EACH ROW EXECUTE FUNCTION pg_temp.trap();
CREATE TRIGGER b AFTER INSERT OR UPDATE OR DELETE ON distlock.lock FOR EACH STATEMENT EXECUTE FUNCTION pg_temp.trap();
ALTER TABLE distlock.lock ENABLE ALWAYS TRIGGER a;
SELECT pg_temp.use();
ROLLBACK;
BEGIN;
CREATE RULE a AS ON UPDATE TO distlock.lock DO INSTEAD NOTHING;
CREATE RULE b AS ON INSERT TO distlock.lock DO INSTEAD NOTHING;
SELECT pg_temp.use();
ROLLBACK;
BEGIN;
ALTER TABLE distlock.lock ENABLE ROW LEVEL SECURITY;
ALTER TABLE distlock.lock FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON distlock.lock USING (false);
SELECT pg_temp.use();
ROLLBACK;
BEGIN;
ALTER TABLE distlock.lock ADD CHECK (key = 'never') NOT VALID;
SELECT pg_temp.use();
ROLLBACK;
BEGIN;
ALTER TABLE distlock.lock ALTER owner SET DEFAULT 'somebody', ALTER ttl SET DEFAULT 1;
ALTER TABLE distlock.lock SET (fillfactor = 50);
ALTER TABLE distlock.lock ALTER data SET STATISTICS 0;
ALTER TABLE distlock.lock REPLICA IDENTITY FULL;
SELECT pg_temp.use();
ROLLBACK;
SELECT distlock.fence('job', 'tok') = :fence AS still_held;
-- rewritten and reindexed: still good
BEGIN;
CLUSTER distlock.lock USING lock_pkey;
REINDEX TABLE distlock.lock;
SELECT pg_temp.use();
ROLLBACK;
VACUUM FULL distlock.lock;
REINDEX INDEX CONCURRENTLY distlock.lock_pkey;
SELECT distlock.extend('job', 'tok') IS NOT NULL AS extended;
-- refused
BEGIN;
CREATE INDEX lock_more ON distlock.lock (expires_at);
SAVEPOINT s;
SELECT distlock.extend('job', 'tok');
ROLLBACK TO s;
SELECT pg_temp.result(statement), statement
FROM (VALUES ($$SELECT distlock.acquire('job', '1 h')$$), ($$SELECT distlock.try_acquire('job', '1 h')$$),
	($$SELECT distlock.release('job', 'tok')$$), ($$SELECT distlock.try_release('job', 'tok')$$),
	($$SELECT distlock.release_all('tok')$$), ($$SELECT distlock.is_held('job')$$), ($$SELECT distlock.fence('job', 'tok')$$),
	($$SELECT distlock.force_release('job')$$), ($$SELECT distlock.key_id('job') <> 0$$)) t(statement);
DROP INDEX distlock.lock_more;
SELECT pg_temp.use();
ROLLBACK;
-- other indexes, columns, types, names: each in its turn
CREATE FUNCTION pg_temp.with_change(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE change;
	BEGIN
		result := pg_temp.use();
	EXCEPTION WHEN OTHERS THEN
		result := SQLSTATE;
	END;
	RAISE EXCEPTION USING ERRCODE = 'RB000', MESSAGE = result;
EXCEPTION
	WHEN SQLSTATE 'RB000' THEN RETURN SQLERRM;
	WHEN OTHERS THEN RETURN 'no change: ' || SQLSTATE;
END $$;
SELECT pg_temp.with_change(change) AS result, change
FROM (VALUES
	('CREATE UNIQUE INDEX ON distlock.lock (key)'),
	('CREATE INDEX ON distlock.lock (key) WHERE token IS NULL'),
	('CREATE INDEX ON distlock.lock USING hash (token)'),
	('ALTER TABLE distlock.lock ADD UNIQUE (fence)'),
	('ALTER TABLE distlock.lock DROP CONSTRAINT lock_pkey'),
	('ALTER TABLE distlock.lock ADD note text'),
	('ALTER TABLE distlock.lock RENAME token TO secret'),
	('ALTER TABLE distlock.lock SET UNLOGGED'),
	('ALTER TABLE distlock.lock RENAME TO locked'),
	('ALTER TABLE distlock.lock SET SCHEMA public'),
	('ALTER SEQUENCE distlock.fence_seq RENAME TO seq')) c(change);
SELECT distlock.fence('job', 'tok') = :fence AS still_held;
-- changed by SQL, against the rules: at least nothing breaks
BEGIN;
UPDATE distlock.lock SET owner = 'by hand' WHERE key = 'job';
SELECT distlock.extend('job', 'tok') IS NOT NULL AS extended;
DELETE FROM distlock.lock WHERE key = 'job';
SELECT distlock.try_release('job', 'tok'), distlock.is_held('job');
SELECT distlock.acquire_with_token('job', 'tok', '1 h') > :fence AS acquired;
TRUNCATE distlock.lock;
SELECT distlock.try_release('job', 'tok'), distlock.is_held('job');
SELECT distlock.acquire_with_token('job', 'tok', '1 h') > :fence AS acquired;
ROLLBACK;
SELECT distlock.release('job', 'tok');
