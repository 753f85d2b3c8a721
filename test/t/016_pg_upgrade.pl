# After pg_upgrade locks are still held, and fences are greater than every
# fence seen before (promise 2).
#
# It upgrades to the same version, unless the environment variable oldinstall
# names the directory of an older installation that has distlock, as for
# PostgreSQL's own test of pg_upgrade.  "tools/check --from" sets it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = PostgreSQL::Test::Cluster->new('old',
	$ENV{oldinstall} ? (install_path => $ENV{oldinstall}) : ());
my $new = PostgreSQL::Test::Cluster->new('new');

# An older version of initdb knows no checksums by default.
my $checksums = $ENV{oldinstall} && $new->pg_version >= 18;
$old->init;
$new->init($checksums ? (extra => ['--no-data-checksums']) : ());
$old->start;
$old->safe_psql('postgres', 'CREATE EXTENSION distlock');
my ($highest) = reverse draw($old, 40);
$old->safe_psql('postgres', "SELECT distlock.acquire_with_token('held', 'mine', '1 h', owner => 'me')");
my $held = $old->safe_psql('postgres', "SELECT distlock.fence('held', 'mine')");
$old->safe_psql('template1', 'CREATE DATABASE unused; CREATE ROLE batch');
$old->safe_psql('postgres', 'GRANT EXECUTE ON FUNCTION distlock.force_release(text) TO batch');
$old->safe_psql('unused', 'CREATE EXTENSION distlock');
my $oldbindir = $old->config_data('--bindir');
my $newbindir = $new->config_data('--bindir');
$old->stop;

# It leaves files in the current directory.
chdir $new->basedir or die "could not change directory: $!";
command_ok(
	[
		'pg_upgrade', '--no-sync',
		'-d', $old->data_dir, '-D', $new->data_dir,
		'-b', $oldbindir, '-B', $newbindir,
		'-s', $new->host, '-p', $old->port, '-P', $new->port
	],
	'pg_upgrade');
$new->start;

is($new->safe_psql('postgres', "SELECT distlock.fence('held', 'mine'),
		(SELECT owner FROM distlock.locks WHERE key = 'held')"),
	"$held|me", 'what was held is held');
my @fences = draw($new, 5);
is(scalar @fences, 5, 'locks work');
cmp_ok($fences[0], '>', $highest, 'fences are greater than any before');
cmp_ok($fences[0], '>', $held, '... those of other keys as well');
is($new->safe_psql('postgres', "SELECT distlock.try_release('held', 'mine')"),
	't', 'what was held can be released');
my ($unused) = draw(session($new, 'unused'), 1);
cmp_ok($unused, '>', $highest, 'an extension never used begins above them, too');
is($new->safe_psql('postgres',
		"SELECT has_function_privilege('batch', 'distlock.force_release(text)', 'EXECUTE')"),
	't', 'rights are kept');

$new->stop;
done_testing();
