-- What several regression tests use; all of it goes with the session.

-- The SQLSTATE that a statement ends with, or "ok".
CREATE FUNCTION pg_temp.sqlstate(statement text) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;

-- The first column of a statement's first row, or its SQLSTATE; "ok" for a
-- command that has no rows.
CREATE FUNCTION pg_temp.result(statement text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	IF statement !~ '^(SELECT|TABLE|SHOW) ' THEN
		EXECUTE statement;
		RETURN 'ok';
	END IF;
	EXECUTE statement INTO result;
	RETURN coalesce(nullif(result, ''), CASE WHEN result IS NULL THEN 'NULL' ELSE 'void' END);
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;

-- All that a statement's error says; numbers of processes and milliseconds,
-- which differ from run to run, are shown as N.
CREATE FUNCTION pg_temp.complaint(statement text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN regexp_replace(concat_ws(E'\n', SQLSTATE || ': ' || message,
									'DETAIL: ' || nullif(detail, ''),
									'HINT: ' || nullif(hint, '')),
						  '(process |another )[0-9]+', '\1N', 'gi');
END $$;

-- The whole state of the locks: the version of every row, by its place and the
-- transaction that wrote it, and the locks of the lock manager that this
-- session has.
CREATE FUNCTION pg_temp.lock_state() RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT concat_ws(E'\n',
		(SELECT string_agg(concat_ws(' ', l.ctid, l.xmin), E'\n' ORDER BY l.ctid)
		 FROM distlock.lock l),
		(SELECT string_agg(concat_ws(' ', classid, objid, objsubid, mode), E'\n'
						   ORDER BY classid, objid, objsubid, mode)
		 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()));
$$;

-- The result or SQLSTATE of a statement that must not change anything.
CREATE FUNCTION pg_temp.harmless(statement text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	before text := pg_temp.lock_state();
	outcome text := pg_temp.result(statement);
BEGIN
	IF outcome ~ '^(XX|58|57)...$' THEN
		outcome := outcome || ' INTERNAL ERROR';
	END IF;
	IF pg_temp.lock_state() IS DISTINCT FROM before THEN
		outcome := outcome || ' CHANGED';
	END IF;
	RETURN outcome;
END $$;

-- Wait for the end of a lease.
CREATE FUNCTION pg_temp.await_expiry(key text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	WHILE distlock.is_held(key) LOOP
		PERFORM pg_sleep(0.005);
	END LOOP;
END $$;
