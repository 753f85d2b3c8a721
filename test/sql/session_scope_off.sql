-- distlock.session_scope = off: locks of scope session are refused, others are not.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SET distlock.session_scope = off;
SELECT pg_temp.complaint($$SELECT distlock.acquire('job', '1 min', scope => 'session')$$);
SELECT pg_temp.harmless(statement) AS result, statement
FROM (VALUES ($$SELECT distlock.try_acquire('job', '1 min', scope => 'session')$$),
	($$SELECT distlock.acquire_with_token('job', 'tok', '1 min', scope => 'session')$$),
	($$SELECT distlock.try_acquire_with_token('job', 'tok', '1 min', scope => 'session')$$),
	($$SELECT distlock.force_acquire('job', '1 min', scope => 'session')$$)) t(statement);
SELECT distlock.acquire('job', '1 min') IS NOT NULL AS lease, distlock.acquire('job 2', '1 min', scope => 'transaction') IS NOT NULL AS transaction;
SELECT distlock.force_release('job');
-- a lock that was acquired before stays, and can be given back
RESET distlock.session_scope;
SELECT distlock.acquire_with_token('job', 'tok', '1 min', scope => 'session') IS NOT NULL AS acquired;
SET distlock.session_scope = off;
SELECT distlock.is_held('job');
SELECT distlock.release('job', 'tok');
SELECT distlock.is_held('job');
