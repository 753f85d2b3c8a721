-- Calls from where no lock function belongs: indexes, constraints, views, policies.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.acquire_with_token('job', 'tok', '1 h') AS fence \gset
CREATE SCHEMA regress_places;
-- a wrapper that lies about what it does
CREATE FUNCTION regress_places.take(key text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
	RETURN distlock.try_acquire_with_token(key, 'place', '1 h') IS NOT NULL;
END $$;
CREATE TABLE regress_places.t (k text) WITH (autovacuum_enabled = off);
INSERT INTO regress_places.t VALUES ('place 1'), ('place 2'), ('job');
-- the true functions are refused where only immutable ones may be
SELECT pg_temp.harmless(statement) AS sqlstate, statement
FROM (VALUES
	($$CREATE INDEX ON regress_places.t ((distlock.try_acquire(k, '1 h')))$$),
	($$CREATE INDEX ON regress_places.t (k) WHERE distlock.is_held(k)$$),
	($$ALTER TABLE regress_places.t ADD g text GENERATED ALWAYS AS (distlock.try_acquire(k, '1 h')) STORED$$),
	($$CREATE TABLE regress_places.p (k text) PARTITION BY LIST (distlock.is_held(k))$$)) t(statement);
-- an index on the wrapper takes the locks of its rows, for good or ill
CREATE INDEX places_index ON regress_places.t (regress_places.take(k));
SELECT key FROM distlock.locks WHERE key LIKE 'place %' ORDER BY key;
INSERT INTO regress_places.t VALUES ('place 3');
ANALYZE regress_places.t;
REINDEX INDEX regress_places.places_index;
SELECT distlock.release_all('place');
CREATE INDEX CONCURRENTLY places_index2 ON regress_places.t (regress_places.take(k));
VACUUM regress_places.t;
DROP INDEX regress_places.places_index, regress_places.places_index2;
SELECT distlock.release_all('place');
-- generated column, check, default, domain
ALTER TABLE regress_places.t ADD g boolean GENERATED ALWAYS AS (regress_places.take(k)) STORED;
SELECT k, g FROM regress_places.t ORDER BY k;
ALTER TABLE regress_places.t DROP g;
ALTER TABLE regress_places.t ADD CHECK (distlock.try_acquire_with_token(k, 'place', '1 h') IS NOT NULL) NOT VALID;
INSERT INTO regress_places.t VALUES ('place 4');
SELECT pg_temp.harmless($$INSERT INTO regress_places.t VALUES ('job')$$);
ALTER TABLE regress_places.t DROP CONSTRAINT t_k_check;
CREATE DOMAIN regress_places.d AS text CHECK (distlock.is_held(VALUE));
SELECT 'job'::regress_places.d;
SELECT pg_temp.harmless($$SELECT 'place 5'::regress_places.d$$);
SELECT distlock.release_all('place');
-- triggers, also one that is deferred to the commit
CREATE FUNCTION regress_places.trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM distlock.acquire_with_token(NEW.k, 'place', '1 h');
	RETURN NEW;
END $$;
CREATE TRIGGER before BEFORE INSERT ON regress_places.t FOR EACH ROW EXECUTE FUNCTION regress_places.trigger();
CREATE CONSTRAINT TRIGGER deferred AFTER UPDATE ON regress_places.t DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION regress_places.trigger();
INSERT INTO regress_places.t VALUES ('place 6');
SELECT pg_temp.harmless($$INSERT INTO regress_places.t VALUES ('job')$$);
BEGIN;
UPDATE regress_places.t SET k = 'place 7' WHERE k = 'place 6';
SELECT distlock.is_held('place 6'), distlock.is_held('place 7');
COMMIT;
SELECT distlock.is_held('place 6'), distlock.is_held('place 7');
DROP TRIGGER before ON regress_places.t;
DROP TRIGGER deferred ON regress_places.t;
SELECT distlock.release_all('place');
-- views, materialized too, rules, policies
CREATE MATERIALIZED VIEW regress_places.m AS SELECT k, distlock.try_acquire_with_token(k, 'place', '1 h') IS NOT NULL AS granted
	FROM regress_places.t WHERE k IN ('place 1', 'job');
TABLE regress_places.m ORDER BY k;
REFRESH MATERIALIZED VIEW regress_places.m;
SELECT distlock.release_all('place');
CREATE RULE r AS ON DELETE TO regress_places.t DO ALSO SELECT distlock.try_acquire_with_token('place 8', 'place', '1 h') IS NOT NULL AS granted;
DELETE FROM regress_places.t WHERE k = 'nobody';
DROP RULE r ON regress_places.t;
CREATE ROLE regress_distlock_user;
GRANT USAGE ON SCHEMA regress_places TO regress_distlock_user;
GRANT SELECT ON regress_places.t TO regress_distlock_user;
ALTER TABLE regress_places.t ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON regress_places.t USING (distlock.try_acquire_with_token(k, 'place', '1 h') IS NOT NULL);
SET ROLE regress_distlock_user;
SELECT count(*) FROM regress_places.t WHERE k LIKE 'place %' OR k = 'job';
RESET ROLE;
SELECT key FROM distlock.locks WHERE key LIKE 'place %' ORDER BY key;
SELECT distlock.release_all('place');
-- a sort with a limit
SELECT count(*) FROM (SELECT k FROM regress_places.t ORDER BY distlock.try_acquire_with_token(k, 'place', '1 h') IS NULL, k LIMIT 1) s;
SELECT distlock.release_all('place') > 0 AS released;
SET client_min_messages = warning;
DROP SCHEMA regress_places CASCADE;
DROP ROLE regress_distlock_user;
SELECT distlock.fence('job', 'tok') = :fence AS still_held;
SELECT distlock.release('job', 'tok');
