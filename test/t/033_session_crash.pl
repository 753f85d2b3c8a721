# Scope session when sessions do not end in an orderly way.  After a crash or a
# restart of the server and after a promotion the lock stays reserved for ttl from the
# start of the new server, for its token alone; while the session lives its ttl
# does not run down.  A rollback frees what was acquired, at once; PREPARE
# TRANSACTION is refused to who has acquired or released.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', allows_streaming => 1,
	conf => 'wal_keep_size = 256MB');
my $reserved = 2;    # seconds

# Acquire for the session, as a call
sub take
{
	my ($key, $ttl, @more) = @_;

	return "distlock.try_acquire_with_token("
	  . join(', ', "'$key'", "'mine'", "'$ttl'", "scope => 'session'", @more) . ')';
}

# What another session gets
sub is_free
{
	my ($session, $key, $what) = @_;

	return is($session->query(<<"EOQ"), "f\nt|t|0", $what);
SELECT distlock.is_held('$key');
SELECT distlock.is_held('$key'), token IS NOT NULL,
	(SELECT count(*) FROM distlock.waiters)
FROM distlock.try_acquire('$key', '1 h') token;
SELECT distlock.force_release('$key') \\gset
EOQ
}

sub is_taken
{
	my ($session, $key, $what) = @_;

	return is($session->query(
			"SELECT distlock.is_held('$key'), distlock.try_acquire('$key', '1 h') IS NULL"),
		't|t', $what);
}

# ---------------------------------------------------------------------------
# As long as the session lives
# ---------------------------------------------------------------------------

my $holder = session($node);
my $other = session($node);

$holder->query('SELECT ' . take('long', '200 ms'));
$other->query('SELECT pg_sleep(0.5)');
is_taken($other, 'long', 'a lock outlives its ttl while the session lives');
is($holder->query("SELECT distlock.ttl('long', 'mine'), distlock.guard('long', 'mine') > 0"),
	'00:00:00.2|t', '... and its ttl does not run down');
is($other->query(
		"SELECT scope, pid, remaining_ms FROM distlock.locks WHERE key = 'long'"),
	'session|' . $holder->pid . '|', '... as the view locks shows');
$holder->quit;
await('the session to end', sub { connected($node, $holder->pid) == 0 });
is_free($other, 'long', '... and it is free when the session has ended');

# A guard by another holder of the token outlives the session that acquired.
$holder = session($node);
my $guard = session($node);
$holder->query('SELECT ' . take('key', '1 h'));
$guard->query("BEGIN; SELECT distlock.guard('key', 'mine')");
$holder->quit;
await('the session to end', sub { connected($node, $holder->pid) == 0 });
is_taken($other, 'key', 'a guard keeps the lock when the session has ended');
$other->send("SELECT distlock.try_acquire('key', '1 h', wait => '100 s') IS NOT NULL");
await_waiters($node, 'key', 1);
$guard->query('COMMIT');
is($other->result, 't', '... until its transaction ends');
$other->query("SELECT distlock.force_release('key')");
$guard->quit;

# ---------------------------------------------------------------------------
# Rollback
# ---------------------------------------------------------------------------

$holder = session($node);
$holder->query('BEGIN; SELECT ' . take('key', '1 h'));
is_taken($other, 'key', 'an acquisition that has not been committed excludes others');
$holder->query('ROLLBACK');
is_free($other, 'key', 'rolled back: free at once');

$holder->query('BEGIN; SAVEPOINT s; SELECT ' . take('key', '1 h') . '; ROLLBACK TO s');
is_free($other, 'key', 'rolled back to a savepoint: free at once');
is($holder->query("SELECT distlock.ttl('key', 'mine') IS NULL; COMMIT"),
	't', '... and not held in the rest of the transaction');

$holder->query(<<"EOQ");
DO \$\$
BEGIN
	PERFORM ${\ take('key', '1 h')};
	RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN
END \$\$
EOQ
is_free($other, 'key', 'acquired before an error that was caught: free at once');

# Who waits for it is served by the rollback.
for my $undo ('ROLLBACK', 'ROLLBACK TO s')
{
	$holder->query('BEGIN; SAVEPOINT s; SELECT ' . take('key', '1 h'));
	$other->send('SELECT ' . take('key', '1 h', "wait => '100 s'") . ' IS NOT NULL');
	await_waiters($node, 'key', 1);
	$holder->query($undo);
	is($other->result, 't', "$undo serves the waiter");
	$holder->query('COMMIT') if $undo ne 'ROLLBACK';
	$other->query("SELECT distlock.release('key', 'mine')");
}

# A release that is rolled back leaves it held.
$holder->query('SELECT ' . take('key', '1 h'));
$holder->query("BEGIN; SELECT distlock.release('key', 'mine'); ROLLBACK");
is_taken($other, 'key', 'a release that was rolled back has not happened');
$holder->query("BEGIN; SAVEPOINT s; SELECT distlock.release('key', 'mine'); ROLLBACK TO s; COMMIT");
is_taken($other, 'key', '... nor one to a savepoint');
$holder->query("SELECT distlock.release('key', 'mine')");
is_free($other, 'key', 'a release that was committed has');

# ---------------------------------------------------------------------------
# PREPARE TRANSACTION
# ---------------------------------------------------------------------------

sub no_prepared_transaction
{
	is($other->query('SELECT count(*) FROM pg_prepared_xacts'), '0', '... and none is left');
	return;
}

$holder->query('BEGIN; SELECT ' . take('key', '1 h'));
is($holder->fails("PREPARE TRANSACTION 'p'"), '0A000', 'acquired: cannot be prepared');
no_prepared_transaction();
is_free($other, 'key', '... and the lock is free');
is(traces($node), '', '... without a trace');

$holder->query('SELECT ' . take('key', '1 h'));
$holder->query("BEGIN; SELECT distlock.release('key', 'mine')");
is($holder->fails("PREPARE TRANSACTION 'p'"), '0A000', 'released: cannot be prepared');
no_prepared_transaction();
is_taken($other, 'key', '... and the lock is held');

# What was undone is no hindrance, nor is what was acquired before.
$holder->query(<<"EOQ");
BEGIN;
SAVEPOINT s;
SELECT distlock.release('key', 'mine');
SELECT ${\ take('more', '1 h')};
ROLLBACK TO s;
PREPARE TRANSACTION 'p';
COMMIT PREPARED 'p';
EOQ
is_taken($other, 'key', 'prepared after a rollback to a savepoint: the lock is held');
$holder->quit;
await('the session to end', sub { connected($node, $holder->pid) == 0 });
is_free($other, 'key', '... until the session ends');

# ---------------------------------------------------------------------------
# Crash and promotion
# ---------------------------------------------------------------------------

my @keys = ('resumed', 'released', 'kept', 'lapsed');

sub acquire_all
{
	my ($where) = @_;
	my $session = session($where);

	$session->query('SELECT '
		  . join(', ', map { take($_, $_ eq 'lapsed' ? "$reserved s" : '1 h') } @keys));
	return $session;
}

# What becomes of the locks of sessions that were lost.
sub reserved_for_token
{
	my ($what, $on, $fence) = @_;
	my $resumer = session($on);
	my $session = session($on);
	my $start = of_walwriter($on, 'backend_start');

	# This machine may be too slow to see it, and get the lock.
	is($session->query(<<"EOQ"), 't|t', "$what: reserved");
BEGIN;
SELECT held AND try IS NULL OR clock_timestamp() >= '$start'::timestamptz + '$reserved s', started
FROM (SELECT distlock.is_held('lapsed') AS held, distlock.try_acquire('lapsed', '1 h') AS try,
	clock_timestamp() >= '$start' AS started OFFSET 0) l;
ROLLBACK
EOQ
	is_taken($session, $_, "... $_") foreach 'resumed', 'released', 'kept';
	is($session->query(
			"SELECT distlock.try_acquire_with_token('resumed', 'other', '1 h', scope => 'session') IS NULL"),
		't', '... not for another token');
	is($session->query("SELECT distlock.try_release('released', 'other')"), 'f',
		'... nor to be released with one');

	is($resumer->query('SELECT ' . take('resumed', '100 ms')),
		$fence, "$what: resumed with its token, under the same fence");
	$session->query("SELECT distlock.release('released', 'mine')");
	is_free($session, 'released', "$what: released with its token, free at once");

	is($session->query(<<"EOQ"), 't|t', "$what: free when ttl has passed since the start");
SELECT token IS NOT NULL, clock_timestamp() >= '$start'::timestamptz + '$reserved s'
FROM distlock.try_acquire('lapsed', '1 h', wait => '100 s') token
EOQ
	is_taken($session, 'kept', '... and not before');
	is_taken($session, 'resumed', '... and what was resumed lives');
	$resumer->quit;
	await('the session to end', sub { connected($on, $resumer->pid) == 0 });
	is_free($session, 'resumed', "... as long as its session");
	$session->query("SELECT distlock.force_release('lapsed'), distlock.force_release('kept')");
	is(traces($on), '', "$what: nothing is left");
	$session->quit;
	return;
}

sub fence_of_resumed
{
	my ($session) = @_;

	return $session->query("SELECT distlock.fence('resumed', 'mine')");
}

$holder = acquire_all($node);
my $fence = fence_of_resumed($holder);
crash($node);
start_again($node);
reserved_for_token('crash', $node, $fence);
$_->quit foreach $holder, $other;

$holder = acquire_all($node);
$fence = fence_of_resumed($holder);
$node->restart;
reserved_for_token('restart', $node, $fence);
$holder->quit;

# All processes but the postmaster
$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->reload;
$holder = acquire_all($node);
$fence = fence_of_resumed($holder);
kill('KILL', $holder->pid) == 1 or die 'could not kill a backend';
$holder->fails('SELECT 1');
await('the server to be up again', sub { is_up($node) });
reserved_for_token('death of a backend', $node, $fence);
$holder->quit;

$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
$holder = acquire_all($node);
$fence = fence_of_resumed($holder);
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
my $early = session($standby);
is($early->query("SELECT distlock.is_held('kept'), distlock.fence('resumed', 'mine')"),
	"t|$fence", 'a standby sees them held');
$node->stop('immediate');
$standby->promote;
is($early->query("SELECT distlock.is_held('kept')"), 't',
	'and so does a session on it after the promotion');
reserved_for_token('promotion', $standby, $fence);
$_->quit foreach $holder, $early;

$standby->stop;
done_testing();
