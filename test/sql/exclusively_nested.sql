-- What a command does to the lock that it runs under.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SET statement_timeout = '1 min';
-- the same key again: it is held already, by somebody who has not come to an end
SELECT distlock.do_exclusively('job', '1 min', $$SELECT distlock.do_exclusively('job', '1 min', 'SELECT 1', wait => '1 h')$$);
SELECT distlock.do_exclusively('job', '1 min', $$SELECT distlock.try_do_exclusively('job', '1 min', 'SELECT 1') IS NULL$$) AS rows;
-- one after the other is another thing
BEGIN;
SELECT distlock.do_exclusively('job', '1 min', 'SELECT 1') AS once, distlock.do_exclusively('job', '1 min', 'SELECT 1') AS twice;
COMMIT;
-- broken by its own command: that goes on, and has no fence any more
CREATE TEMP TABLE seen (fence bigint, held boolean);
BEGIN;
SELECT distlock.do_exclusively('job', '1 min', $$
	INSERT INTO seen SELECT distlock.current_fence(), distlock.is_held('job');
	SELECT distlock.force_release('job');
	INSERT INTO seen SELECT distlock.current_fence(), distlock.is_held('job')$$) AS rows;
SELECT distlock.do_exclusively('job', '1 min', 'SELECT 1') AS again;
COMMIT;
SELECT fence > 0 AS fence, held FROM seen;
-- a command of any length, and the same one over again
SELECT distlock.do_exclusively('job', '1 min', 'SELECT ' || quote_literal(repeat('x', 100000))) AS rows
FROM generate_series(1, 2);
-- how backslashes are read is decided by each call: here it is one statement, and
-- there it is two
\set command 'SELECT distlock.do_exclusively(''job'', ''1 min'', $$SELECT ''\\'', ''x; SELECT 1 --''$$) AS rows;'
SET escape_string_warning = off;
:command
SET standard_conforming_strings = off;
:command
RESET standard_conforming_strings;
:command
