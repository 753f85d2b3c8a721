-- demo.sql: the bank's books, made from pgbench's tables, the jobs of the
-- month-end, and the views that judge the books.  tools/demo runs this once;
-- variable: nights.

-- An account opens with 10,000 to 10,999, so that its number alone says what
-- it must hold after any number of nights.
UPDATE pgbench_accounts SET abalance = 10000 + aid % 1000;
VACUUM ANALYZE pgbench_accounts;

CREATE TABLE calendar AS
	SELECT date '2026-01-05' + i AS night FROM generate_series(0, :nights - 1) AS i;

-- A line for each time that interest was posted.  Nothing here forbids two
-- lines for one night: that is what the lock is for.
CREATE TABLE ledger (
	line serial PRIMARY KEY,
	night date NOT NULL,
	session integer NOT NULL,
	fence bigint,
	accounts bigint NOT NULL,
	interest bigint NOT NULL
);

-- What became of each session in each night.
CREATE TABLE runs (
	night date NOT NULL,
	session integer NOT NULL,
	outcome text NOT NULL,		-- turned away, working, posted, nothing to do
	asked_at timestamptz,
	answered_at timestamptz,
	fence bigint,				-- this and the next two as the lock has them
	acquired_at timestamptz,
	expires_at timestamptz,
	released_at timestamptz		-- when the release was called, just before its COMMIT
);

-- A line for each time that a chunk of accounts was charged, and for each time
-- that the month was closed.
CREATE TABLE fees (
	line serial PRIMARY KEY,
	chunk integer NOT NULL,
	session text NOT NULL DEFAULT current_setting('application_name'),
	fence bigint DEFAULT distlock.current_fence()
);

CREATE TABLE closings (
	session text NOT NULL DEFAULT current_setting('application_name'),
	money bigint NOT NULL
);

-- The month-end: every account pays a fee of 25 to its branch.  This checks,
-- then acts, chunk by chunk; what has been committed is not done again.
CREATE PROCEDURE charge_fees() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. 10 LOOP
		CONTINUE WHEN EXISTS (SELECT FROM fees WHERE chunk = i);
		INSERT INTO fees (chunk) VALUES (i);
		UPDATE pgbench_accounts SET abalance = abalance - 25
			WHERE aid BETWEEN 10000 * (i - 1) + 1 AND 10000 * i;
		IF i = 6 THEN
			PERFORM pg_advisory_xact_lock_shared(2);
		END IF;
		UPDATE pgbench_branches SET bbalance = bbalance + 25 * 10000;
		COMMIT;
	END LOOP;
END
$$;

CREATE FUNCTION close_month() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM closings) THEN
		INSERT INTO closings (money) SELECT sum(abalance) FROM pgbench_accounts;
		PERFORM pg_advisory_xact_lock_shared(2);
	END IF;
END
$$;

-- The grants in their order.  The one before ended at its release or, where
-- its holder died, at its expiry.
CREATE VIEW grants AS
	SELECT night, session, asked_at, acquired_at,
		lag(COALESCE(released_at, expires_at)) OVER by_fence AS free_at,
		lag(released_at IS NULL) OVER by_fence AS took_over
	FROM runs
	WHERE fence IS NOT NULL
	WINDOW by_fence AS (ORDER BY fence);

CREATE VIEW summary AS
	SELECT night,
		(SELECT string_agg(l.session::text, ', ' ORDER BY line)
			FROM ledger l WHERE l.night = r.night) AS "posted by session",
		count(*) AS sessions,
		count(*) FILTER (WHERE outcome = 'turned away') AS "turned away",
		count(*) FILTER (WHERE r.asked_at < free_at) AS queued,
		count(*) FILTER (WHERE outcome = 'working') AS killed,
		round(1000 * max(EXTRACT(epoch FROM answered_at - r.asked_at)))
			AS "longest wait, ms",
		round(percentile_cont(0.5) WITHIN GROUP (
				ORDER BY 1000 * EXTRACT(epoch FROM g.acquired_at - free_at))
			FILTER (WHERE r.asked_at < free_at AND NOT took_over)::numeric, 2)
			AS "hand-over, ms",
		round(1000 * max(EXTRACT(epoch FROM g.acquired_at - free_at))
			FILTER (WHERE r.asked_at < free_at AND took_over), 2)
			AS "take-over, ms"
	FROM runs r LEFT JOIN grants g USING (night, session)
	GROUP BY night
	ORDER BY night;

-- The proof: what must be true of the books, whoever did what and when.  What
-- is expected comes from the calendar and the opening balances alone.
CREATE VIEW proof AS
	WITH RECURSIVE balance(class, nights, amount) AS (
		SELECT class, 0, 10000 + class FROM generate_series(0, 999) AS class
		UNION ALL
		SELECT class, nights + 1, amount + amount / 100
		FROM balance
		WHERE nights < (SELECT count(*) FROM calendar)
	), account AS MATERIALIZED (
		SELECT abalance AS found, amount - 25 AS expected, 10000 + class AS opening
		FROM pgbench_accounts
			JOIN balance ON class = aid % 1000
		WHERE nights = (SELECT count(*) FROM calendar)
	)
	SELECT 'lines in the ledger' AS what,
		(SELECT count(*) FROM calendar) AS expected,
		(SELECT count(*) FROM ledger) AS found
	UNION ALL
	SELECT 'nights with exactly one line',
		(SELECT count(*) FROM calendar),
		(SELECT count(*) FROM (SELECT night FROM calendar JOIN ledger USING (night)
			GROUP BY night HAVING count(*) = 1) AS once)
	UNION ALL
	SELECT 'accounts with the right balance',
		count(*), count(*) FILTER (WHERE found = expected) FROM account
	UNION ALL
	SELECT 'money in all accounts', sum(expected), sum(found) FROM account
	UNION ALL
	SELECT 'opening balances + interest in the ledger - fees = money in all accounts',
		sum(opening) + (SELECT sum(interest) FROM ledger) - (SELECT 25 * 10000 * count(*) FROM fees),
		sum(found) FROM account
	UNION ALL
	SELECT 'accounts + branches, which paid the interest: as on the first day',
		sum(opening), sum(found) + (SELECT sum(bbalance) FROM pgbench_branches) FROM account
	UNION ALL
	SELECT 'nights posted under a greater fence than the night before',
		(SELECT count(*) - 1 FROM calendar),
		(SELECT count(*) FROM (SELECT fence > lag(fence) OVER (ORDER BY night, line) AS greater
			FROM ledger) AS step WHERE greater)
	UNION ALL
	SELECT 'grants given before the one before had ended',
		0, (SELECT count(*) FROM grants WHERE acquired_at < free_at)
	UNION ALL
	SELECT 'chunks charged at the month-end', 10, (SELECT count(*) FROM fees)
	UNION ALL
	SELECT 'chunks charged exactly once',
		10, (SELECT count(*) FROM (SELECT FROM fees GROUP BY chunk HAVING count(*) = 1) AS once)
	UNION ALL
	SELECT 'chunks charged under a lower fence than the chunk before',
		0, (SELECT count(*) FROM (SELECT fence < lag(fence) OVER (ORDER BY chunk, line) AS lower
			FROM fees) AS step WHERE lower)
	UNION ALL
	SELECT 'closings of the month', 1, (SELECT count(*) FROM closings)
	UNION ALL
	SELECT 'money in the closing', sum(expected), (SELECT max(money) FROM closings) FROM account;
