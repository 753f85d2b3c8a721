-- pg_cron.sql - jobs of pg_cron that keep out of each other's way
--
-- When: a job is started by pg_cron, and also by a crontab, by hand, or by a
-- second entry of pg_cron.  (pg_cron alone never runs one entry twice at a time.)
--
-- Promises: in each database, the command runs at most once at a time, whoever
-- starts it, and its lock shows in distlock.locks.  Who comes second waits, and
-- then finds nothing left to do, if the command looks at the data first.  Locks
-- are per database: the jobs of two databases do not wait for each other.
--
-- Needs distlock in each of the databases, and in this one, which cron.database_name
-- names, pg_cron 1.4 or later; cron.use_background_workers may be on or off.
--
--	psql -d bank -v other=branch -f pg_cron.sql

\if :{?schedule}
\else
	\set schedule '0 2 1 * *'
\endif

SELECT cron.schedule('fees', :'schedule', $$
	CALL distlock.run_exclusively('fees', ttl => '5 min', wait => '1 h', owner => 'pg_cron',
		command => 'CALL charge_fees()')
$$);

-- the same in another database
SELECT cron.schedule_in_database('fees of ' || :'other', :'schedule', $$
	CALL distlock.run_exclusively('fees', ttl => '5 min', wait => '1 h', owner => 'pg_cron',
		command => 'CALL charge_fees()')
$$, :'other');

-- One transaction; when somebody else is at it, this does nothing, and counts as
-- succeeded.
SELECT cron.schedule('report', :'schedule', $$
	SELECT distlock.try_do_exclusively('report', ttl => '1 min', owner => 'pg_cron',
		command => 'SELECT make_report()')
$$);
