# Whatever the format of the dump, over the database it came from (--clean) or by
# pg_dumpall on another server: the restored extension works, the privileges that
# an administrator has changed are as he set them, object by object, settings of
# databases and roles are there, and what uses the extension is restored after it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', extension => 0, conf => preloaded());
my $dumps = $node->basedir;
my $highest = 0;

# Privileges of all objects of the schema, as they are and as an extension's script
# made them; what is different from one restoration to the next is not in there.
my $privileges = <<'EOQ';
SELECT kind, object, (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(acl) a),
	(SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(initprivs) a)
FROM (SELECT 'function' AS kind, oid::regprocedure::text AS object, proacl AS acl, 'pg_proc'::regclass AS classoid, oid
		FROM pg_proc WHERE pronamespace = 'distlock'::regnamespace
		UNION ALL
		SELECT 'relation', oid::regclass::text, relacl, 'pg_class'::regclass, oid
		FROM pg_class WHERE relnamespace = 'distlock'::regnamespace AND relkind IN ('r', 'v', 'S')
		UNION ALL
		SELECT 'schema', nspname, nspacl, 'pg_namespace'::regclass, oid
		FROM pg_namespace WHERE nspname = 'distlock') o
	LEFT JOIN pg_init_privs i ON i.objoid = o.oid AND i.classoid = o.classoid AND objsubid = 0
ORDER BY 1, 2
EOQ

# What a role can do, and what it cannot.
my $rights = <<'EOQ';
SELECT r, has_schema_privilege(r, 'distlock', 'USAGE'), has_function_privilege(r, f, 'EXECUTE')
FROM unnest(ARRAY['administrator', 'application', 'somebody']) r,
	unnest(ARRAY['distlock.acquire(text,interval,interval,text,text,text,distlock.retry)',
		'distlock.force_release(text)']) f
ORDER BY 1, 2, f
EOQ
my $granted = join "\n", 'administrator|t|t', 'administrator|t|t', 'application|t|f', 'application|t|t',
  'somebody|f|f', 'somebody|f|f';

sub rights_in
{
	my ($server, $dbname) = @_;

	return join "\n", sort split /\n/, $server->safe_psql($dbname, $rights);
}

# The restored database is as it should be.
sub works
{
	my ($server, $dbname, $what) = @_;

	is(rights_in($server, $dbname), $granted, "$what: rights are as the administrator set them");
	is($server->safe_psql($dbname, $privileges), $main::before, '... those of each object');
	my $session = session($server, $dbname);
	my ($fence) = draw($session, 1);
	cmp_ok($fence, '>', $highest, '... fences are greater than any before');
	$highest = $fence;
	is($session->query("SELECT count(*) FROM distlock.locks"), '0', '... no locks');
	is($session->query("CALL nightly(); SELECT count(*) FROM account"), '1', '... a procedure that uses the extension');
	is($session->fails("INSERT INTO account VALUES (1)"), 'LK001', '... a trigger');
	is($session->query('SELECT * FROM held'), '0', '... a view');
	$session->quit;
	return;
}

$node->safe_psql('postgres', <<'EOQ');
CREATE ROLE administrator;
CREATE ROLE application LOGIN;
CREATE ROLE somebody;
CREATE DATABASE app;
EOQ
$node->safe_psql('app', <<'EOQ');
CREATE EXTENSION distlock;
ALTER DATABASE app SET distlock.events = 'forced';
ALTER ROLE application SET distlock.durable = off;
ALTER ROLE application IN DATABASE app SET distlock.durable = on;
-- what the manual says for "only some roles", and more
REVOKE USAGE ON SCHEMA distlock FROM PUBLIC;
REVOKE SELECT ON distlock.locks, distlock.waiters FROM PUBLIC;
GRANT USAGE ON SCHEMA distlock TO application, administrator;
GRANT SELECT ON distlock.locks TO application WITH GRANT OPTION;
REVOKE EXECUTE ON FUNCTION
	distlock.acquire(text, interval, interval, text, text, text, distlock.retry) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	distlock.acquire(text, interval, interval, text, text, text, distlock.retry) TO application, administrator;
GRANT EXECUTE ON FUNCTION distlock.force_release(text) TO administrator;
GRANT EXECUTE ON PROCEDURE distlock.purge() TO administrator;
-- names that sort before the extension's
CREATE TABLE account (id int);
CREATE TRIGGER account_lock BEFORE INSERT ON account EXECUTE FUNCTION distlock.require_lock('nightly');
CREATE VIEW held AS SELECT count(*) FROM distlock.locks;
CREATE PROCEDURE nightly() LANGUAGE sql BEGIN ATOMIC
	SELECT distlock.acquire('nightly', ttl => '1 min', scope => 'transaction');
	DELETE FROM account;
	INSERT INTO account VALUES (1);
END;
EOQ
our $before = $node->safe_psql('app', $privileges);
works($node, 'app', 'before');

# Each format, with locks held
my $holder = session($node, 'app');
$holder->query("SELECT distlock.acquire('held', '1 h'), distlock.acquire('bound', '1 h', scope => 'session')");
my %restored = (
	custom => [ [ '-Fc' ], [] ],
	directory => [ [ '-Fd', '-j2' ], [ '-j2' ] ],
	tar => [ [ '-Ft' ], [] ]);
foreach my $format (sort keys %restored)
{
	my ($dump, $restore) = @{ $restored{$format} };

	$node->command_ok([ 'pg_dump', @$dump, '-f', "$dumps/$format", 'app' ], "dump: $format");
	$node->safe_psql('postgres', "CREATE DATABASE $format");
	$node->command_ok([ 'pg_restore', '-e', @$restore, '-d', $format, "$dumps/$format" ], "... restored");
	works($node, $format, $format);
}

# Over itself: all is dropped before, and made anew.  (A session that holds a lock
# is no obstacle, but its lock goes.)
$node->command_ok([ 'pg_restore', '-e', '--clean', '--if-exists', '-d', 'app', "$dumps/custom" ], '--clean, over itself');
works($node, 'app', '--clean');
is($holder->query("SELECT distlock.is_held('bound')"), 'f', '... a lock from before is not there any more');
is($holder->query("SELECT distlock.acquire('bound', '1 h', scope => 'session') IS NOT NULL"), 't',
	'... and its session goes on');
$node->command_ok([ 'pg_dump', '--clean', '--if-exists', '-f', "$dumps/clean.sql", 'app' ], 'dump for psql with --clean');
$node->command_ok(
	[ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dumps/clean.sql", '-d', $node->connstr('app') ], '... restored');
works($node, 'app', 'psql with --clean');
$holder->quit;

# One transaction: all or nothing
$node->safe_psql('postgres', 'CREATE DATABASE whole');
$node->command_ok([ 'pg_restore', '--single-transaction', '-d', 'whole', "$dumps/custom" ], '--single-transaction');
works($node, 'whole', 'in a transaction');

# The whole server, with roles and settings, to one that does not know them, and
# has not preloaded the library.
$node->command_ok([ 'pg_dumpall', '--clean', '--if-exists', '-f', "$dumps/all.sql" ], 'pg_dumpall --clean');
$node->stop;
my $new = PostgreSQL::Test::Cluster->new('new');
$new->init;
$new->start;
my ($ret, $stdout, $stderr) = $new->psql('postgres', "\\i $dumps/all.sql", on_error_stop => 0);
# (Its own superuser cannot be dropped.)
is(join("\n", grep { /ERROR/ && !/current user cannot be dropped|role "\w+" already exists/ } split /\n/, $stderr),
	'', 'pg_dumpall restored on another server');
works($new, 'app', 'another server');
my $show = "SELECT distlock.key_id('a') IS NOT NULL; SHOW distlock.durable; SHOW distlock.events";
sub settings
{
	my ($dbname, @user) = @_;
	my ($status, $out) = $new->psql($dbname, $show, extra_params => \@user);

	return join ' ', split /\n/, $out;
}
is(settings('app'), 't on forced', '... with the setting of the database');
is(settings('app', '-U', 'application'), 't on forced', '... with that of a role in the database');
is(settings('custom'), 't on expired, forced', '... which others have not');
$new->safe_psql('custom', 'GRANT CONNECT ON DATABASE custom TO application');
is(settings('custom', '-U', 'application'), 't off expired, forced', '... with that of the role');

$new->stop;
done_testing();
