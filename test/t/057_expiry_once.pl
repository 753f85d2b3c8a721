# Whoever ends a lapsed lease announces it, in the transaction that does: the
# worker, the next grant, force, or purge().  However many are at it, each
# lapsed lease is announced once, and nothing else is.

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

my $SECONDS = 3;

my $node = new_node('main', conf => preloaded("distlock.purge_after = '100 ms'"));
my $session = session($node);
my $listener = listener($node);
my $worker = await_worker($session, 'postgres');

# A waiter takes a lease over when it lapses.
for my $i (1 .. 3)
{
	my $waiter = session($node);

	$session->query("SELECT distlock.acquire_with_token('key', 'of $i', '1 h')");
	$waiter->send("SELECT distlock.acquire_with_token('key', 'other', '1 h', wait => '100 s')");
	await_waiters($node, 'key', 1);
	$session->query("SELECT distlock.extend('key', 'of $i', '100 ms')");
	$waiter->result;
	my @events = $listener->events;
	is(join(', ', map { "$_->{event} by $_->{pid}" } @events), 'expired by ' . $waiter->pid,
		'taken over by a waiter: announced by that');
	$session->query("SELECT distlock.release('key', 'other')");
	$waiter->quit;
}

# A lease that has lapsed while there was no worker.
sub lapse_unnoticed
{
	$session->query('SELECT distlock.stop_worker()');
	$session->query("SELECT distlock.acquire_with_token('k', 'mine', '1 ms')");
	await('the lease to lapse', sub { $session->query("SELECT distlock.is_held('k')") eq 'f' });
	return;
}

# It is announced by whom?
sub announced_by
{
	my ($what, $expected) = @_;

	$session->query('SELECT distlock.start_worker()');
	$worker = await_worker($session, 'postgres');
	# Who adds a row ends what has lapsed some time ago.
	await_unheld($session, 'k');
	# The worker has been everywhere when it has freed another.
	$session->query("SELECT distlock.acquire_with_token('other', 'mine', '1 ms')");
	await_unheld($session, '%');
	is(join(', ', map { "$_->{event} $_->{key} by " . ($_->{pid} == $worker ? 'worker' : 'session') }
			sort { $a->{key} cmp $b->{key} } $listener->events),
		"expired k by $expected, expired other by worker", $what);
	return;
}

my %calls = (
	'the next grant' => "SELECT distlock.release('k', distlock.acquire('k', '1 h'))",
	'a grant to the former token' => "SELECT distlock.acquire_with_token('k', 'mine', '1 h'), distlock.release('k', 'mine')",
	'force_acquire(), which need not force' => "SELECT distlock.release('k', distlock.force_acquire('k', '1 h'))",
	'scope transaction' => "CREATE TABLE IF NOT EXISTS t (); SELECT distlock.do_exclusively('k', '1 h', 'DROP TABLE t')",
	'purge()' => 'CALL distlock.purge()');
for my $what (sort keys %calls)
{
	lapse_unnoticed();
	$session->query($calls{$what});
	announced_by($what, 'session');
}
my %others = (
	'a grant that is rolled back' => "BEGIN; SELECT distlock.acquire('k', '1 h'); ROLLBACK",
	'the former holder' => "SELECT distlock.try_extend('k', 'mine', '1 h'), distlock.try_release('k', 'mine')",
	'force_release(), with nothing to force' => "SELECT distlock.force_release('k')",
	'only a look' => "SELECT distlock.is_held('k'), (SELECT count(*) FROM distlock.locks)");
for my $what (sort keys %others)
{
	lapse_unnoticed();
	$session->query($others{$what});
	announced_by($what, 'worker');
}

# All at once.  Most leases are left to lapse, some are released in time or
# extended; each fence that was granted has one end.
$node->append_conf('postgresql.conf', "distlock.events = 'granted, released, expired, forced'");
$node->reload;
$session->query("SELECT distlock.force_release(key) FROM distlock.locks");
await('the setting', sub { $session->query('SHOW distlock.events') =~ /granted/ });
$listener->events;
my $script = "$PostgreSQL::Test::Utils::tmp_check/load.sql";
append_to_file($script, <<'EOS');
\set key random(1, 30)
\set ttl random(1, 12)
\set what random(1, 20)
SELECT coalesce(distlock.try_acquire('key :key', make_interval(secs => :ttl / 1000.0),
	wait => CASE WHEN :what < 5 THEN interval '3 ms' ELSE interval '0' END), '') AS token, 'x' AS none \gset
\if :what > 15
	SELECT distlock.try_release('key :key', CASE ':token' WHEN '' THEN ':none' ELSE ':token' END);
\elif :what > 13
	SELECT distlock.try_extend('key :key', CASE ':token' WHEN '' THEN ':none' ELSE ':token' END, '4 ms');
\elif :what = 13
	-- 55P03 when somebody in a transaction stands still for a second
	DO 'BEGIN PERFORM distlock.force_release(''key :key''); EXCEPTION WHEN lock_not_available THEN END';
\elif :what = 12
	CALL distlock.purge();
\elif :what = 11
	BEGIN;
	SELECT distlock.try_acquire('key :key', '1 ms');
	ROLLBACK;
\endif
EOS
command_ok([ 'pgbench', '-n', '-c', 6, '-j', 2, '-T', $SECONDS, '-f', $script, $node->connstr('postgres') ],
	'a load');
await_unheld($session, 'key %');
my @events = $listener->events;
my %count = (granted => {}, ended => {});
$count{ $_->{event} eq 'granted' ? 'granted' : 'ended' }{"$_->{key} fence $_->{fence}"}++ foreach @events;
note explain kinds(@events);
cmp_ok(kinds(@events)->{expired}, '>', 1000, 'many leases have expired');
my $grants = $count{granted};
my $ends = $count{ended};
is(join(', ', grep { $grants->{$_} != 1 } sort keys %$grants), '', 'every grant was announced once');
is(join(', ', grep { ($ends->{$_} // 0) != 1 } sort keys %$grants), '', '... and has one end');
is(join(', ', grep { !$grants->{$_} } sort keys %$ends), '', '... and nothing else has');

# Of those who notify, the worker waits a second for the one before it.
like($session->query("SELECT errors, last_error FROM distlock.worker_status WHERE database = 'postgres'"),
	qr/^(?:0\||\d+\|canceling statement due to lock timeout$)/, 'no error of the worker, unless it was kept waiting');
is_deeply([ grep { !/due to lock timeout/ } log_lines($node, 0, qr/\[$worker\] .*ERROR:/) ], [], '... as the log says');

# Rows that are free are gone after a while, and the worker rests.
await('the table to be empty', sub { $session->query('SELECT count(*) FROM distlock.lock') == 0 });
is(told($listener), '', 'which is not announced');

$_->quit foreach $listener, $session;
$node->stop;
done_testing();
