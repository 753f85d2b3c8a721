-- Fences of a key only grow: over grants, keys, rollbacks, purges and new epochs.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
CREATE TEMP TABLE seen (number serial, fence bigint);
INSERT INTO seen (fence) SELECT distlock.acquire_with_token('job ' || i % 3, 'tok ' || i, '1 min') FROM generate_series(1, 3) i;
INSERT INTO seen (fence) SELECT distlock.acquire_with_token('job 1', 'tok 1', '1 min');
SELECT count(DISTINCT fence), min(fence) >= 1 AS from_1 FROM seen;
DELETE FROM seen WHERE number = 4;
SELECT distlock.release('job ' || i % 3, 'tok ' || i) FROM generate_series(1, 3) i;
DO $$
DECLARE
	n bigint;
BEGIN
	FOR i IN 1 .. 200 LOOP
		n := distlock.acquire_with_token('job', 'tok', '1 min');
		IF i % 3 = 0 THEN
			ROLLBACK;
		ELSE
			PERFORM distlock.release('job', 'tok');
			COMMIT;
		END IF;
		INSERT INTO seen (fence) VALUES (n);
		COMMIT;
	END LOOP;
END $$;
SELECT count(*) AS grants, count(*) FILTER (WHERE fence <= before) AS regressions
FROM (SELECT fence, lag(fence) OVER (ORDER BY number) AS before FROM seen) f;
CALL distlock.purge();
INSERT INTO seen (fence) SELECT distlock.acquire_with_token('job', 'tok', '1 min');
SELECT distlock.release('job', 'tok');
-- a new epoch is above all, and no rollback undoes it
SELECT distlock.advance_fence() AS epoch1 \gset
BEGIN;
SELECT distlock.advance_fence() AS epoch2 \gset
ROLLBACK;
INSERT INTO seen (fence) VALUES (:epoch1), (:epoch2);
INSERT INTO seen (fence) SELECT distlock.acquire_with_token('job', 'tok', '1 min');
SELECT distlock.release('job', 'tok');
SELECT count(*) AS grants, count(*) FILTER (WHERE fence <= before) AS regressions
FROM (SELECT fence, lag(fence) OVER (ORDER BY number) AS before FROM seen) f;
-- a sequence set back by hand (or by a restore) is noticed
SELECT max(fence) AS last FROM seen \gset
SELECT setval('distlock.fence_seq', 1) \gset
SELECT distlock.acquire_with_token('job', 'tok', '1 min') > :last AS still_grows;
SELECT distlock.release('job', 'tok');
-- in JavaScript's numbers too
SELECT distlock.acquire_with_token('job', 'tok', '1 min') < 9007199254740992 AS fits_a_double;
SELECT distlock.release('job', 'tok');
