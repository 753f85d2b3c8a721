# Who sees what, and who may do what: everything that the manual promises of roles and
# that test/sql/privileges.sql does not try, from sessions of their own.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node =
  new_node('main', conf => preloaded("listen_addresses = '127.0.0.1'", "distlock.naptime = '1s'"));
my $admin = session($node);

$admin->query(<<'EOQ');
CREATE ROLE holder LOGIN;
CREATE ROLE stranger LOGIN;
CREATE ROLE relative LOGIN IN ROLE holder;
CREATE ROLE monitor LOGIN IN ROLE pg_monitor;
CREATE ROLE reader LOGIN IN ROLE pg_read_all_data;
CREATE DATABASE other;
EOQ
$node->safe_psql('other', 'CREATE EXTENSION distlock');
await_worker(session($node, $_), $_) foreach 'postgres', 'other';

sub as
{
	my ($role) = @_;

	return $admin->query("RESET SESSION AUTHORIZATION; SET SESSION AUTHORIZATION $role");
}

# The SQLSTATE of a statement, and its result.
sub may
{
	my ($role, $sql) = @_;

	as($role);
	my $state = $admin->fails($sql);
	$admin->query('RESET SESSION AUTHORIZATION');
	return $state;
}

sub sees
{
	my ($role, $sql) = @_;

	as($role);
	my $result = $admin->query($sql);
	$admin->query('RESET SESSION AUTHORIZATION');
	return $result;
}

# ---------------------------------------------------------------------------
# Locks and waiters: of others, nothing but what everybody may know
# ---------------------------------------------------------------------------

# By TCP, so that there is an address to see.
local $ENV{PGHOST} = '127.0.0.1';
my $holding = DistlockTest::Session->new(
	bless({ at => 'host=127.0.0.1 user=holder application_name=app port=' . $node->port }, 'Where'),
	'postgres');
my $waiting = DistlockTest::Session->new(
	bless({ at => 'host=127.0.0.1 user=holder application_name=app port=' . $node->port }, 'Where'),
	'postgres');

sub Where::connstr { return "$_[0]{at} dbname=$_[1]"; }

$holding->query(
	"SELECT distlock.acquire_with_token('job', 'tok', '1 h', owner => 'batch', data => 'private', scope => 'session')"
);
$waiting->send("SELECT distlock.try_acquire('job', '1 s', wait => '10 min')");
await_waiters($node, 'job', 1);
my $locks =
  "SELECT owner, data, role, application_name, host(client_addr), waiters FROM distlock.locks WHERE key = 'job'";
my $waiters = "SELECT key, position, role, application_name FROM distlock.waiters";

is(sees('postgres', $locks), 'batch|private|holder|app|127.0.0.1|1', 'a superuser sees a lock');
is(sees($_, $locks), 'batch|private|holder|app|127.0.0.1|1', "... $_ as well")
  foreach 'holder', 'relative', 'monitor';
is(sees($_, $locks), 'batch||holder|||1', "... $_ neither data nor program nor address")
  foreach 'stranger', 'reader';
is(sees($_, $waiters), 'job|1|holder|app', "$_ sees who waits")
  foreach 'postgres', 'holder', 'relative', 'monitor', 'stranger';
foreach my $role ('stranger', 'holder', 'relative', 'monitor', 'reader')
{
	is(sees($role, <<'EOQ'), '0', "$role sees no more of processes than pg_stat_activity shows");
SELECT count(*) FROM distlock.locks l JOIN pg_stat_activity a USING (pid)
WHERE l.application_name <> a.application_name
	OR l.client_addr IS NOT NULL AND l.client_addr IS DISTINCT FROM a.client_addr
EOQ
	is(sees($role, <<'EOQ'), '0', "... nor of those that wait");
SELECT count(*) FROM distlock.waiters w JOIN pg_stat_activity a USING (pid)
WHERE w.application_name IS DISTINCT FROM a.application_name
EOQ
}

# Whose lock it is: the role in force, not that which has logged in
$admin->query(<<'EOQ');
CREATE FUNCTION take(key text) RETURNS boolean LANGUAGE sql SECURITY DEFINER
	RETURN distlock.acquire_with_token(key, 'tok', '1 h', data => 'private') > 0;
ALTER FUNCTION take OWNER TO holder;
EOQ
sees('stranger', "SELECT take('for another')");
is(sees('stranger', "SELECT role, data FROM distlock.locks WHERE key = 'for another'"),
	'holder|', 'a lock taken by a SECURITY DEFINER function is its owner\'s');
$admin->query(
	"SET ROLE stranger; SELECT distlock.acquire_with_token('as another', 'tok', '1 h', data => 'private'); RESET ROLE"
);
is(sees('stranger', "SELECT role, data FROM distlock.locks WHERE key = 'as another'"),
	'stranger|private', '... and after SET ROLE that role\'s');
is(sees('holder', "SELECT role, data FROM distlock.locks WHERE key = 'as another'"),
	'stranger|', '... no other\'s');

# ---------------------------------------------------------------------------
# Workers, mirrors, statistics: of one's own database, or of all
# ---------------------------------------------------------------------------

foreach my $what ('worker_status', 'stats')
{
	is(sees($_, "SELECT string_agg(database, ' ' ORDER BY database) FROM distlock.$what"),
		'postgres', "$_ sees $what of this database")
	  foreach 'stranger', 'reader';
	is( sees($_, "SELECT string_agg(database, ' ' ORDER BY database) FROM distlock.$what"),
		'other postgres',
		"$_ of all") foreach 'postgres', 'monitor';
}
foreach my $function ('read_worker_status', 'read_mirror_status', 'read_stats', 'read_histograms')
{
	is( sees(
			'stranger',
			"SELECT count(*) FROM distlock.$function() f
			JOIN pg_database d ON d.oid = f.database AND d.datname <> current_database()"
		),
		'0',
		"$function() tells no more");
}
# Errors can have names of objects in them.
$admin->query("SELECT distlock.acquire('short', '200 ms')");
$admin->query('CREATE INDEX hers ON distlock.lock (owner)');
await_state($admin, 'postgres', 'failed');
like(sees($_, 'SELECT last_error FROM distlock.worker_status WHERE database = current_database()'),
	qr/distlock\.lock/, "$_ sees the error of the worker")
  foreach 'postgres', 'monitor';
is( sees(
		$_,
		'SELECT w.last_error, f.last_error FROM distlock.worker_status w, distlock.read_worker_status() f'
	),
	'|',
	"$_ does not") foreach 'stranger', 'reader';
$admin->query('DROP INDEX distlock.hers');

# ---------------------------------------------------------------------------
# Tokens
# ---------------------------------------------------------------------------

is(sees('reader', "SELECT token FROM distlock.lock WHERE key = 'job'"),
	'tok', 'pg_read_all_data reads the table of tokens');
is(may($_, 'SELECT token FROM distlock.lock'), '42501', "$_ does not")
  foreach 'stranger', 'holder', 'monitor';
is( may($_,
		'ANALYZE distlock.lock; SELECT most_common_vals FROM pg_stats
		WHERE schemaname = \'distlock\' AND attname IN (\'token\', \'data\')'
	),
	'',
	"$_ may look at statistics") foreach 'stranger', 'monitor';
$admin->query('ANALYZE distlock.lock');
is( sees(
		$_,
		"SELECT count(*) FROM pg_stats WHERE schemaname = 'distlock' AND attname IN ('token', 'owner', 'data')"
	),
	'0',
	'... and sees none') foreach 'stranger', 'reader', 'postgres';
is(may('stranger', "SELECT pg_create_logical_replication_slot('s', 'test_decoding')"),
	'42501', 'nor can a stranger have them decoded');
is(may('stranger', "COPY distlock.lock TO STDOUT"), '42501', '... or copied');
is(may('stranger', "SELECT distlock.acquire_with_token('lastval', 'tok', '1 s'); SELECT lastval()"),
	'42501', 'lastval() fails after a grant, as the manual says');

# ---------------------------------------------------------------------------
# Settings
# ---------------------------------------------------------------------------

my %context = map { split /\|/ } split /\n/,
  $admin->query("SELECT name, context FROM pg_settings WHERE name LIKE 'distlock.%'");
cmp_ok(scalar keys %context, '>=', 19, 'there are settings');
foreach my $name (sort keys %context)
{
	my $value = $admin->query("SELECT current_setting('$name')");
	my $wanted = { user => '', superuser => '42501', sighup => '55P02', postmaster => '55P02' }
	  ->{ $context{$name} };

	is(may('stranger', "SET $name = '$value'"), $wanted, "SET $name by everybody");
	is(may('stranger', "ALTER SYSTEM SET $name = '$value'"), '42501', '... ALTER SYSTEM');
	is(may('stranger', "ALTER ROLE stranger SET $name = '$value'"), $wanted, '... for the role')
	  if $context{$name} ne 'postmaster';
}
is(may('stranger', "SHOW distlock.$_"), '42501', "distlock.$_ is not shown to everybody")
  foreach 'redis_url', 'redis_password_file', 'redis_ca_file';
is( sees(
		'stranger',
		"SELECT count(*) FROM pg_settings
		WHERE name IN ('distlock.redis_url', 'distlock.redis_password_file', 'distlock.redis_ca_file')"
	),
	'0',
	'... nor in pg_settings');

# ---------------------------------------------------------------------------
# The other choice, as in docs/operations.md
# ---------------------------------------------------------------------------

$admin->query(<<'EOQ');
CREATE ROLE lock_user;
CREATE ROLE lock_admin IN ROLE lock_user;
CREATE ROLE batch LOGIN IN ROLE lock_user;
CREATE ROLE boss LOGIN IN ROLE lock_admin;
REVOKE USAGE ON SCHEMA distlock FROM PUBLIC;
REVOKE SELECT ON distlock.locks, distlock.waiters FROM PUBLIC;
GRANT USAGE ON SCHEMA distlock TO lock_user;
GRANT SELECT ON distlock.locks, distlock.waiters TO lock_user;
EOQ
my $grants = join '',
  slurp_file("$FindBin::RealBin/../../docs/operations.md") =~
  /^(GRANT EXECUTE ON (?:FUNCTION|PROCEDURE) .*?;)$/msg;
like($grants, qr/purge\(\)/, 'the manual has what administrators are given');
$admin->query($grants);

# All calls of all functions: nobody else has them, whoever they are.
my @calls = split /\n/, $admin->query(<<'EOQ');
SELECT format('%s distlock.%I(%s)', CASE prokind WHEN 'p' THEN 'CALL' ELSE 'SELECT' END, proname,
	(SELECT string_agg(format('NULL::%s', t::regtype), ', ') FROM unnest(proargtypes) t))
FROM pg_proc WHERE pronamespace = 'distlock'::regnamespace ORDER BY proname
EOQ
cmp_ok(scalar @calls, '>', 35, 'there are functions');
is(join(' ', grep { may('stranger', $_) ne '42501' } @calls), '', 'without USAGE none can be called');
is( join(' ', map { /distlock\.(\w+)/ } grep { may('batch', $_) eq '42501' } @calls),
	'advance_fence force_acquire force_release mirror_check purge reset_stats start_worker stop_worker',
	'who locks has all but those of administrators');
is(join(' ', grep { may('boss', $_) eq '42501' } @calls), '', '... who have all');
foreach
  my $view (split /\n/, $admin->query("SELECT viewname FROM pg_views WHERE schemaname = 'distlock'"))
{
	is(may('stranger', "TABLE distlock.$view"), '42501', "$view: not without USAGE");
	is(may('batch', "TABLE distlock.$view"), '', '... but with it');
}
# Prepared before it was revoked
$admin->query(
	"GRANT USAGE ON SCHEMA distlock TO stranger; SET SESSION AUTHORIZATION stranger;
	PREPARE p AS SELECT distlock.is_held('job'); RESET SESSION AUTHORIZATION;
	REVOKE USAGE ON SCHEMA distlock FROM stranger"
);
$admin->query('SET SESSION AUTHORIZATION stranger');
is($admin->fails('EXECUTE p'), '42501', 'what was prepared before does not go on');
$admin->query('RESET SESSION AUTHORIZATION; DEALLOCATE ALL');

# pg_dump keeps it: restored into another database, for the same roles.
$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $node->basedir . '/dump.sql' ],
	'pg_dump');
$admin->query('CREATE DATABASE restored TEMPLATE template0');
$node->command_ok(
	[   'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1',
		'-d', $node->connstr('restored'), '-f', $node->basedir . '/dump.sql' ],
	'... and restored');
is( $node->safe_psql(
		'restored',
		"SELECT has_schema_privilege('stranger', 'distlock', 'USAGE'),
		has_schema_privilege('batch', 'distlock', 'USAGE'),
		has_table_privilege('stranger', 'distlock.locks', 'SELECT'),
		has_table_privilege('batch', 'distlock.locks', 'SELECT'),
		has_function_privilege('batch', 'distlock.force_release(text)', 'EXECUTE'),
		has_function_privilege('boss', 'distlock.force_release(text)', 'EXECUTE')"
	),
	'f|t|f|t|f|t',
	'pg_dump keeps the grants');

# Who installed it without being a superuser has administration, but needs USAGE like all.
$admin->query('CREATE ROLE installer LOGIN; CREATE DATABASE installed OWNER installer');
$node->safe_psql('installed',
	'SET SESSION AUTHORIZATION installer; CREATE EXTENSION distlock; RESET SESSION AUTHORIZATION;
	REVOKE USAGE ON SCHEMA distlock FROM PUBLIC; GRANT USAGE ON SCHEMA distlock TO lock_user'
);
is( sqlstate(
		$node, 'installed', "SET SESSION AUTHORIZATION installer; SELECT distlock.force_release('a')"),
	'42501',
	'who installed it needs lock_user too');
$admin->query('GRANT lock_user TO installer');
is( sqlstate(
		$node, 'installed', "SET SESSION AUTHORIZATION installer; SELECT distlock.force_release('a')"),
	'',
	'... and administers it then');
is( sqlstate(
		$node, 'installed', 'SET SESSION AUTHORIZATION installer; SELECT token FROM distlock.lock'),
	'42501',
	'... but does not see tokens');

$_->quit foreach $admin, $holding;
$waiting->kill_client;
$node->stop;
done_testing();
