# A role that is no superuser and has installed the extension, since it owns the
# database, can dump the database, and restore it: locks work then, and the role
# administers them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', extension => 0);
my $dump = $node->basedir . '/dump.sql';
my @installer = ('-U', 'installer');

$node->safe_psql('postgres', 'CREATE ROLE installer LOGIN');
$node->safe_psql('postgres', "CREATE DATABASE $_ OWNER installer") foreach 'app', 'copy';
$node->safe_psql('app', 'CREATE EXTENSION distlock', extra_params => \@installer);
my ($highest) = reverse draw(session($node, 'app'), 3);

$node->command_ok([ 'pg_dump', @installer, '--no-comments', '-f', $dump, 'app' ], 'who installed it can dump it');
$node->command_ok(
	[ 'psql', @installer, '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, 'copy' ], '... and restore it');
is($node->safe_psql('copy', "SELECT distlock.force_release('key')", extra_params => \@installer),
	'f', '... and administers the restored one');
my ($fence) = draw(session($node, 'copy'), 1);
cmp_ok($fence, '>', $highest, '... whose fences are greater than any before');

$node->stop;
done_testing();
