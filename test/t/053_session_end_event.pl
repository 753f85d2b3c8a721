# A session that ends without having released its locks of scope "session" is
# announced as expired for each of them, once, soon, however it ends; and not as
# long as it lives.

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
my $control = session($node);
my $listener = listener($node);

await_worker($control, 'postgres');

# A session that holds this key, with this as its token.
sub holder
{
	my ($key, $ttl) = @_;
	my $session = session($node);

	$session->query("SELECT distlock.acquire_with_token('$key', 'of $key', '${\ ($ttl // '1 h')}', scope => 'session', owner => 'owner')");
	return $session;
}

# How they end, and whether the worker is told of it
my %ways = (
	'client exit' => sub { $_[0]->quit },
	'kill -9 of the client' => sub { $_[0]->kill_client },
	'pg_terminate_backend' =>
	  sub { $control->query('SELECT pg_terminate_backend(' . $_[0]->pid . ')'); $_[0]->quit },
	'in a transaction' => sub { $_[0]->query('BEGIN; SELECT 1'); $_[0]->kill_client });

my $witness = holder('witness', '1 ms');
for my $way (sort keys %ways)
{
	my $holder = holder($way);
	my $fence = $control->query("SELECT distlock.fence('$way', 'of $way'), extract(epoch FROM clock_timestamp())");
	($fence, my $began) = split /\|/, $fence;

	is(told($listener), '', "$way: not announced before");
	$ways{$way}->($holder);
	my $event = $listener->next_event;
	my $name = "$event->{event} $event->{key} $event->{fence} $event->{owner}";
	is($name, "expired $way $fence owner", '... but then');
	cmp_ok($event->{at_time}, '>=', int(1_000_000 * $began), '... at a time after that');
	cmp_ok($event->{at_time}, '<=', 1_000_000 * $event->{received} + 1, '... and not in future');
	cmp_ok($event->{received} - $began, '<', 5, '... soon');
	is($control->query("SELECT distlock.is_held('$way')"), 'f', '... and it is free');
}

# Several locks of one session, some of which it has given back or lost
my $holder = holder('one');
$holder->query(<<'EOQ');
SELECT distlock.acquire_with_token('two', 'of two', '1 h', scope => 'session');
SELECT distlock.acquire_with_token('released', 'of released', '1 h', scope => 'session');
SELECT distlock.acquire_with_token('lease', 'of lease', '1 h');
SELECT distlock.release('released', 'of released');
BEGIN;
SELECT distlock.acquire_with_token('undone', 'of undone', '1 h', scope => 'session');
ROLLBACK;
SELECT distlock.acquire_with_token('forced', 'of forced', '1 h', scope => 'session');
EOQ
$control->query("SELECT distlock.force_release('forced')");
is(told($listener), 'forced forced', 'a lock that is taken by force');
$holder->quit;
await_unheld($control, 'one');
await_unheld($control, 'two');
is(join(', ', sort split /, /, told($listener)), 'expired one, expired two', 'what a session still held when it ended');

# A token that two sessions share: it is held as long as one of them lives.
$holder = holder('shared');
my $sharer = holder('shared');
$holder->quit;
await('the session to end', sub { connected($node, $holder->pid) == 0 });
holder('meanwhile')->quit;
await_unheld($control, 'meanwhile');
is(told($listener), 'expired meanwhile', 'not while another session with that token lives');
$sharer->quit;
await_unheld($control, 'shared');
is(told($listener), 'expired shared', '... but after that');

# DISCARD ALL drops the lock of a session that lives on.  Who asks for it next
# finds that out, if the worker has not yet, and says it.
for my $how ('DISCARD ALL', 'SELECT pg_advisory_unlock_all()')
{
	$holder = holder('dropped');
	$holder->query($how);
	$control->query("SELECT distlock.acquire_with_token('dropped', 'next', '1 h')");
	is(told($listener), 'expired dropped', "$how: announced when it is noticed");
	$control->query("SELECT distlock.release('dropped', 'next')");
	$holder->quit;
}
is(told($listener), '', 'nothing is announced twice');
is($control->query("SELECT distlock.is_held('witness')"), 't', 'a session that lives, holds');

$_->quit foreach $witness, $listener, $control;
$node->stop;
done_testing();
