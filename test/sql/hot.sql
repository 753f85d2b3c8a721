-- Keys that come again are updated in place.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
SET distlock.durable = off;
SET synchronous_commit = off;
DO $$ BEGIN PERFORM distlock.release('hot', distlock.acquire('hot', '1 min')); END $$;
CALL distlock.purge();
SELECT pg_stat_force_next_flush();
SELECT pg_stat_get_tuples_updated('distlock.lock'::regclass) AS updated,
	pg_stat_get_tuples_hot_updated('distlock.lock'::regclass) AS hot,
	pg_relation_size('distlock.lock') / current_setting('block_size')::int AS pages \gset
DO $$
DECLARE
	token text;
BEGIN
	FOR i IN 1 .. 500 LOOP
		token := distlock.acquire('hot', '1 min', owner => 'o', data => 'd');
		COMMIT;
		PERFORM distlock.extend('hot', token);
		COMMIT;
		PERFORM distlock.release('hot', token);
		COMMIT;
	END LOOP;
END $$;
SELECT pg_stat_force_next_flush();
-- the first acquire may have added the row
SELECT pg_stat_get_tuples_updated('distlock.lock'::regclass) - :updated >= 1499 AS all_counted,
	pg_stat_get_tuples_hot_updated('distlock.lock'::regclass) - :hot >= 1425 AS nearly_all_hot;
SELECT pg_relation_size('distlock.lock') / current_setting('block_size')::int - :pages < 4 AS no_growth;
