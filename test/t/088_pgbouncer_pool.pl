# A call that waits occupies a connection of the pool.  When waiters occupy all of
# them, the holder of a lease gets none to give it back with: this shows what
# happens then, and that what the manual advises prevents it: short waits, a pool of
# their own for waiters, release within the transaction that has a connection.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockPgbouncer;
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $CONNECTIONS = 2;
my $BEATS = 20;

skip_without_pgbouncer();
my $node = new_node('main', conf => 'client_connection_check_interval = 10ms');
my $pooler = DistlockPgbouncer->new($node, 'transaction',
	default_pool_size => $CONNECTIONS,
	aliases => { waiting => "dbname=postgres pool_size=$CONNECTIONS" });
my $direct = session($node);
my $holder = session($pooler, 'postgres');

sub acquire
{
	my ($ttl) = @_;

	$holder->query("SELECT distlock.acquire_with_token('key', 'holder', '$ttl')");
	return;
}

# Wait for the lock, and give it back when it comes.
my $WAIT = <<'EOQ';
SELECT distlock.acquire('key', '1 h', wait => '1 h') AS token \gset
SELECT distlock.release('key', :'token')
EOQ

# Clients that do so, as many as the pool has connections, or so many.
sub waiters
{
	my ($dbname, $count) = @_;
	my @waiters = map { session($pooler, $dbname) } 1 .. $count // $CONNECTIONS;

	$_->send($WAIT) foreach @waiters;
	await_waiters($node, 'key', scalar @waiters);
	return @waiters;
}

# Every one of them had its turn.
sub all_served
{
	my ($what, @waiters) = @_;

	$_->result foreach @waiters;
	is(join(' ', grep { $_ ne '' } map { $_->sqlstate } @waiters), '', $what);
	is($direct->query("SELECT distlock.is_held('key')"), 'f', '... and the lock is free');
	$_->quit foreach @waiters;
	return;
}

# ---------------------------------------------------------------------------
# A pool full of waiters
# ---------------------------------------------------------------------------

acquire('1 h');
my @waiters = waiters('postgres');
$holder->send("SELECT distlock.release('key', 'holder')");
$pooler->await_clients_waiting('postgres', 1);
is($direct->query("SELECT distlock.is_held('key'), (SELECT waiters FROM distlock.locks)"), "t|$CONNECTIONS",
	'the pool is full of waiters, and the holder waits for a connection');
ok(!$holder->is_done, '... to give back what they wait for');

# Whatever frees one connection sets it all in motion.
my $first = shift @waiters;
$first->kill_client;
$holder->result;
is($holder->sqlstate, '', 'when one waiter goes, the holder gets through');
all_served('... and the other waiter has the lock', @waiters);

# Or the lease ends, and then the holder has lost it.
acquire('1 h');
@waiters = waiters('postgres');
$holder->send("SELECT distlock.release('key', 'holder')");
$pooler->await_clients_waiting('postgres', 1);
$direct->query("SELECT distlock.extend('key', 'holder', '10 ms')");
all_served('when the lease ends, the waiters have it', @waiters);
$holder->result;
is($holder->sqlstate, 'LK001', '... and the holder is told that it has lost it');

# PgBouncer gives up before that, if it is told to.
$holder->quit;
$pooler->restart_with(query_wait_timeout => 5);
$holder = session($pooler, 'postgres');
acquire('1 h');
@waiters = waiters('postgres');
$holder->send("SELECT distlock.release('key', 'holder')");
$holder->result;
like($holder->stderr, qr/query_wait_timeout/, 'query_wait_timeout ends the connection of the holder');
is($direct->query("SELECT distlock.release('key', 'holder'), 'done'"), '|done', '... which still has the lock');
all_served('... and gives it back over another way', @waiters);

# A retry strategy sleeps in the server, and occupies a connection as well.
$holder->quit;
$pooler->restart_with(query_wait_timeout => 0);
$holder = session($pooler, 'postgres');
acquire('1 h');
my $poller = session($pooler, 'postgres');
$poller->send("SELECT distlock.acquire('key', '1 h', wait => '1 h', retry => distlock.linear_backoff('10 ms'))");
await('a poller', sub { $pooler->pool('postgres', 'sv_active') == 1 });
$holder->query("SELECT distlock.release('key', 'holder')");
$poller->result;
is($poller->sqlstate, '', 'who polls in the server occupies a connection');
$direct->query("SELECT distlock.force_release('key')");
$poller->quit;

# ---------------------------------------------------------------------------
# What prevents it
# ---------------------------------------------------------------------------

# The same database under another name, with connections of its own.  Only the
# call that waits goes there: who has got the lock gives it back over the other pool,
# or else a client that has just come would be in the way again.
acquire('1 h');
@waiters = map { session($pooler, 'waiting') } 0 .. $CONNECTIONS;
$waiters[$_]->send("SELECT distlock.acquire_with_token('key', 'waiter $_', '1 h', wait => '1 h')") foreach 0 .. $#waiters;
await_waiters($node, 'key', $CONNECTIONS);
$pooler->await_clients_waiting('waiting', 1);
$holder->query("SELECT distlock.extend('key', 'holder')");
$holder->query("SELECT distlock.release('key', 'holder')");
pass('waiters in a pool of their own are not in the way of the holder');
my @unserved = 0 .. $#waiters;
while (@unserved)
{
	my $next;

	await('a waiter to have it', sub { ($next) = grep { $waiters[$_]->is_done } @unserved; defined $next });
	is($waiters[$next]->sqlstate, '', "... waiter $next has its turn");
	$holder->query("SELECT distlock.release('key', 'waiter $next')");
	@unserved = grep { $_ != $next } @unserved;
}
$_->quit foreach @waiters;

# Release in a transaction that has begun: it keeps its connection to the end.
acquire('1 h');
my $late = session($pooler, 'postgres');
$holder->query("BEGIN; SELECT distlock.guard('key', 'holder')");
@waiters = waiters('postgres', $CONNECTIONS - 1);
$late->send($WAIT);
$pooler->await_clients_waiting('postgres', 1);
$holder->query("SELECT distlock.release('key', 'holder'); COMMIT");
pass('who has begun the transaction gives back in it, though the pool is full');
all_served('... and the waiters have their turn', @waiters, $late);

# Short waits: connections come free all the time.
acquire('1 h');
my $script = PostgreSQL::Test::Utils::tempdir() . '/wait.sql';
PostgreSQL::Test::Utils::append_to_file($script,
	"SELECT distlock.try_acquire('key', '1 min', wait => '20 ms') IS NOT NULL AS got \\gset\n");
my ($out, $err) = ('', '');
my $crowd = IPC::Run::start([ 'pgbench', '-n', '-c', 3 * $CONNECTIONS, '-T', 3600, '-f', $script,
		$pooler->connstr('postgres') ], '<', \undef, '>', \$out, '2>', \$err);
await('more clients than connections', sub { $pooler->pool('postgres', 'cl_waiting') > 0 });
$holder->query("SELECT distlock.extend('key', 'holder')") foreach 1 .. $BEATS;
$holder->query("SELECT distlock.release('key', 'holder')");
pass("with short waits, the holder gets through every time, $BEATS times");
await('one of them to have it', sub { $direct->query("SELECT distlock.is_held('key')") eq 't' });
$crowd->kill_kill;

$_->quit foreach $holder, $direct;
$pooler->stop;
$node->stop;
done_testing();
