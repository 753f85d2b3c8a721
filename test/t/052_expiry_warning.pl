# distlock.expiry_warning: the worker announces that a lease is about to expire,
# that long before, once for each time at which it would have expired; not of
# leases that are shorter than that to begin with, and of no other locks.

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

my $WARNING = 2_000_000;    # microseconds

my $node = new_node('main', conf => preloaded("distlock.expiry_warning = '2 s'"));
my $session = session($node);
my $listener = listener($node);

await_worker($session, 'postgres');

sub acquire
{
	my ($key, $ttl, $more) = @_;

	$session->query("SELECT distlock.acquire_with_token('$key', 'mine', '$ttl'${\ ($more // '')})");
	return;
}

# Warned of in time, with the time of the end, and then it ends.
for my $i (1 .. 20)
{
	acquire("lease $i", 2100 + 20 * $i . ' ms', ", owner => 'me'");
}
await_unheld($session, 'lease %', $listener);
my @events = $listener->events;
is_deeply(kinds(@events), { expiring => 20, expired => 20 }, 'a warning for each lease');
my %end = map { $_->{key} => $_ } grep { $_->{event} eq 'expired' } @events;
my @wrong;
for my $event (grep { $_->{event} eq 'expiring' } @events)
{
	my $end = $end{ $event->{key} };
	my $time_left = $end->{at_time} - 1_000_000 * $event->{received};

	push @wrong, "$event->{payload} with $time_left left"
	  unless $event->{at_time} == $end->{at_time} && $event->{fence} == $end->{fence}
	  && $event->{owner} eq 'me' && $time_left > 0 && $time_left <= $WARNING;
}
is("@wrong", '', '... before its end, and not earlier than asked for');

# A lease that is extended in time is not warned of; one that is extended after
# the warning is warned of again.  Others on the same page are not, meanwhile.
acquire('other', '2200 ms');
acquire('lease', '4 s');
my $extensions = 0;
until ($extensions == 30)
{
	last unless $session->query("SELECT distlock.try_extend('lease', 'mine', '4 s') IS NOT NULL") eq 't';
	$extensions++;
	$session->query('SELECT pg_sleep(0.08)');
}
await_unheld($session, 'other');
is($extensions, 30, 'extended 30 times');
is(told($listener), 'expiring other, expired other', '... and not warned of before the last time');
for (1 .. 2)
{
	my $warning = $listener->next_event;
	is("$warning->{event} $warning->{key}", 'expiring lease', 'the warning');
	$session->query("SELECT distlock.extend('lease', 'mine', '4 s')");
	is(told($listener), '', '... once');
}
await_unheld($session, 'lease');
is(told($listener), 'expiring lease, expired lease', '... and again');

# None for short leases, those that are released, and locks of other scopes
acquire('short', '1900 ms');
acquire('released', '4 s');
acquire('session', '4 s', ", scope => 'session'");
$session->query("SELECT distlock.release('released', 'mine')");
await_unheld($session, 'short');
acquire('later', '2200 ms');
await_unheld($session, 'later');
is(told($listener), 'expired short, expiring later, expired later', 'none but of leases that are long enough');
acquire('long', '1 h');
acquire('cut', '1 h');
$session->query("SELECT distlock.extend('cut', 'mine', '2200 ms')");
await_unheld($session, 'cut');
is(told($listener), 'expiring cut, expired cut', 'a lease that was cut short');

# While the row is being changed nobody knows whether to warn; others on the
# page are warned of once nevertheless.
my $changer = session($node);
acquire('changing', '4 s');
acquire('undone', '4 s');
acquire('steady', '4100 ms');
$changer->query(<<'EOQ');
BEGIN;
SELECT distlock.extend('changing', 'mine', '1 h');
SAVEPOINT one;
SELECT distlock.extend('undone', 'mine', '1 h');
EOQ
is($listener->next_event->{key}, 'steady', 'the warning of another');
$session->query('SELECT pg_sleep(0.15)');
$changer->query('ROLLBACK TO one; COMMIT');
await_unheld($session, 'steady');
await_unheld($session, 'undone');
is(join(', ', sort split /, /, told($listener)), 'expired steady, expired undone, expiring undone',
	'others are warned of once, and of what was not extended after all');

# The setting can be changed, and switched off.
change_setting($session, 'distlock.expiry_warning', '0');
await('the end of warnings', sub {
	acquire('again', '2200 ms');
	await_unheld($session, 'again');
	return told($listener) eq 'expired again' });
change_setting($session, 'distlock.expiry_warning', '5000 ms');
await('warnings to begin', sub {
	$session->query("SELECT distlock.extend('long', 'mine', '5005 ms')");
	$session->query('SELECT pg_sleep(0.1)');
	return told($listener) eq 'expiring long' });
pass('the setting can be changed at any time');

$_->quit foreach $listener, $session, $changer;
$node->stop;
done_testing();
