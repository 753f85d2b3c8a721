-- Statistics: who sees which databases, and who may reset them.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
CREATE ROLE regress_distlock_user;
SELECT current_database() AS own \gset
CREATE DATABASE regress_distlock_stats;
\c regress_distlock_stats
CREATE EXTENSION distlock;
SELECT distlock.acquire_with_token('stats job', 'tok', '1 h') IS NOT NULL AS granted;
SELECT distlock.try_acquire('stats job', '1 h', wait => '10 ms');
SELECT distlock.release('stats job', 'tok');
SELECT database = current_database() AS own, grants, refusals, releases, waits FROM distlock.stats WHERE database = 'regress_distlock_stats';
\c :own
\set ECHO none
\i :helpers
\set ECHO all
-- one's own database, with a row whatever was counted
SELECT distlock.reset_stats();
SELECT distlock.acquire_with_token('stats job', 'tok', '1 h') IS NOT NULL AS granted;
SELECT distlock.release('stats job', 'tok');
SET ROLE regress_distlock_user;
SELECT database = current_database() AS own, grants FROM distlock.stats;
SELECT DISTINCT database = current_database() AS own, what FROM distlock.stats_histograms;
SELECT d.datname = current_database() AS own FROM distlock.read_stats() s JOIN pg_database d ON d.oid = s.database;
SELECT key, grants FROM distlock.busiest_keys;
SELECT pg_temp.sqlstate('SELECT distlock.reset_stats()');
SELECT grants FROM distlock.stats;
-- members of pg_read_all_stats: all
RESET ROLE;
GRANT pg_read_all_stats TO regress_distlock_user;
SET ROLE regress_distlock_user;
SELECT database, grants, refusals, releases, waits FROM distlock.stats WHERE database = 'regress_distlock_stats';
SELECT what, sum(count) FROM distlock.stats_histograms WHERE database = 'regress_distlock_stats' GROUP BY what ORDER BY what;
SELECT count(*) FROM distlock.stats WHERE database = current_database();
-- of keys, only those of one's own database
SELECT key, grants FROM distlock.busiest_keys;
SELECT pg_temp.sqlstate('SELECT distlock.reset_stats()');
RESET ROLE;
-- to reset it, is to be given; it resets this database alone
GRANT EXECUTE ON FUNCTION distlock.reset_stats() TO regress_distlock_user;
SET ROLE regress_distlock_user;
SELECT distlock.reset_stats();
SELECT grants, releases, hold_ms, clock_timestamp() - since BETWEEN '0' AND '1 min' AS since FROM distlock.stats WHERE database = current_database();
SELECT grants FROM distlock.stats WHERE database = 'regress_distlock_stats';
RESET ROLE;
-- a database that has gone is shown no more
DROP DATABASE regress_distlock_stats;
SELECT count(*) FROM distlock.stats WHERE database = 'regress_distlock_stats';
SELECT count(*) FROM distlock.stats_histograms WHERE database = 'regress_distlock_stats';
REVOKE EXECUTE ON FUNCTION distlock.reset_stats() FROM regress_distlock_user;
DROP ROLE regress_distlock_user;
