-- Within functions, with EXCEPTION blocks: the transaction remains usable.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SELECT distlock.acquire_with_token('held', 'tok', '1 min') IS NOT NULL AS acquired;
DO $$
DECLARE
	token text;
	n int;
BEGIN
	-- refused by an error
	BEGIN
		PERFORM distlock.acquire('held', '1 min');
		RAISE EXCEPTION 'this was not to be granted';
	EXCEPTION WHEN lock_not_available THEN
		RAISE NOTICE 'refused: %', SQLSTATE;
	END;
	BEGIN
		PERFORM distlock.release('held', 'wrong');
		RAISE EXCEPTION 'this was not to be released';
	EXCEPTION WHEN SQLSTATE 'LK001' THEN
		RAISE NOTICE 'not held: %', SQLSTATE;
	END;
	-- granted, and taken back by an error of somebody else
	BEGIN
		token := distlock.acquire('job', '1 min');
		PERFORM 1 / 0;
	EXCEPTION WHEN division_by_zero THEN
		RAISE NOTICE 'held: %, with the token: %', distlock.is_held('job'), distlock.fence('job', token) IS NOT NULL;
	END;
	SELECT count(*) INTO n FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
	RAISE NOTICE 'locks: %', n;
	-- granted now
	token := distlock.try_acquire('job', '1 min');
	RAISE NOTICE 'granted: %', token IS NOT NULL;
	PERFORM distlock.release('job', token);
	RAISE NOTICE 'held: %', distlock.is_held('job');
END $$;
-- a loop of calls
DO $$
DECLARE
	token text;
	fence bigint;
	last bigint := 0;
BEGIN
	FOR i IN 1 .. 100 LOOP
		token := distlock.acquire('job', '1 min');
		fence := distlock.fence('job', token);
		IF fence <= last THEN
			RAISE EXCEPTION 'fence % after %', fence, last;
		END IF;
		last := fence;
		PERFORM distlock.release('job', token);
	END LOOP;
END $$;
-- transactions within a procedure: each grant is committed
CREATE PROCEDURE pg_temp.work() LANGUAGE plpgsql AS $$
DECLARE
	token text;
BEGIN
	token := distlock.acquire('job', '1 min');
	COMMIT;
	RAISE NOTICE 'held: %, no locks: %', distlock.is_held('job'),
		(SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid());
	PERFORM distlock.release('job', token);
	ROLLBACK;
	RAISE NOTICE 'held: %', distlock.is_held('job');
	PERFORM distlock.release('job', token);
	COMMIT;
	RAISE NOTICE 'held: %', distlock.is_held('job');
END $$;
CALL pg_temp.work();
SELECT distlock.release('held', 'tok');
