# When the server's queue of notifications is nearly full, since somebody
# listens and never reads, events are dropped and counted, and no call fails for
# it.  The queue can be made small only from PostgreSQL 17 on.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockEvents;
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => preloaded());
my $version = $node->safe_psql('postgres', "SELECT current_setting('server_version_num')");
plan skip_all => 'the queue takes 8 GB before PostgreSQL 17' if $version < 170000;
$node->append_conf('postgresql.conf', "max_notify_queue_pages = 64\ndistlock.purge_after = 1h");
$node->restart;

my $session = session($node);
my $sleeper = session($node);
my $owner = 'o' x 250;

await_worker($session, 'postgres');

sub usage
{
	return $session->query('SELECT pg_notification_queue_usage()');
}

sub counted
{
	return split /\|/, $session->query("SELECT events, events_lost FROM distlock.stats WHERE database = 'postgres'");
}

# Leases that lapse, each in a transaction of its own
my $leases = 0;
sub lapse
{
	my ($count) = @_;

	$leases += $count;
	$session->query(<<"EOQ");
DO \$\$ BEGIN
	FOR i IN 1 .. $count LOOP
		PERFORM distlock.acquire_with_token(format('%s %s', rpad('lease ', 400, '-'), i), 'mine', '1 ms', owner => '$owner');
		COMMIT;
	END LOOP;
END \$\$
EOQ
	await_unheld($session, 'lease %');
	# They are counted before the lock of NOTIFY is let go.
	$session->query('NOTIFY elsewhere');
	return;
}

lapse(10);
my ($events, $lost) = counted();
is("$events $lost", '10 0', 'while there is room, all are announced');

# 64 pages of 8 kB have room for some 700 of them.
$sleeper->query('LISTEN distlock; BEGIN; SELECT 1');
for (1 .. 10)
{
	lapse(200);
	last if (counted())[1] > 0;
}
($events, $lost) = counted();
note "announced $events, dropped $lost, the queue is full to " . usage();
cmp_ok($lost, '>', 0, 'events are dropped');
is($events + $lost, $leases, '... and each is counted as one or the other');
cmp_ok(usage(), '<', 0.9, '... with room left for the notifications of others');
is($session->query("SELECT errors, state FROM distlock.worker_status WHERE database = 'postgres'"),
	'0|running', '... and no error of the worker');

# Sessions, and a transaction with more events than the queue has room for
$session->query("SET distlock.events = 'granted, released, extended, expired, forced'");
is($session->fails("SELECT distlock.release('k', distlock.acquire('k', '1 h'))"), '', 'a grant does not fail');
is($session->fails("SELECT distlock.acquire('k', '1 h'), distlock.force_release('k')"), '', '... nor does force');
$sleeper->query('COMMIT');
await('the queue to be empty', sub { usage() < 0.05 });
my $before = (counted())[0] + (counted())[1];
is($session->fails(<<'EOQ'), '', 'a transaction with very many events does not fail either');
DO $$
BEGIN
	FOR i IN 1 .. 3000 LOOP
		PERFORM distlock.acquire_with_token('k', 'mine', '1 h', owner => repeat('o', 250));
		PERFORM distlock.release('k', 'mine');
	END LOOP;
END $$
EOQ

# When there is room again, all is as before.
await('the queue to be empty', sub { $session->query('NOTIFY distlock'); usage() < 0.05 });
($events, $lost) = counted();
is($events + $lost - $before, 6000, '... and they are counted');
$session->query('RESET distlock.events');
lapse(5);
is(join(' ', counted()), $events + 5 . " $lost", 'with room again, all are announced');

$_->quit foreach $session, $sleeper;
$node->stop;
done_testing();
