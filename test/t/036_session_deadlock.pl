# Waiting for a lock of scope session: a deadlock is found by the time that
# deadlock_timeout sets; who holds the lock itself does not wait for it behind
# others; and who comes with the holder's token does not wait at all.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

# deadlock_timeout is 1 s, as everywhere.
my $node = new_node('main');

sub take
{
	my ($key, $token, $scope) = @_;

	return "SELECT distlock.acquire_with_token('$key', '$token', '1 h', wait => '20 s', scope => '$scope')";
}

# Two keys in opposite order; of one or two scopes
for my $scopes ([ 'session', 'session' ], [ 'session', 'lease' ], [ 'lease', 'session' ],
	[ 'session', 'transaction' ], [ 'transaction', 'session' ])
{
	my ($first, $second) = (session($node), session($node));
	my ($a, $b) = @$scopes;

	# A lease that has been committed is no part of a deadlock.
	$_->query('BEGIN') foreach ($a eq 'session' ? () : $first), ($b eq 'session' ? () : $second);
	$first->query(take('one', 'first', $a));
	$second->query(take('two', 'second', $b));
	$first->send(take('two', 'first', $a));
	await_waiters($node, 'two', 1);
	my $began = time();
	$second->send(take('one', 'second', $b));

	# Whoever it is that is the victim gives way.
	await('one of them to end', sub { $first->is_done || $second->is_done });
	my ($victim, $winner) = $first->is_done ? ($first, $second) : ($second, $first);
	$victim->result;
	is($victim->sqlstate, '40P01', "$a and $b: the deadlock is found");
	cmp_ok(time() - $began, '<', 10, '... soon');
	$victim->quit;
	$winner->result;
	is($winner->sqlstate, '', '... and the other one goes on');
	$winner->quit;
	await('the sessions to end', sub { traces($node) eq '' });
	$node->safe_psql('postgres',
		"SELECT distlock.force_release('one'), distlock.force_release('two')");
}

# The holder wants it once more, under another token, when others wait already.
my ($holder, $waiter) = (session($node), session($node));
$holder->query(take('key', 'first', 'session'));
$holder->query("SET deadlock_timeout = '1 min'");
$waiter->send(take('key', 'waiter', 'lease'));
await_waiters($node, 'key', 1);
for my $scope ('lease', 'session', 'transaction')
{
	my $began = time();
	is($holder->fails(take('key', 'second', $scope)), '55P03', "holder itself, scope $scope: refused");
	cmp_ok(time() - $began, '<', 10, '... at once');
}

# Another process with the token joins, without waiting behind those who wait
# for it to go.
my $sharer = session($node);
my @took;
for (1 .. 9)
{
	my $began = time();
	$sharer->query("SELECT distlock.acquire_with_token('key', 'first', '1 h', scope => 'session')");
	push @took, time() - $began;
	$sharer->query('SELECT pg_advisory_unlock_all()');
}
cmp_ok((sort { $a <=> $b } @took)[4], '<', 0.15, 'who comes with the token does not wait');
$holder->query("SELECT distlock.release('key', 'first')");
$waiter->result;
is($waiter->sqlstate, '', 'the waiter is served');

$_->quit foreach $holder, $waiter, $sharer;
$node->stop;
done_testing();
