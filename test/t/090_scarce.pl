# What a server may lack, for a while or for good: shared memory, places for
# processes, the WAL writer, fences.  Locks work without the first two; without the
# others they say what is missing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', extension => 0, conf => "max_worker_processes = 1\nmax_locks_per_transaction = 10");
my $session = session($node);

# ---------------------------------------------------------------------------
# Shared memory: the lock table of the server has taken all that was left over
# ---------------------------------------------------------------------------

is($session->fails('SELECT count(pg_advisory_lock(i)) FROM generate_series(1, 10000000) i'), '53200',
	'the shared memory is used up');
$session->quit;

$session = session($node);
$session->query("SET client_min_messages = debug1");
$session->query('CREATE EXTENSION distlock');
SKIP:
{
	# PostgreSQL 17 and later have dynamic memory for it.
	skip 'there is other shared memory here', 7
	  unless $session->fails('SELECT distlock.start_worker()') eq '53200';

	like($session->stderr, qr/there is no shared memory left for a worker/, 'there is none for a worker');
	is($session->query("SELECT distlock.acquire_with_token('key', 'mine', '1 h') > 0, distlock.try_acquire('key', '1 h') IS NULL"),
		't|t', 'locks are granted and refused');
	is($session->query("SELECT distlock.release('key', 'mine'), distlock.is_held('key')"), '|f', '... and released');
	is($session->query('SELECT (SELECT count(*) FROM distlock.worker_status WHERE state <> \'off\'),'
			  . ' (SELECT count(*) FROM distlock.mirror_status), (SELECT count(*) FROM distlock.busiest_keys),'
			  . ' (SELECT coalesce(sum(grants), 0) FROM distlock.stats)'),
		'0|0|0|0', 'the views have nothing to show');
	is($session->fails("SELECT * FROM distlock.mirror_check()"), '55000', '... and there is nobody to ask');
	$session->query("SELECT distlock.acquire_with_token('key', 'mine', '1 h', scope => 'session')");
	$session->quit;
	$session = session($node);
	becomes(sub { $session->query("SELECT distlock.is_held('key')") }, 'f', 'a session that ends lets go');
	$session->query('DROP EXTENSION distlock');
	$session->query('CREATE EXTENSION distlock');
	$session->query('CREATE DATABASE other');
	pass('the extension goes and comes');
}
$session->quit;
$node->restart;

# ---------------------------------------------------------------------------
# Places for processes
# ---------------------------------------------------------------------------

$session = session($node);
is($session->fails('SELECT distlock.start_worker()'), '53400', 'a keeper and a worker have no place where there is one');
like($session->stderr, qr/too many background worker processes/, '... which is said');
$session->fails('SELECT distlock.stop_worker()');
is($session->query("SELECT distlock.acquire_with_token('key', 'mine', '1 h') > 0"), 't', 'locks are granted');
$session->query("SELECT distlock.release('key', 'mine')");

# ---------------------------------------------------------------------------
# The WAL writer, by which a session knows since when the server has been up
# ---------------------------------------------------------------------------

my $new = session($node);
my $walwriter = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'";
my ($postmaster) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
my $pid = $session->query($walwriter);

kill('STOP', $postmaster) == 1 or die 'could not stop the postmaster';
kill('TERM', $pid);
await('the end of the WAL writer', sub { $session->query($walwriter) eq '' });
my $sqlstate = $new->fails("SELECT distlock.acquire('key', '1 h', scope => 'session')");
my $said = $new->stderr;
kill('CONT', $postmaster);
is($sqlstate, '57P03', 'without the WAL writer a session lock is refused');
like($said, qr/The WAL writer is not running/, '... and why');
await('another WAL writer', sub { $session->query($walwriter) ne '' });
is($new->query("SELECT distlock.acquire_with_token('key', 'mine', '1 h', scope => 'session') > 0"), 't', 'there is one again');

# ---------------------------------------------------------------------------
# A session of before a crash: a snapshot of after it shows all that it has done
# ---------------------------------------------------------------------------

$new->query("SELECT distlock.acquire_with_token('late', 'mine', '1 ms', scope => 'session')");
$new->query("SELECT distlock.acquire_with_token('reserved', 'mine', '1 h', scope => 'session')");
crash($node);
start_again($node);
$_->quit foreach $session, $new;
$session = session($node);
$new = session($node);
$session->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class');
$new->query('CREATE TABLE something ()');
is($session->query("SELECT distlock.try_acquire('late', '1 min') IS NOT NULL"), 't', 'its lock is granted when its ttl is over');
is($session->query("SELECT distlock.try_acquire('reserved', '1 min') IS NULL"), 't', '... and not before');
$session->query('ROLLBACK');

# ---------------------------------------------------------------------------
# Fences: set back, used up, no longer counted in time
# ---------------------------------------------------------------------------

$session->query('CREATE DATABASE fences');
my $fences = session($node, 'fences');
my $max = '9223372036854775807';

sub grant
{
	return $fences->query("SELECT distlock.acquire_with_token('key', 'mine', '1 h')") =~ /(\d+)/ ? $1 : 0;
}

sub take_and_leave
{
	my $fence = grant();

	$fences->query("SELECT distlock.release('key', 'mine')");
	return $fence;
}

$fences->query('CREATE EXTENSION distlock');
my $first = take_and_leave();
$fences->query("SELECT setval('distlock.fence_seq', 1)");
my $second = take_and_leave();
cmp_ok($second, '>', $first, 'fences go on though their sequence was set back');

# An epoch far ahead of the clock
my $ahead = $fences->query("SELECT setval('distlock.epoch_seq', $second + 1000000000000000)");
cmp_ok($fences->query('SELECT distlock.advance_fence()'), '>', $ahead, 'a new epoch is above the last');
cmp_ok(take_and_leave(), '>', $ahead, '... and what follows');

$fences->query("SELECT setval('distlock.fence_seq', $max - 10)");
cmp_ok(my $last = take_and_leave(), '>', $ahead, 'close to the end');
is($fences->query("SELECT last_value FROM distlock.limit_seq"), $max, 'the limit is the last number there is');
is($fences->fails('SELECT distlock.advance_fence()'), '2200H', 'there is no epoch after that');
like($fences->stderr, qr/fencing numbers are used up/, '... which is said');
$fences->query("SELECT setval('distlock.fence_seq', $max)");
is($fences->fails("SELECT distlock.acquire_with_token('key', 'mine', '1 h')"), '2200H', 'nor a fence');
is($fences->query("SELECT distlock.is_held('key')"), 'f', 'nothing is held then');

$_->quit foreach $fences, $session, $new;
$node->stop;
done_testing();
