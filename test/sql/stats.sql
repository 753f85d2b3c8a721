-- Statistics: what is counted, and when.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
CREATE TEMP VIEW own AS SELECT * FROM distlock.stats WHERE database = current_database();
CREATE TEMP VIEW counted AS
	SELECT grants, refusals, releases, extensions, expiries, take_overs, waits, events, events_lost FROM own;
CREATE TEMP VIEW histogram AS
	SELECT what, below, count FROM distlock.stats_histograms WHERE database = current_database();
-- what other tests have left shall not expire meanwhile
DO $$
BEGIN
	PERFORM distlock.release(key, distlock.force_acquire(key, '1 h')) FROM distlock.lock WHERE token IS NOT NULL;
END $$;
SELECT distlock.reset_stats();
TABLE counted;
SELECT wait_ms, hold_ms, clock_timestamp() - since BETWEEN '0' AND '1 min' AS since FROM own;
SELECT count(*) FROM histogram;
-- a grant, extensions (the same token again is one), a release
SELECT distlock.acquire_with_token('stats job', 'tok', '1 h') IS NOT NULL AS granted;
TABLE counted;
SELECT distlock.extend('stats job', 'tok', '1 h') IS NOT NULL AS extended, distlock.ensure('stats job', 'tok', '2 h') IS NOT NULL AS ensured,
	distlock.try_acquire_with_token('stats job', 'tok', '3 h') IS NOT NULL AS again, distlock.extend_all('tok', '4 h') AS all;
TABLE counted;
SELECT hold_ms FROM own;
SELECT pg_sleep(0.02);
SELECT distlock.release('stats job', 'tok');
TABLE counted;
SELECT hold_ms BETWEEN 20 AND 60000 AS hold_ms FROM own;
-- what did nothing
SELECT distlock.try_release('stats job', 'tok'), distlock.try_extend('stats job', 'tok'), distlock.release_all('tok'), distlock.force_release('stats job');
SELECT pg_temp.sqlstate($$SELECT distlock.release('stats job', 'tok')$$);
TABLE counted;
-- refusals count at once, whatever becomes of the transaction
SELECT distlock.acquire_with_token('stats job', 'tok', '1 h') IS NOT NULL AS granted;
SELECT distlock.reset_stats();
BEGIN;
SELECT distlock.try_acquire('stats job', '1 h');
TABLE counted;
SELECT pg_temp.sqlstate($$SELECT distlock.acquire('stats job', '1 h', scope => 'session')$$);
ROLLBACK;
SELECT distlock.try_do_exclusively('stats job', '1 h', 'SELECT 1');
TABLE counted;
-- the rest counts when it is committed
SELECT distlock.reset_stats();
BEGIN;
SELECT distlock.release('stats job', 'tok');
SELECT distlock.acquire_with_token('stats job', 'tok2', '1 h') IS NOT NULL AS granted;
SELECT distlock.extend('stats job', 'tok2') IS NOT NULL AS extended;
TABLE counted;
ROLLBACK;
TABLE counted;
BEGIN;
SELECT distlock.acquire_with_token('stats 1', 'tok', '1 h') IS NOT NULL AS granted;
SAVEPOINT s;
SELECT distlock.acquire_with_token('stats 2', 'tok', '1 h') IS NOT NULL AS granted;
SAVEPOINT s2;
SELECT distlock.acquire_with_token('stats 3', 'tok', '1 h') IS NOT NULL AS granted;
RELEASE s2;
SELECT distlock.release('stats 1', 'tok');
ROLLBACK TO s;
SELECT distlock.acquire_with_token('stats 4', 'tok', '1 h') IS NOT NULL AS granted;
SAVEPOINT s3;
SELECT distlock.acquire_with_token('stats 5', 'tok', '1 h') IS NOT NULL AS granted;
RELEASE s3;
TABLE counted;
COMMIT;
TABLE counted;
SELECT distlock.release_all('tok');
TABLE counted;
-- scope transaction: both at the end; in a session that has done nothing else
\c
SELECT distlock.acquire('stats job', '1 s', scope => 'transaction') IS NOT NULL AS granted;
CREATE TEMP VIEW own AS SELECT * FROM distlock.stats WHERE database = current_database();
CREATE TEMP VIEW counted AS
	SELECT grants, refusals, releases, extensions, expiries, take_overs, waits, events, events_lost FROM own;
CREATE TEMP VIEW histogram AS
	SELECT what, below, count FROM distlock.stats_histograms WHERE database = current_database();
\set ECHO none
\i :helpers
\set ECHO all
TABLE counted;
SELECT distlock.reset_stats();
BEGIN;
SELECT distlock.acquire('stats 1', '1 s', scope => 'transaction') IS NOT NULL AS granted;
SAVEPOINT s;
SELECT distlock.acquire('stats 2', '1 s', scope => 'transaction') IS NOT NULL AS granted;
ROLLBACK TO s;
SELECT distlock.do_exclusively('stats 3', '1 s', 'SELECT 1');
SELECT distlock.acquire_with_token('stats 4', 'tok', '1 s', scope => 'transaction') IS NOT NULL AS granted;
SELECT distlock.release('stats 4', 'tok');
TABLE counted;
COMMIT;
TABLE counted;
BEGIN;
SELECT distlock.acquire('stats 1', '1 s', scope => 'transaction') IS NOT NULL AS granted;
ROLLBACK;
TABLE counted;
-- scope session
SELECT distlock.acquire_with_token('stats job', 'tok', '1 s', scope => 'session') IS NOT NULL AS granted;
SELECT distlock.release('stats job', 'tok');
CALL distlock.run_exclusively('stats job', '1 s', 'SELECT 1');
TABLE counted;
-- waiting: in vain, by retrying, not at all where there is no need
SELECT distlock.acquire_with_token('stats job', 'tok', '1 h') IS NOT NULL AS granted;
SELECT distlock.reset_stats();
SELECT distlock.try_acquire('stats job', '1 h', wait => '50 ms');
TABLE counted;
SELECT wait_ms BETWEEN 50 AND 60000 AS wait_ms FROM own;
-- in the last bucket shown, all others are empty
SELECT sum(count) AS waits, max(below) FILTER (WHERE count > 0) = max(below) AS in_the_last,
	max(below) > max(wait_ms) * interval '1 ms' AS below, max(below) / 2 <= max(wait_ms) * interval '1 ms' AS not_below_half
FROM histogram, own WHERE what = 'wait';
SELECT pg_temp.sqlstate($$SELECT distlock.acquire('stats job', '1 h', wait => '30 ms', retry => distlock.linear_backoff('10 ms'))$$);
SELECT distlock.acquire_with_token('stats free', 'tok', '1 h', wait => '1 min') IS NOT NULL AS granted;
SELECT distlock.acquire_with_token('stats job', 'tok', '1 h', wait => '1 min') IS NOT NULL AS again;
TABLE counted;
SELECT wait_ms BETWEEN 80 AND 60000 AS wait_ms FROM own;
-- one that is broken off is not counted
SET statement_timeout = '50 ms';
SELECT distlock.try_acquire('stats job', '1 h', wait => '1 min');
RESET statement_timeout;
TABLE counted;
SELECT sum(count) FROM histogram WHERE what = 'wait';
SELECT distlock.release_all('tok');
-- one that ends in a grant: here, as soon as the lock expires, which counts
-- once, whoever has noticed it
SELECT distlock.reset_stats();
SELECT distlock.acquire_with_token('stats job', 'tok', '500 ms') IS NOT NULL AS granted;
SELECT distlock.acquire_with_token('stats job', 'tok2', '1 h', wait => '1 min') IS NOT NULL AS granted;
TABLE counted;
SELECT wait_ms BETWEEN 1 AND 60000 AS wait_ms, hold_ms FROM own;
SELECT distlock.release('stats job', 'tok2');
-- the lock ended when it expired, not when that was noticed
SELECT distlock.reset_stats();
SELECT distlock.acquire_with_token('stats job', 'tok', '5 ms') IS NOT NULL AS granted;
SELECT pg_temp.await_expiry('stats job');
SELECT distlock.acquire_with_token('stats job', 'tok2', '1 h') IS NOT NULL AS granted;
TABLE counted;
SELECT hold_ms FROM own;
SELECT below, count FROM histogram WHERE what = 'hold' AND count > 0;
SELECT count(*), min(below), max(below) FROM histogram WHERE what = 'hold';
-- by force
SELECT distlock.reset_stats();
SELECT distlock.force_acquire('stats job', '1 h') IS NOT NULL AS taken;
TABLE counted;
SELECT distlock.force_release('stats job');
TABLE counted;
SELECT sum(count) FROM histogram WHERE what = 'hold';
-- what is announced
SELECT distlock.reset_stats();
SET distlock.events = 'granted, released';
BEGIN;
SELECT distlock.acquire_with_token('stats job', 'tok', '1 h') IS NOT NULL AS granted;
SELECT distlock.release('stats job', 'tok');
COMMIT;
RESET distlock.events;
TABLE counted;
-- not wanted
SET distlock.track = off;
SELECT distlock.acquire_with_token('stats job', 'tok', '1 h') IS NOT NULL AS granted;
SELECT distlock.try_acquire('stats job', '1 h', wait => '10 ms');
SELECT distlock.release('stats job', 'tok');
SELECT distlock.acquire('stats job', '1 s', scope => 'transaction') IS NOT NULL AS granted;
TABLE counted;
SELECT sum(count) FROM histogram;
SELECT distlock.reset_stats();
TABLE counted;
RESET distlock.track;
-- one row for each database, not more
SELECT count(*) = count(DISTINCT database) AS once FROM distlock.stats;
SELECT database, what, below FROM distlock.stats_histograms GROUP BY 1, 2, 3 HAVING count(*) > 1;
