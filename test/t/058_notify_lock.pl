# Who keeps the lock of NOTIFY, as a commit that waits for a standby does, keeps the
# worker from announcing, but no key is locked meanwhile, and DROP EXTENSION need
# not wait long.  It is reported once, and made up for afterwards.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use DistlockWorker;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('main', allows_streaming => 1, conf => preloaded());
my $session = steadfast($node);

await_worker($session, 'postgres');
# A standby that is not there
$node->append_conf('postgresql.conf', q{synchronous_standby_names = 'nobody'});
$node->reload;
my $stuck = session($node);
my $other = session($node);
$other->query('SET synchronous_commit = local');
$stuck->query('SET synchronous_commit = on');
$stuck->send(q{BEGIN; CREATE TEMP TABLE t (); NOTIFY elsewhere; COMMIT});
await('a commit that waits for a standby', sub {
	$other->query(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'}) == 1;
});

$other->query(q{SET distlock.events = ''; SELECT distlock.acquire('lapse ' || i, '1 ms') FROM generate_series(1, 10) i});
await('the worker to wait for the lock of NOTIFY', sub {
	$other->query(<<'EOQ') > 0 });
SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE NOT granted AND locktype = 'object' AND objid = 0 AND backend_type = 'distlock worker'
EOQ
is($other->query("SELECT distlock.try_acquire('lapse 1', '1 h') IS NOT NULL"), 't',
	'a lapsed lock is granted meanwhile');
await('the worker to give up', sub { worker_state($other, 'postgres') eq 'failed' });
is($other->query("SELECT last_error FROM distlock.worker_status WHERE database = current_database()"),
	'canceling statement due to lock timeout', 'the view shows why');

$node->append_conf('postgresql.conf', q{synchronous_standby_names = ''});
$node->reload;
$stuck->result;
await('the lapsed leases to be freed', sub {
	$other->query(q{SELECT count(*) FROM distlock.lock WHERE token IS NOT NULL AND key LIKE 'lapse %'}) == 1;
});
await('the worker to be well again', sub { worker_state($other, 'postgres') eq 'running' });
is(scalar(log_lines($node, 0, qr/ERROR: .*lock timeout/)), 1, 'reported once');

# Others who notify all the time, with slow commits: the worker has to wait for
# the lock each time, longer than a step may take, and gets on nevertheless.
$node->append_conf('postgresql.conf', "fsync = on\ncommit_delay = 20000\ncommit_siblings = 0");
$node->reload;
$other->query('CREATE TABLE noise (i integer)');
my $script = "$PostgreSQL::Test::Utils::tmp_check/notify.sql";
append_to_file($script, "BEGIN; INSERT INTO noise VALUES (1); NOTIFY elsewhere; COMMIT;\n");
my ($output, $errors);
my $load = IPC::Run::start([ 'pgbench', '-n', '-c', 4, '-T', 120, '-f', $script, $node->connstr('postgres') ],
	'>', \$output, '2>', \$errors);
await('the load', sub { $other->query('SELECT count(*) > 10 FROM noise') eq 't' });
$other->query(q{SELECT distlock.acquire('noisy ' || i, '1 ms') FROM generate_series(1, 50) i});
await('the leases to be freed', sub {
	$other->query(q{SELECT count(*) FROM distlock.lock WHERE token IS NOT NULL AND key LIKE 'noisy %'}) == 0;
});
ok($load->pumpable, 'beside many who notify, leases are ended, too');
$load->signal('TERM');
eval { $load->finish };

$_->quit foreach $stuck, $other;
$node->stop;
done_testing();
