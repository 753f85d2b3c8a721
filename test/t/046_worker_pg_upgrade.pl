# pg_upgrade, with distlock preloaded in the old server and in the new one: no
# launcher runs meanwhile, nothing fails, and the new server has its workers.
#
# For upgrades from another version see 016_pg_upgrade.pl.

use strict;
use warnings;

use File::Find;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $conf = preloaded('log_min_messages = debug1');
my $old = PostgreSQL::Test::Cluster->new('old',
	$ENV{oldinstall} ? (install_path => $ENV{oldinstall}) : ());
my $new = PostgreSQL::Test::Cluster->new('new');

# An older version of initdb knows no checksums by default.
my $checksums = $ENV{oldinstall} && $new->pg_version >= 18;
$old->init;
$new->init($checksums ? (extra => ['--no-data-checksums']) : ());
$_->append_conf('postgresql.conf', $conf) foreach $old, $new;
$old->start;
$old->safe_psql('postgres', 'CREATE EXTENSION distlock');
$old->safe_psql('template1', 'CREATE DATABASE other TEMPLATE postgres');
my $session = session($old);
ok(await_as_expected($session, 'postgres', 'other'), 'the old server has workers');
$session->query("SELECT distlock.acquire_with_token('held', 'mine', '1 h')");
$session->query("SELECT distlock.stop_worker()");
leave_to_lapse($session, 20);
$session->quit;
my ($oldbindir, $newbindir) = map { $_->config_data('--bindir') } $old, $new;
$old->stop;

# It leaves files in the current directory.
chdir $new->basedir or die "could not change directory: $!";
command_ok(
	[
		'pg_upgrade', '--no-sync', '--retain',
		'-d', $old->data_dir, '-D', $new->data_dir,
		'-b', $oldbindir, '-B', $newbindir,
		'-s', $new->host, '-p', $old->port, '-P', $new->port
	],
	'pg_upgrade');

# What its servers have logged
my $log = '';
find(sub { $log .= slurp_file($_) if -f && /server.*\.log$/ }, $new->data_dir . '/pg_upgrade_output.d');
my $start = qr/starting background worker process "distlock/;
like(slurp_file($old->logfile), $start, 'a start of a worker is logged');
like($log, qr/database system is ready to accept connections/, 'the servers of pg_upgrade have logged');
unlike($log, $start, '... and started none');
unlike($log, qr/(ERROR|FATAL|PANIC):/, '... nothing failed');

$new->start;
$session = session($new);
ok(await_as_expected($session, 'postgres', 'other'), 'the new server has workers');
ok(await_freed($session), '... which do their work');
is($session->query("SELECT distlock.is_held('held')"), 't', 'what was held is held');
$session->quit;
$new->stop;
done_testing();
