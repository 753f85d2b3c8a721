-- Settings that change how SQL is read, written and run change nothing here.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
CREATE FUNCTION pg_temp.life() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	token text;
	fence1 bigint;
	fence2 bigint;
	till timestamptz;
	left_ms bigint;
BEGIN
	token := distlock.acquire('life', '1 day', owner => 'me', data => 'data');
	fence1 := distlock.fence('life', token);
	IF distlock.try_acquire('life', '1 s') IS NOT NULL THEN RETURN 'granted twice'; END IF;
	IF distlock.try_acquire('life', '1 s', wait => '2 ms') IS NOT NULL THEN RETURN 'granted twice'; END IF;
	SELECT remaining_ms INTO left_ms FROM distlock.locks WHERE key = 'life' AND owner = 'me' AND data = 'data';
	IF left_ms NOT BETWEEN 86340000 AND 86400000 THEN RETURN format('%s ms left', left_ms); END IF;
	IF distlock.ttl('life', token) NOT BETWEEN '23:59' AND '24:00' THEN RETURN format('%s left', distlock.ttl('life', token)); END IF;
	till := distlock.extend('life', token, '36:00');
	IF extract(epoch FROM till - clock_timestamp()) NOT BETWEEN 129540 AND 129600 THEN RETURN format('till %s', till); END IF;
	IF distlock.ensure('life', token, '1 s') <> till THEN RETURN 'shortened'; END IF;
	IF distlock.try_release('life', 'wrong') THEN RETURN 'released by another'; END IF;
	PERFORM distlock.release('life', token);
	token := distlock.acquire('life', '1 day', retry => distlock.limit_retry(distlock.exponential_backoff('1 ms', '2 ms'), 1));
	fence2 := distlock.fence('life', token);
	IF fence2 <= fence1 THEN RETURN 'fence fell'; END IF;
	IF distlock.release_all(token) <> 1 THEN RETURN 'not released'; END IF;
	RETURN 'ok';
END $$;
CREATE TEMP TABLE hostile (number serial, name text, value text);
INSERT INTO hostile (name, value) VALUES
	('timezone', 'Europe/Berlin'), ('timezone', 'America/St_Johns'), ('timezone', 'Pacific/Kiritimati'), ('timezone', '-13:37'),
	('intervalstyle', 'sql_standard'), ('intervalstyle', 'postgres_verbose'), ('intervalstyle', 'iso_8601'), ('intervalstyle', 'postgres'),
	('datestyle', 'ISO, DMY'), ('datestyle', 'German'), ('datestyle', 'SQL, MDY'), ('datestyle', 'Postgres, YMD'),
	('row_security', 'off'), ('session_replication_role', 'replica'), ('session_replication_role', 'local'),
	('default_tablespace', 'pg_global'), ('default_table_access_method', 'heap'), ('default_toast_compression', 'pglz'),
	('default_transaction_isolation', 'serializable'), ('default_transaction_deferrable', 'on'),
	('enable_indexscan', 'off'), ('enable_seqscan', 'off'), ('enable_hashjoin', 'off'), ('enable_nestloop', 'off'),
	('constraint_exclusion', 'on'), ('quote_all_identifiers', 'on'), ('array_nulls', 'off'), ('backslash_quote', 'off'),
	('bytea_output', 'escape'), ('extra_float_digits', '-15'), ('escape_string_warning', 'on'), ('standard_conforming_strings', 'on'),
	('transform_null_equals', 'on'), ('check_function_bodies', 'off'), ('client_min_messages', 'error'), ('lc_numeric', 'C'),
	('synchronous_commit', 'off'), ('commit_delay', '10'), ('lock_timeout', '3s'), ('deadlock_timeout', '1ms'),
	('idle_in_transaction_session_timeout', '10s'), ('work_mem', '64'), ('jit_above_cost', '0'),
	('max_parallel_workers_per_gather', '8'), ('parallel_setup_cost', '0'), ('min_parallel_table_scan_size', '0'),
	('ignore_checksum_failure', 'on'), ('allow_system_table_mods', 'on'), ('log_statement', 'all'), ('track_functions', 'all'),
	('statement_timeout', '30s'), ('vacuum_freeze_min_age', '0'), ('distlock.durable', 'off'), ('distlock.durable', 'on');
CREATE FUNCTION pg_temp.life_with(name text, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before text := current_setting(name);
	result text;
BEGIN
	PERFORM set_config(name, value, true);
	result := pg_temp.life();
	PERFORM set_config(name, before, true);
	RETURN result;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
SELECT pg_temp.life();
CREATE TEMP TABLE tried AS SELECT number, name, value, pg_temp.life_with(name, value) AS result FROM hostile;
SELECT count(*) AS ok FROM tried WHERE result = 'ok';
SELECT name, value, result FROM tried WHERE result <> 'ok' ORDER BY number;
-- all at once, and in transactions of their own
SELECT set_config(name, value, false) IS NOT NULL AS set FROM hostile
WHERE name <> 'default_transaction_deferrable' AND name NOT LIKE '%timeout' \g /dev/null
BEGIN;
SELECT pg_temp.life();
COMMIT;
SELECT pg_temp.life();
SELECT distlock.acquire_with_token('job', 'tok', '1 day') IS NOT NULL AS acquired;
SELECT distlock.is_held('job');
SELECT count(*) FROM distlock.locks WHERE key = 'job';
SELECT distlock.release('job', 'tok');
