# The clock of the server is set forward and back.  Fences increase all the
# same; leases end by the clock, and waits after the time that was asked for.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my ($faketime) = glob('/usr/lib/*/faketime/libfaketime.so.1 /usr/lib{,64}/faketime/libfaketime.so.1 '
	  . '/usr/local/lib/faketime/libfaketime.so.1');
plan skip_all => 'libfaketime is not installed' unless $faketime && -e $faketime;

my $node = new_node('main');
my $clock = $node->basedir . '/clock';
my $highest = 0;

# Move the clock of all that has been started with it.
sub set_clock
{
	my ($offset) = @_;
	my $new = "$clock.new";

	unlink $new;
	append_to_file($new, "$offset\n");
	rename($new, $clock) or die "could not set the clock: $!";
	return;
}

sub start_with_clock
{
	local $ENV{LD_PRELOAD} = $faketime;
	local $ENV{FAKETIME_TIMESTAMP_FILE} = $clock;
	local $ENV{FAKETIME_NO_CACHE} = 1;
	local $ENV{FAKETIME_DONT_FAKE_MONOTONIC} = 1;

	$node->start;
	return;
}

sub fences_increase
{
	my ($what, @where) = @_;

	for my $where (@where)
	{
		my @fences = draw($where, 3);

		is_deeply([ sort { $a <=> $b } @fences ], \@fences, "$what: fences increase");
		cmp_ok($fences[0], '>', $highest, '... above all before');
		$highest = $fences[-1];
	}
	return;
}

$node->stop;
set_clock('+0');
start_with_clock();
my $session = session($node);
my $waiter = session($node);

sub held
{
	my ($key) = @_;

	return $session->query("SELECT distlock.is_held('$key'), distlock.fence('$key', 'mine') IS NOT NULL,
		EXISTS (SELECT FROM distlock.locks WHERE key = '$key')");
}

my $now = $session->query('SELECT clock_timestamp()');
$session->query("SELECT distlock.acquire_with_token('short', 'mine', '1 h')");
$session->query("SELECT distlock.acquire_with_token('long', 'mine', '2 d')");
my $epoch = $session->query('SELECT distlock.advance_fence()');
fences_increase('at first', $session);

# An epoch begins with the clock, however soon after another.
for my $time (1 .. 3)
{
	my $next = $session->query('SELECT distlock.advance_fence()');
	cmp_ok($next - $epoch, '<', 4 * 60 * 1e6, "epoch $time is not ahead of the clock");
	fences_increase("epoch $time", $session);
	$epoch = $next;
}

# A day forward
set_clock('+1d');
is($session->query("SELECT clock_timestamp() - '$now' > '23 h'"), 't', 'the clock goes forward');
is(held('short'), 'f|f|f', 'forward: a lease is over');
is(held('long'), 't|t|t', 'forward: a longer one is not');
is($session->fails("SELECT distlock.release('short', 'mine')"), 'LK001', 'forward: it cannot be released');
fences_increase('forward', $session, $node);
$session->query('SELECT distlock.advance_fence()');
fences_increase('forward, in a new epoch', $session, $node);
$session->query("SELECT distlock.acquire_with_token('short', 'mine', '1 h')");

# Back again, and another day
for my $offset ('+0', '-1d')
{
	set_clock($offset);
	is(held('short'), 't|t|t', "back to $offset: a lease lasts longer");
	fences_increase("back to $offset", $session, $node);
	is($session->query(<<'EOQ'), 't|t', '... and another one can be taken and kept');
SELECT distlock.try_acquire_with_token('new', 'mine', '1 h') IS NOT NULL,
	distlock.extend('new', 'mine', '1 h') - clock_timestamp() BETWEEN '50 min' AND '1 h'
EOQ
	$session->query("SELECT distlock.release('new', 'mine')");
	$session->query('SELECT distlock.advance_fence()');
	fences_increase("back to $offset, in a new epoch", $session, $node);
}

# A clock that is set back does not make a wait longer.
my $began = time();
$waiter->send("SELECT distlock.try_acquire('short', '1 h', wait => '6 s') IS NULL");
await_waiters($node, 'short', 1);
set_clock('-2d');
is($waiter->result, 't', 'set back during a wait: it ends');
cmp_ok(time() - $began, '<', 60, '... in time');

# One that is set forward ends a lease, of which the waiter learns.
$began = time();
$waiter->send("SELECT distlock.try_acquire('short', '1 h', wait => '100 s') IS NOT NULL");
await_waiters($node, 'short', 1);
set_clock('+9d');
is($waiter->result, 't', 'set forward during a wait: the lapsed lease is granted');
cmp_ok(time() - $began, '<', 60, '... soon');
fences_increase('forward again', $session, $node);

# A new incarnation of the data under a clock that is far behind
set_clock('-900d');
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity
	WHERE pid <> pg_backend_pid() AND datname = current_database()');
$node->safe_psql('template1', 'CREATE DATABASE copy TEMPLATE postgres');
my ($fence) = draw(session($node, 'copy'), 1);
cmp_ok($fence, '>', $highest, 'a copy made while the clock is behind: fences are greater');

$node->stop;
done_testing();
