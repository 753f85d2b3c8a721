-- setup.sql - the bank of the examples, for an empty database of yours
--
--	createdb branches && psql -d branches -f examples/setup.sql
--
-- Three branches with ten accounts each.  An account knows up to when it has
-- its interest, and under which fence it was last written.  The programs pay a
-- branch at a time, each by one statement, until it returns no row:
--
--	SELECT pay_interest(branch, rate, distlock.guard('interest', 'the token'))
--		FROM next_branch();

CREATE EXTENSION IF NOT EXISTS distlock;

CREATE TABLE account (
	id int PRIMARY KEY,
	branch int NOT NULL,
	balance numeric NOT NULL DEFAULT 100,
	paid_until date NOT NULL DEFAULT '2025-12-01',
	fence bigint NOT NULL DEFAULT 0
);

INSERT INTO account (id, branch)
	SELECT i, 1 + i / 10 FROM generate_series(0, 29) AS i;

-- Stands for the slow part of the work, under the lease alone: a report, a
-- question to another system.
CREATE FUNCTION interest_rate(branch int) RETURNS numeric LANGUAGE plpgsql AS $$
BEGIN
	RETURN 0.01 * branch;
END
$$;

-- What is to be done next; no row when all are paid.  A function in FROM has
-- come to its end before anything that SELECT lists is called, guard for one.
CREATE FUNCTION next_branch() RETURNS TABLE (branch int, rate numeric)
LANGUAGE plpgsql AS $$
BEGIN
	SELECT min(a.branch) INTO branch FROM account AS a
		WHERE a.paid_until < '2026-01-01';
	IF branch IS NOT NULL THEN
		rate := interest_rate(branch);
		RETURN NEXT;
	END IF;
END
$$;

-- Pay one branch; returns what was done.  Who comes late leaves alone what
-- has a higher fence: a later holder of the lock was there.
CREATE FUNCTION pay_interest(branch int, rate numeric, fence bigint) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	paid bigint;
BEGIN
	UPDATE account AS a
		SET balance = a.balance * (1 + rate), paid_until = '2026-01-01',
			fence = pay_interest.fence
		WHERE a.branch = pay_interest.branch AND a.paid_until < '2026-01-01'
			AND a.fence <= pay_interest.fence;
	GET DIAGNOSTICS paid = ROW_COUNT;
	RETURN format('branch %s: %s accounts, fence %s', branch, paid, fence);
END
$$;
