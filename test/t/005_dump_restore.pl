# A dump holds no lock, and its restoration takes no fence back: not in another
# database, not in a database of the same name, not when it is restored twice,
# nor over a database in use (promise 2).  What the administrator granted
# survives.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use List::Util qw(max);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', extension => 0);
my $dumps = $node->basedir;
my $highest = 0;

# Dump the database in pg_restore's format, or for psql.
sub dump_db
{
	my ($dbname, $file, @options) = @_;

	$node->command_ok([ 'pg_dump', @options, '-f', "$dumps/$file", $dbname ], "dump: $file");
	return;
}

sub restore
{
	my ($file, $dbname, @options) = @_;

	$node->command_ok([ 'pg_restore', '-e', @options, '-d', $dbname, "$dumps/$file" ],
		"restore: $file into $dbname");
	return;
}

sub create_db
{
	$node->safe_psql('postgres', "CREATE DATABASE $_[0]");
	return;
}

sub drop_db
{
	$node->safe_psql('postgres', "DROP DATABASE $_[0]");
	return;
}

# The locks of the database work, and with fences above all before.
sub works
{
	my ($dbname, $what) = @_;
	my $session = session($node, $dbname);
	my @fences = draw($session, 5);

	is(scalar @fences, 5, "$what: locks work");
	is_deeply([ sort { $a <=> $b } @fences ], \@fences, "$what: fences increase");
	cmp_ok($fences[0], '>', $highest, "$what: they are greater than any before");
	$highest = max($highest, @fences);
	$session->quit;
	return;
}

create_db('app');
$node->safe_psql('app', <<'EOQ');
CREATE ROLE batch;
CREATE ROLE guest;
CREATE EXTENSION distlock;
REVOKE EXECUTE ON FUNCTION distlock.advance_fence() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION distlock.force_release(text) TO batch;
REVOKE EXECUTE ON FUNCTION
	distlock.acquire(text, interval, interval, text, text, text, distlock.retry) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	distlock.acquire(text, interval, interval, text, text, text, distlock.retry) TO batch;
EOQ
dump_db('app', 'unused', '-Fc');
works('app', 'a new extension');
is($highest < 1000, 1, 'it begins with small numbers');

$node->safe_psql('app', "SELECT distlock.acquire_with_token('held', 'mine', '1 h')");
dump_db('app', 'used', '-Fc');
dump_db('app', 'data', '-Fc', '--data-only');
dump_db('app', 'plain.sql');
works('app', 'in use after the dump');
unlike(slurp_file("$dumps/plain.sql"), qr/held|mine/, 'the dump holds no locks');

# Into other databases
for my $dbname ('other', 'twice')
{
	create_db($dbname);
	restore('used', $dbname);
	works($dbname, "restored as $dbname");
	is($node->safe_psql($dbname, "SELECT distlock.is_held('held')"),
		'f', 'locks are not restored');
}
create_db('early');
restore('unused', 'early');
works('early', 'restored from a dump of an extension never used');

# Who may do what
my $rights = <<'EOQ';
SELECT r, has_function_privilege(r, f.oid, 'EXECUTE')
FROM unnest(ARRAY['batch', 'guest']) r, pg_proc f
WHERE f.pronamespace = 'distlock'::regnamespace
	AND proname IN ('acquire', 'force_release', 'extend')
ORDER BY proname, r
EOQ
my $granted = "batch|t\nguest|f\nbatch|t\nguest|t\nbatch|t\nguest|f";
is($node->safe_psql('app', $rights), $granted, 'rights as the administrator set them');
is($node->safe_psql('other', $rights), $granted, '... survive dump and restore');

# Into a database of the same name, from each dump
for my $file ('used', 'unused', 'used')
{
	drop_db('app');
	create_db('app');
	restore($file, 'app');
	works('app', "app made anew from $file");
}
drop_db('app');
create_db('app');
$node->command_ok(
	[ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dumps/plain.sql", '-d', $node->connstr('app') ],
	'restore with psql');
works('app', 'restored with psql');

# Over a database in use: sessions that live on, and new ones
my $session = session($node, 'app');
$session->query("SELECT distlock.acquire_with_token('held', 'mine', '1 h')");
restore('data', 'app');
my ($fence) = draw($session, 1);
cmp_ok($fence, '>', $highest, 'data restored while in use: the fence goes on');
$highest = $fence;
works('app', 'data restored while in use');
is($session->query("SELECT distlock.try_release('held', 'mine')"), 't', '... and locks stay');
$session->quit;

# The database copied, and the copy copied
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE app');
works('copy', 'copied');
$node->safe_psql('postgres', 'CREATE DATABASE copy_of_copy TEMPLATE copy');
works('copy_of_copy', 'copied from a copy');

# A snapshot of a database put back, time and again
for my $time ('first', 'second')
{
	drop_db('copy_of_copy');
	$node->safe_psql('postgres', 'CREATE DATABASE copy_of_copy TEMPLATE copy');
	works('copy_of_copy', "a copy made in its place for the $time time");
}

# The whole server
my $new = PostgreSQL::Test::Cluster->new('new');
$new->init;
$new->start;
$node->command_ok([ 'pg_dumpall', '--no-role-passwords', '-f', "$dumps/all.sql" ], 'pg_dumpall');
$new->psql('postgres', "\\i $dumps/all.sql", on_error_stop => 0);
my ($elsewhere) = draw(session($new, 'app'), 1);
cmp_ok($elsewhere, '>', $highest, 'another server: fences are greater');
is($new->safe_psql('app', $rights), $granted, 'another server: rights are the same');
$new->stop;

$node->stop;
done_testing();
