# A standby has no workers, and start_worker() says why.  Its promotion starts
# them: leases that have lapsed meanwhile are freed, those that have not are held
# as before.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_node('primary', allows_streaming => 1, conf => preloaded('distlock.purge_after = 1h'));
my $on_primary = session($primary);
my $standby = PostgreSQL::Test::Cluster->new('standby');

$on_primary->query('CREATE DATABASE other TEMPLATE postgres');
$primary->backup('backup');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
my $on_standby = session($standby);

# The primary leaves them for the standby to free.
$on_primary->query('SELECT distlock.stop_worker()');
leave_to_lapse($on_primary, 50);
$on_primary->query("SELECT distlock.acquire_with_token('live', 'mine', '1 h', owner => 'me')");
$on_primary->query("SELECT distlock.acquire_with_token('session', 'mine', '1 h', scope => 'session')");
my $fence = $on_primary->query("SELECT distlock.fence('live', 'mine')");
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));

sub held
{
	return $on_standby->query('SELECT count(*), count(token) FROM distlock.lock');
}

is(held(), '52|52', 'the standby has the leases');
is($on_standby->query("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'distlock %'"),
	'0', 'a standby has no workers');
is($on_standby->query('SELECT state, pid FROM distlock.worker_status'), 'off|', '... as the view shows');
for my $call ('start_worker', 'stop_worker')
{
	is($on_standby->fails("SELECT distlock.$call()"), '25006', "$call() on a standby");
	like($on_standby->stderr, qr/HINT:  Connect to the primary server\./, '... with a hint');
}

$on_primary->quit;
$primary->stop('immediate');
$standby->promote;
ok(await_as_expected($on_standby, 'postgres', 'other'), 'promoted: a worker in each database');
ok(await_freed($on_standby), 'the leases that have lapsed are freed');
is(held(), '52|2', '... and no others');
is($on_standby->query("SELECT distlock.fence('live', 'mine'), distlock.is_held('live'),
		owner FROM distlock.locks WHERE key = 'live'"), "$fence|t|me", 'a lease is held as before');
is($on_standby->query("SELECT distlock.is_held('session')"),
	't', '... and a lock of a session is reserved');
is($on_standby->query("SELECT expired, errors FROM distlock.worker_status WHERE database = 'postgres'"),
	'50|0', 'as many were freed as had lapsed');
is($on_standby->query('SELECT distlock.start_worker()'), 'f', 'start_worker() finds it running');
is_deeply([ log_lines($standby, 0, qr{PANIC|WARNING|FATAL.*"distlock|FATAL.*distlock worker}) ], [], 'no failures in the log');

$on_standby->quit;
$standby->stop;
done_testing();
