-- A search_path full of traps: nothing of it is ever called.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
CREATE SCHEMA regress_hostile;
SET search_path = regress_hostile, pg_catalog;
-- functions named as those that the views and the functions use
CREATE FUNCTION regress_hostile.trap() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped' USING ERRCODE = 'XX999'; END $$;
DO $$
DECLARE
	f text;
BEGIN
	FOREACH f IN ARRAY ARRAY['now()', 'clock_timestamp()', 'transaction_timestamp()', 'count(anyelement)', 'pg_backend_pid()',
		'pg_stat_get_activity(integer)', 'gen_random_uuid()',
		'pg_get_userbyid(oid)', 'pg_has_role(oid, text)', 'pg_has_role(name, text)', 'pg_has_role(text, text)',
		'ceil(numeric)', 'ceil(double precision)', 'date_part(text, interval)', 'extract(text, interval)',
		'int4(bigint)', 'int8(numeric)', 'texteq(text, text)', 'bttextcmp(text, text)', 'hashtext(text)', 'nextval(regclass)',
		'acquire(text, interval)', 'release(text, text)', 'is_held(text)'] LOOP
		EXECUTE format('CREATE FUNCTION regress_hostile.%s RETURNS text LANGUAGE plpgsql AS %L', f,
			'BEGIN PERFORM regress_hostile.trap(); RETURN NULL; END');
	END LOOP;
END $$;
-- operators that would fit as well or better
CREATE FUNCTION regress_hostile.trap(anyelement, anyelement) RETURNS boolean LANGUAGE plpgsql AS
	$$ BEGIN PERFORM regress_hostile.trap(); RETURN NULL; END $$;
CREATE FUNCTION regress_hostile.trap(text, text) RETURNS boolean LANGUAGE plpgsql AS
	$$ BEGIN PERFORM regress_hostile.trap(); RETURN NULL; END $$;
CREATE FUNCTION regress_hostile.trap(timestamptz, timestamptz) RETURNS interval LANGUAGE plpgsql AS
	$$ BEGIN PERFORM regress_hostile.trap(); RETURN NULL; END $$;
CREATE FUNCTION regress_hostile.trap(numeric, integer) RETURNS numeric LANGUAGE plpgsql AS
	$$ BEGIN PERFORM regress_hostile.trap(); RETURN NULL; END $$;
DO $$
DECLARE
	op text;
BEGIN
	FOREACH op IN ARRAY ARRAY['=', '<', '<=', '>', '>=', '<>'] LOOP
		EXECUTE format('CREATE OPERATOR regress_hostile.%s (LEFTARG = anyelement, RIGHTARG = anyelement, FUNCTION = regress_hostile.trap)', op);
		EXECUTE format('CREATE OPERATOR regress_hostile.%s (LEFTARG = text, RIGHTARG = text, FUNCTION = regress_hostile.trap)', op);
	END LOOP;
END $$;
CREATE OPERATOR regress_hostile.- (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = regress_hostile.trap);
CREATE OPERATOR regress_hostile.* (LEFTARG = numeric, RIGHTARG = integer, FUNCTION = regress_hostile.trap);
-- relations and types of the same names, also temporary ones
CREATE TABLE regress_hostile.lock (key int);
CREATE TABLE regress_hostile.fence_seq ();
CREATE VIEW regress_hostile.pg_stat_activity AS SELECT 1 AS pid;
CREATE TYPE regress_hostile.retry AS ENUM ('trap');
CREATE TEMP TABLE lock (key int);
CREATE TEMP TABLE fence_seq ();
SET search_path = regress_hostile, pg_temp, pg_catalog, distlock;
-- the traps are set
SELECT pg_temp.sqlstate($$SELECT 'a'::text = 'b'::text$$) AS operator, pg_temp.sqlstate('SELECT clock_timestamp()') AS function;
-- and the locks do not notice
SELECT distlock.acquire_with_token('job', 'tok', '1 h', owner => 'me', data => 'data') OPERATOR(pg_catalog.>) 0 AS fence;
SELECT distlock.try_acquire('job', '1 h') IS NULL AS refused;
SELECT distlock.try_acquire('job', '1 h', wait => '5 ms') IS NULL AS refused;
SELECT distlock.try_acquire('job', '1 h', retry => distlock.limit_retry(distlock.exponential_backoff('1 ms', '2 ms'), 2)) IS NULL AS refused;
SELECT distlock.acquire_with_token('job', 'tok', '1 h') OPERATOR(pg_catalog.>) 0 AS again;
SELECT distlock.extend('job', 'tok', '2 h') IS NOT NULL AS extended, distlock.ensure('job', 'tok', '3 h') IS NOT NULL AS ensured;
SELECT distlock.ttl('job', 'tok') IS NOT NULL AS ttl, distlock.fence('job', 'tok') IS NOT NULL AS fence, distlock.is_held('job');
SELECT key, scope, owner, data, remaining_ms OPERATOR(pg_catalog.>) 0 AS remaining, waiters FROM distlock.locks;
SELECT key FROM distlock.waiters;
SELECT distlock.extend_all('tok', '1 h'), distlock.release_all('tok');
SELECT distlock.force_acquire('job', '1 h') IS NOT NULL AS acquired, distlock.force_release('job');
SELECT distlock.advance_fence() IS NOT NULL AS advanced;
CALL distlock.purge();
-- nor does the installation
BEGIN;
SET LOCAL client_min_messages = warning;
DROP EXTENSION distlock;
CREATE EXTENSION distlock;
SELECT distlock.acquire_with_token('job', 'tok', '1 h') IS NOT NULL AS acquired;
SELECT key, scope, waiters FROM distlock.locks;
SELECT distlock.release('job', 'tok');
ROLLBACK;
RESET search_path;
-- casts have no schema
BEGIN;
CREATE FUNCTION regress_hostile.to_interval(text) RETURNS interval LANGUAGE plpgsql AS
	$$ BEGIN PERFORM regress_hostile.trap(); END $$;
CREATE CAST (text AS interval) WITH FUNCTION regress_hostile.to_interval(text) AS IMPLICIT;
CREATE FUNCTION regress_hostile.to_int(text) RETURNS integer LANGUAGE plpgsql AS
	$$ BEGIN PERFORM regress_hostile.trap(); END $$;
CREATE CAST (text AS integer) WITH FUNCTION regress_hostile.to_int(text) AS IMPLICIT;
SELECT distlock.acquire_with_token('job', 'tok', '1 h') IS NOT NULL AS acquired;
SELECT key, scope FROM distlock.locks;
ROLLBACK;
SET client_min_messages = warning;
DROP SCHEMA regress_hostile CASCADE;
SELECT distlock.is_held('job');
