# Rare circumstances of queues, snapshots, workers and launchers, one after the
# other on one server, which has another library preloaded too.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockEvents;
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => preloaded('distlock.expiry_warning = 5s')
	  . "shared_preload_libraries = 'pg_stat_statements, distlock'\n");
my $session = session($node);
my ($second, $third) = map { session($node) } 1 .. 2;

# ---------------------------------------------------------------------------
# Both libraries have their memory.
# ---------------------------------------------------------------------------

$session->query('CREATE EXTENSION pg_stat_statements');
await_worker($session, 'postgres');
is($session->query("SELECT count(*) > 0 FROM pg_stat_statements"), 't', 'the other library is at work');
$session->query("SELECT distlock.acquire_with_token('key', 'first', '1 h')");
is($session->query("SELECT grants > 0 FROM distlock.stats WHERE database = 'postgres'"), 't', '... and so is distlock');

# ---------------------------------------------------------------------------
# Two wait with the same token: they hold the lock together.
# ---------------------------------------------------------------------------

my $join = "SELECT distlock.acquire_with_token('key', 'shared', '%s', wait => '1 min')";

$second->send(sprintf $join, '1 min');
await_waiters($node, 'key', 1);
$third->send(sprintf $join, '3 h');
await_waiters($node, 'key', 2);
$session->query("SELECT distlock.release('key', 'first')");
my $fence = $second->result;
cmp_ok($fence, '>', 0, 'the first of them is granted the lock');
is($third->result, $fence, '... and the second joins it');
is($session->query("SELECT remaining_ms > 9000000, waiters FROM distlock.locks WHERE key = 'key'"), 't|0',
	'the time is as was asked for last');
is(traces($node), '', 'nothing is left of the queue');

# One statement: two locks, of which the second has to be waited for
$second->send("SELECT distlock.acquire_with_token('one', 'mine', '1 h') > 0, distlock.acquire_with_token('key', 'mine', '1 h', wait => '1 min') > $fence");
await_waiters($node, 'key', 1);
$session->query("SELECT distlock.release('key', 'shared')");
is($second->result, 't|t', 'a second lock in one statement');
is(traces($node), '', '... and nothing is left of its queue');
$session->query("SELECT distlock.release_all('mine')");

# A poller, while a transaction that shows no lock is at the key
$second->query("BEGIN; SELECT distlock.acquire_with_token('key', 'mine', '1 h'); SELECT distlock.release('key', 'mine')");
$third->send("SELECT distlock.try_acquire_with_token('key', 'polled', '1 h', wait => '1 min', retry => distlock.linear_backoff('5 ms')) > 0");
await('some tries', sub {
	$session->query("SELECT state = 'active' AND clock_timestamp() > query_start + interval '50 ms' FROM pg_stat_activity WHERE pid = "
		  . $third->pid) eq 't';
});
is($session->query('SELECT count(*) FROM distlock.waiters'), '0', 'a poller is not in the queue');
$second->query('COMMIT');
is($third->result, 't', '... and gets a key that a transaction has let go');
$session->query("SELECT distlock.release('key', 'polled')");

# ---------------------------------------------------------------------------
# A snapshot of before the first grant of a key
# ---------------------------------------------------------------------------

$second->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class');
$session->query("SELECT distlock.acquire_with_token('young', 'mine', '1 h')");
is($second->query("SELECT distlock.try_extend('young', 'mine') IS NOT NULL"), 't', 'it can be extended');
is($second->query("SELECT distlock.acquire_with_token('another', 'mine', '1 h') > 0"), 't', '... and another key acquired');
is($second->fails("SELECT distlock.guard('young', 'mine')"), '40001', '... but not guarded');
$second->query('ROLLBACK');
$session->query("SELECT distlock.release_all('mine')");

# ---------------------------------------------------------------------------
# A commit of nothing but a release does not wait for the disk; but it does when
# PostgreSQL has written something else at the last moment.
# ---------------------------------------------------------------------------

sub commits_to_disk
{
	my ($sql) = @_;

	$second->query("SELECT distlock.acquire_with_token('key', 'mine', '1 h')");
	$second->query("BEGIN; SELECT distlock.release('key', 'mine'); $sql; COMMIT");
	return $second->query('SELECT pg_current_wal_flush_lsn() >= pg_current_wal_insert_lsn()');
}

stop_walwriter($node);
# To empty this at the commit is to forget what is said of its size here, which
# stays after the rollback.
$second->query('CREATE TEMP TABLE emptied (i int PRIMARY KEY) ON COMMIT DELETE ROWS');
$second->query('BEGIN; INSERT INTO emptied SELECT generate_series(1, 1000); ANALYZE emptied; ROLLBACK');
is(commits_to_disk('SELECT 1'), 'f', 'a release is not flushed');
is(commits_to_disk('INSERT INTO emptied VALUES (1)'), 't', '... but with what is done at the commit');
kill('CONT', $session->query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"));

# ---------------------------------------------------------------------------
# A launcher that is new does not start what has been stopped.
# ---------------------------------------------------------------------------

$session->query('SELECT distlock.stop_worker()');
await_no_worker($session, 'postgres');
my $launcher = await_launcher($session);
my $log = log_position($node);
$session->query("SELECT pg_terminate_backend($launcher)");
$launcher = await_launcher($session, $launcher);
await('the start of the launcher', sub { log_lines($node, $log, qr/distlock launcher started/) });
# When another database has its worker, this one has had its turn.
$session->query('CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION distlock');
await_worker($session, 'other');
is(worker_state($session, 'postgres'), 'stopped', 'a new launcher leaves a worker stopped');
is(join(',', pids($session, 'worker', 'postgres')), '', '... and there is none');
is($session->query('SELECT distlock.start_worker()'), 't', 'it is started when it is wanted');
my $worker = await_worker($session, 'postgres');

# ---------------------------------------------------------------------------
# A worker that is kept from starting: another session stops it, or kills it.
# ---------------------------------------------------------------------------

sub keep_from_starting
{
	$session->query('SELECT distlock.stop_worker()');
	await_no_worker($session, 'postgres');
	# Where it looks for the extension
	$third->query('BEGIN; LOCK TABLE pg_catalog.pg_extension IN ACCESS EXCLUSIVE MODE');
	$second->send('SELECT distlock.start_worker()');
	my $pid;
	await('a worker that waits', sub {
		$pid = $session->query(<<'EOQ');
SELECT a.pid FROM pg_stat_activity a JOIN pg_locks l USING (pid)
WHERE a.backend_type = 'distlock worker' AND NOT l.granted AND l.relation = 'pg_extension'::regclass
EOQ
		return $pid ne '';
	});
	return $pid;
}

keep_from_starting();
my $fourth = session($node);
$fourth->send('SELECT distlock.stop_worker()');
$second->result;
is($second->sqlstate, '55000', 'it is stopped while another session starts it');
like($second->stderr, qr/has been stopped while it was started/, '... which is said');
$third->query('COMMIT');
$fourth->result;
is($fourth->sqlstate, '', '... and is stopped then');
await_no_worker($session, 'postgres');
is(worker_state($session, 'postgres'), 'stopped', '... as is shown');
$fourth->quit;

my $killed = keep_from_starting();
$session->query("SELECT pg_terminate_backend($killed)");
await('its end', sub { $session->query("SELECT count(*) FROM pg_stat_activity WHERE pid = $killed") eq '0' });
$third->query('COMMIT');
is($second->result, 't', 'one that is killed is started again');
cmp_ok($worker = await_worker($session, 'postgres'), '!=', $killed, '... as another process');

# An extension that cannot be seen yet, one that is dropped with what was acquired,
# workers that are switched off
$session->query('CREATE DATABASE third');
my $there = session($node, 'third');
$there->query('BEGIN; CREATE EXTENSION distlock');
is($there->fails('SELECT distlock.start_worker()'), '55000', 'a worker does not see what is not committed');
like($there->stderr, qr/has found no extension/, '... which is said');
$there->query('ROLLBACK');
$there->query('CREATE EXTENSION distlock');
$there->query("BEGIN; SELECT distlock.acquire('key', '1 h'); DROP EXTENSION distlock; COMMIT");
is($there->query("SELECT count(*) FROM pg_namespace WHERE nspname = 'distlock'"), '0', 'it is dropped with a lock');
$there->quit;
change_setting($session, 'distlock.worker', 'off');
await_no_worker($session, 'postgres');
await('the setting', sub { $session->query('SHOW distlock.worker') eq 'off' });
is($session->fails('SELECT distlock.start_worker()'), '55000', 'no worker is started where they are switched off');
like($session->stderr, qr/workers are switched off on this server/, '... which is said');
change_setting($session, 'distlock.worker', 'on');
$worker = await_worker($session, 'postgres');

# ---------------------------------------------------------------------------
# Warnings that are due while a transaction is at the rows: of some, it is
# remembered, and of all, the end is announced.
# ---------------------------------------------------------------------------

my $listener = listener($node);
my $leases = 70;

$second->query("BEGIN; SELECT count(distlock.acquire_with_token('lease ' || i, 'mine', '5500 ms', owner => 'me')) FROM generate_series(1, $leases) i");
my $passes = $session->query("SELECT passes FROM distlock.worker_status WHERE database = 'postgres'");
# It is time for the warnings half a second after the grant.
await('a look at them', sub {
	$session->query("SELECT passes > $passes + 3 FROM distlock.worker_status WHERE database = 'postgres'") eq 't';
});
$second->query('COMMIT');
await_unheld($session, 'lease %', $listener);
my @events = $listener->events;
my $warned = grep { $_->{event} eq 'expiring' } @events;
my $ended = grep { $_->{event} eq 'expired' } @events;
is($ended, $leases, 'all ends are announced');
cmp_ok($warned, '>', 0, 'warnings come after the commit');
cmp_ok($warned, '<=', $leases, '... none twice');
is(await_worker($session, 'postgres'), $worker, '... by the same worker');

# ---------------------------------------------------------------------------
# A table of very many pages
# ---------------------------------------------------------------------------

# They are empty: a file with a hole.
my $file = $node->data_dir . '/' . $session->query("SELECT pg_relation_filepath('distlock.lock')");

for my $pages (20_000, 70_000)
{
	truncate($file, $pages * 8192) or die "could not make a hole: $!";
	is($session->query("SELECT pg_relation_size('distlock.lock') / 8192"), $pages, "$pages pages");
	$session->query('SELECT pg_reload_conf()');
	leave_to_lapse($session, 20);
	await_freed($session);
	pass('... and leases lapse as ever');
}
is($session->query("SELECT distlock.try_acquire('last', '1 h', scope => 'session') IS NOT NULL"), 't', 'a session lock in there');
$session->quit;
$session = session($node);
await('its end', sub { $session->query("SELECT token IS NULL FROM distlock.lock WHERE key = 'last'") eq 't' });
pass('... is freed when the session ends');
is(await_worker($session, 'postgres'), $worker, 'all by the same worker');

$_->quit foreach $session, $second, $third;
$node->stop;
done_testing();
