-- The busiest keys: who is among them, and how far their numbers can be wrong.
CREATE TEMP VIEW busiest AS SELECT key, calls, inherited, grants, refusals, waits FROM distlock.busiest_keys;
SELECT distlock.reset_stats();
TABLE busiest;
-- grants and refusals are calls, other things are not
SELECT distlock.acquire_with_token('busy 1', 'busy tok', '1 h') IS NOT NULL AS granted;
SELECT distlock.try_acquire('busy 1', '1 h'), distlock.try_acquire('busy 1', '1 h');
SELECT distlock.acquire_with_token('busy 2', 'busy tok', '1 h') IS NOT NULL AS granted;
SELECT distlock.extend('busy 2', 'busy tok') IS NOT NULL AS extended, distlock.is_held('busy 2');
SELECT distlock.release('busy 2', 'busy tok');
SELECT distlock.acquire_with_token('busy 2', 'busy tok', '1 h') IS NOT NULL AS granted;
TABLE busiest;
-- a wait counts, also of a key that was not there before; one that ends in an
-- error does not
SELECT distlock.reset_stats();
SELECT distlock.try_acquire('busy 2', '1 h', wait => '20 ms');
SELECT distlock.try_acquire('busy 1', '1 h');
SELECT distlock.try_acquire('busy 2', '1 h', wait => '30 ms');
SELECT * FROM busiest ORDER BY key;
SELECT key, wait_ms BETWEEN 50 AND 60000 AS wait_ms FROM distlock.busiest_keys WHERE waits > 0;
-- rolled back: no grant, but refusals
BEGIN;
SELECT distlock.acquire('busy 3', '1 h') IS NOT NULL AS granted;
SELECT distlock.try_acquire('busy 2', '1 h');
ROLLBACK;
SELECT * FROM busiest ORDER BY key;
-- locks of scope transaction leave no key behind
SELECT distlock.reset_stats();
SELECT distlock.acquire('busy nowhere', '1 s', scope => 'transaction') IS NOT NULL AS granted;
TABLE busiest;
-- 20 have room: then, a newcomer takes the place of one with fewest calls
SELECT distlock.reset_stats();
SELECT count(distlock.acquire_with_token('full ' || lpad(i::text, 2, '0'), 'busy tok', '1 h')) FROM generate_series(1, 20) i;
SELECT count(*), sum(calls), max(inherited) FROM busiest;
SELECT count(*) FROM generate_series(2, 20) i WHERE i <> 7 AND distlock.try_acquire('full ' || lpad(i::text, 2, '0'), '1 h') IS NULL;
SELECT * FROM busiest WHERE calls < 2 ORDER BY key;
SELECT distlock.acquire_with_token('full new', 'busy tok', '1 h') IS NOT NULL AS granted;
SELECT * FROM busiest WHERE key = 'full new';
-- who comes back begins anew
SELECT distlock.try_acquire('full 01', '1 h');
SELECT * FROM busiest WHERE key IN ('full 01', 'full 07');
SELECT count(*), sum(calls) FROM busiest;
-- a key with more than a twentieth of the calls is among them, whatever the
-- others; no number is too high by more than it inherited, nor that by more than
-- a twentieth of all calls
SELECT distlock.release_all('busy tok');
SELECT distlock.acquire_with_token('busy 1', 'busy tok', '1 h') IS NOT NULL AS granted;
SELECT distlock.reset_stats();
SET distlock.durable = off;
SET synchronous_commit = off;
DO $$
BEGIN
	FOR i IN 1 .. 300 LOOP
		PERFORM distlock.try_acquire(CASE WHEN i % 15 = 14 THEN 'busy 1' ELSE 'crowd ' || i END, '1 h');
		COMMIT;
	END LOOP;
END $$;
RESET distlock.durable;
RESET synchronous_commit;
SELECT count(*) AS rows, sum(calls) AS calls, max(inherited) <= 300 / 20 AS bounded FROM busiest;
SELECT key, calls >= 20 AS not_too_few, calls - inherited <= 20 AS not_too_many, refusals > 0 AS refused FROM busiest WHERE key = 'busy 1';
SELECT count(*) FROM busiest WHERE calls <> inherited + grants + refusals;
-- in order, as the function gives them
SELECT array_agg(calls) = array_agg(calls ORDER BY calls DESC) AS sorted FROM (SELECT * FROM distlock.read_busiest_keys()) b;
SELECT count(distlock.force_release(key)) FROM distlock.locks WHERE key ~ '^(busy|full|crowd) ';
SELECT distlock.reset_stats();
TABLE busiest;
