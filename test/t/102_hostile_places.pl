# What others have put in the way gains nothing by distlock: code of a user's that runs as
# somebody else, objects of the same names, event triggers that meddle with the
# installation.  That nothing of a hostile search_path is called, test/sql/hostile_path.sql
# shows; that nothing on the table is, hostile_table.sql and 047_hostile_owner.pl.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', extension => 0);
my $admin = session($node);

# ---------------------------------------------------------------------------
# Before it is installed
# ---------------------------------------------------------------------------

$admin->query(<<'EOQ');
CREATE ROLE mallory LOGIN;
CREATE ROLE victim LOGIN;
GRANT CREATE ON DATABASE postgres TO mallory;
GRANT CREATE ON SCHEMA public TO mallory;
SET SESSION AUTHORIZATION mallory;
CREATE SCHEMA distlock;
CREATE TABLE distlock.lock (key text, token text);
CREATE FUNCTION distlock.acquire(key text, ttl text) RETURNS text LANGUAGE sql AS $$SELECT 'taken'$$;
RESET SESSION AUTHORIZATION;
EOQ
is($admin->fails('CREATE EXTENSION distlock'), '42P06', 'a schema of that name is not moved into');
is($admin->query("SELECT count(*) FROM pg_extension WHERE extname = 'distlock'"),
	'0', '... nothing is installed');
is( $admin->query(
		"SELECT count(*) FROM pg_depend WHERE deptype = 'e' AND refobjid = 'distlock'::regnamespace"),
	'0',
	'... and nothing of it adopted');
$admin->query('DROP SCHEMA distlock CASCADE');

# Objects in the way in public and pg_temp, which are found before pg_catalog
$admin->query(<<'EOQ');
SET SESSION AUTHORIZATION mallory;
CREATE TABLE public.lock (key text);
CREATE SEQUENCE public.fence_seq;
CREATE TYPE public.retry AS (min_delay text);
CREATE DOMAIN public.text AS pg_catalog.text CHECK (VALUE <> 'job');
CREATE DOMAIN public.interval AS pg_catalog.interval CHECK (VALUE < '1 ms');
CREATE DOMAIN public.timestamptz AS pg_catalog.timestamptz CHECK (VALUE IS NULL);
CREATE FUNCTION public.pg_extension_config_dump(regclass, text) RETURNS void LANGUAGE plpgsql AS
	$$ BEGIN RAISE 'mallory struck'; END $$;
CREATE FUNCTION public.clock_timestamp() RETURNS pg_catalog.timestamptz LANGUAGE plpgsql AS
	$$ BEGIN RAISE 'mallory struck'; END $$;
RESET SESSION AUTHORIZATION;
SET search_path = public, pg_temp, pg_catalog;
CREATE EXTENSION distlock;
RESET search_path;
EOQ
is($admin->query(<<'EOQ'), '0', 'types of the same names are none of the extension\'s');
SELECT count(*) FROM pg_depend d
	JOIN pg_depend e ON e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e'
WHERE d.refclassid = 'pg_type'::regclass AND d.refobjid IN
	(SELECT oid FROM pg_type WHERE typnamespace = 'public'::regnamespace)
EOQ
is($admin->query(<<'EOQ'), '0', '... nor in the arguments of its functions');
SELECT count(*) FROM pg_proc p, unnest(p.proargtypes) t JOIN pg_type y ON y.oid = t
WHERE p.pronamespace = 'distlock'::regnamespace
	AND y.typnamespace NOT IN ('pg_catalog'::regnamespace, 'distlock'::regnamespace)
EOQ
is( $admin->query(
		"SET search_path = public, pg_temp, pg_catalog; SELECT distlock.acquire_with_token('job', 'tok', '1 h') > 0"
	),
	't',
	'and locks work in their presence');
is($admin->query('SELECT key, waiters FROM distlock.locks'), 'job|0', '... as do the views');
$admin->query('RESET search_path');

# ---------------------------------------------------------------------------
# A user's code in an index, a view, a policy, as somebody else
# ---------------------------------------------------------------------------

$admin->query(<<'EOQ');
SET SESSION AUTHORIZATION mallory;
CREATE FUNCTION public.strike(t pg_catalog.text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	PERFORM distlock.force_release('job');
	RAISE LOG 'mallory struck as %', current_user;
	RETURN true;
EXCEPTION WHEN insufficient_privilege THEN
	RAISE LOG 'mallory was refused as %', current_user;
	RETURN true;
END $$;
CREATE TABLE public.bait (t pg_catalog.text);
CREATE INDEX bait_index ON public.bait (public.strike(t));
CREATE MATERIALIZED VIEW public.bait_view AS SELECT public.strike(t) FROM public.bait;
INSERT INTO public.bait VALUES ('x');
RESET SESSION AUTHORIZATION;
EOQ
my $position = -s $node->logfile;
foreach my $command (
	'REINDEX TABLE public.bait',
	'ANALYZE public.bait',
	'VACUUM FULL public.bait',
	'CLUSTER public.bait USING bait_index',
	'REFRESH MATERIALIZED VIEW public.bait_view')
{
	is($admin->fails($command), '', "$command by a superuser");
}
my $log = substr slurp_file($node->logfile), $position;
cmp_ok(scalar(() = $log =~ /mallory was refused as mallory/g),
	'>=', 4, '... runs the code of the owner of the table');
unlike($log, qr/mallory struck/, '... with no rights but his');
is($admin->query("SELECT distlock.ttl('job', 'tok') > '1 min'"), 't', '... and the lock is held');

# A command under a lock has the rights of who calls, in a SECURITY DEFINER function those of
# its owner, who has to watch what he runs.
$admin->query(<<'EOQ');
CREATE TABLE public.private (secret pg_catalog.text);
CREATE FUNCTION public.run(command pg_catalog.text) RETURNS bigint LANGUAGE sql SECURITY DEFINER AS
	$$SELECT distlock.do_exclusively('run', '1 min', command)$$;
ALTER FUNCTION public.run OWNER TO victim;
EOQ
foreach my $how (
	"SELECT distlock.do_exclusively('a', '1 min', 'TABLE public.private')",
	"CALL distlock.run_exclusively('a', '1 min', 'TABLE public.private')",
	"SELECT public.run('TABLE public.private')",
	"SELECT distlock.do_exclusively('a', '1 min', 'SELECT distlock.force_release(''job'')')",
	"SELECT distlock.do_exclusively('a', '1 min', 'SELECT distlock.do_exclusively(''b'', ''1 min'', ''TABLE public.private'')')"
  )
{
	$admin->query('SET SESSION AUTHORIZATION mallory');
	is($admin->fails($how), '42501', $how);
	$admin->query('RESET SESSION AUTHORIZATION');
}
# What the command makes of the role ends with it where the role is not the caller's to leave.
$admin->query('SET SESSION AUTHORIZATION mallory');
is($admin->fails("SELECT public.run('RESET ROLE')"),
	'42501', 'a command cannot leave the role of a SECURITY DEFINER function');
is($admin->fails("SELECT public.run('SET SESSION AUTHORIZATION postgres')"),
	'42501', '... nor take another');
$admin->query('RESET SESSION AUTHORIZATION');

# ---------------------------------------------------------------------------
# Row security, and leaks past the barrier of the views
# ---------------------------------------------------------------------------

$admin->query(<<'EOQ');
SELECT distlock.acquire_with_token('secret', 'tok', '1 h', data => 'top secret');
SET SESSION AUTHORIZATION mallory;
CREATE FUNCTION public.leak(t pg_catalog.text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN
	RAISE LOG 'mallory saw %', t;
	RETURN true;
END $$;
CREATE FUNCTION public.leak_pair(t pg_catalog.text, u pg_catalog.text) RETURNS boolean LANGUAGE sql COST 0.0000001
	AS $$SELECT public.leak(t) AND public.leak(u)$$;
CREATE OPERATOR public.<<< (LEFTARG = pg_catalog.text, RIGHTARG = pg_catalog.text, FUNCTION = public.leak_pair);
SELECT count(*) FROM distlock.locks WHERE public.leak(data);
SELECT count(*) FROM distlock.locks WHERE data OPERATOR(public.<<<) key;
SELECT count(*) FROM distlock.locks ORDER BY count(public.leak(data));
SELECT count(*) FROM distlock.locks l JOIN public.bait b ON public.leak(l.data);
SELECT count(*) FROM distlock.worker_status WHERE public.leak(last_error);
RESET SESSION AUTHORIZATION;
EOQ
$log = substr slurp_file($node->logfile), $position;
like($log, qr/mallory saw/, 'leaky functions are called');
unlike($log, qr/mallory saw top secret/, '... but see no data of others');
# Where row security hides rows, it goes on to.
$admin->query(<<'EOQ');
ALTER TABLE public.private ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON public.private TO mallory;
INSERT INTO public.private VALUES ('hidden');
CREATE POLICY by_lock ON public.private USING (NOT distlock.is_held('job'));
EOQ
$admin->query('SET SESSION AUTHORIZATION mallory');
is($admin->query("SELECT distlock.do_exclusively('a', '1 min', 'TABLE public.private')"),
	'0', 'a command is under row security');
is($admin->query('SET row_security = off; SELECT distlock.is_held(\'job\')'),
	't', 'row_security = off: the functions work');
is($admin->fails('TABLE public.private'), '42501', '... and what is hidden is refused');
$admin->query('RESET row_security; RESET SESSION AUTHORIZATION');

# ---------------------------------------------------------------------------
# Event triggers that use the locks while they are made, changed or dropped
# ---------------------------------------------------------------------------

$admin->query(<<'EOQ');
CREATE FUNCTION public.at_command() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		PERFORM distlock.try_acquire('at ' || tg_tag, '1 s'), distlock.is_held('job');
	EXCEPTION WHEN others THEN
		RAISE LOG 'event trigger: % %', SQLSTATE, SQLERRM;
	END;
END $$;
CREATE EVENT TRIGGER at_start ON ddl_command_start EXECUTE FUNCTION public.at_command();
CREATE EVENT TRIGGER at_end ON ddl_command_end EXECUTE FUNCTION public.at_command();
CREATE EVENT TRIGGER at_drop ON sql_drop EXECUTE FUNCTION public.at_command();
EOQ
$position = -s $node->logfile;
is($admin->fails($_), '', "$_ with event triggers that use locks")
  foreach 'DROP EXTENSION distlock CASCADE', 'CREATE EXTENSION distlock', 'CREATE TABLE public.t ()',
  'ALTER EXTENSION distlock UPDATE', 'DROP TABLE public.t';
$log = substr slurp_file($node->logfile), $position;
is(join(' ', grep { !/^(?:3F000|42883|42P01|55000|42501|42704)$/ } $log =~ /event trigger: (\S+)/g),
	'', '... they are answered, or told that it is not there');
is($admin->query("SELECT distlock.acquire_with_token('job', 'tok', '1 h') > 0"),
	't', '... and it works');
unlike(
	slurp_file($node->logfile),
	qr/PANIC:|TRAP:|terminated by signal|XX000/,
	'no crash and no internal error');

$admin->quit;
$node->stop;
done_testing();
