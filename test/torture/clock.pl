# The clock of a server is set forward and back, by one second to one day, while
# clients work on the locks.
#
# Clients write down what they get (DistlockClerk), and a slot tells what was committed
# (DistlockVerdict): fences grow, and work that is done under a guard, or refused where a
# greater fence has been seen, keeps in order, whatever the clock does.  Each grant,
# extend and release has to have happened at a time that the clock has shown, in the
# order of the commits; a lease ends then by that clock, neither before nor after.
#
# Beside them, there are leases of two seconds to three days, of which it is known when
# they end.  After each step they are held or not as the clock says, to all functions
# alike; of those that are over, the worker or the next holder tells once, of others
# nobody does.  And there are waiters: the first of a queue waits as long as it wanted to,
# or until the lease ends by the clock.
#
# Needs libfaketime.  Before PostgreSQL 16 there is no worker: the postmaster starts such
# processes in a signal handler, often in the middle of a call that libfaketime wraps, and
# they live by the true time then.  Now and then the server crashes or starts anew under a clock that is
# wrong.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockClerk;
use DistlockHistory;
use DistlockListener;
use DistlockServers;
use DistlockTest qw(await await_at session);
use DistlockTorture;
use List::Util qw(max);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my ($faketime) = glob('/usr/lib/*/faketime/libfaketime.so.1 /usr/lib{,64}/faketime/libfaketime.so.1 '
	  . '/usr/local/lib/faketime/libfaketime.so.1');
plan skip_all => 'libfaketime is not installed' unless $faketime && -e $faketime;

my $CLERKS = 8;
my @KEYS = map { "key_$_" } 1 .. 200;
my @OWN = map { "own_$_" } 1 .. 12;
my @TTLS = ((20 .. 200) x 4, (1000) x 300, (20_000) x 100, (3_600_000) x 100, (40_000_000) x 50);

my $DAY = 86_400;
my $FARTHEST = 5 * $DAY;    # from the true time
my $LONGEST = 3 * $DAY;     # of our own leases
my $LATE = 20;              # seconds that a wait may take longer on a busy machine
my $MILLION = 1_000_000;

# Between reading the clock and the time that is asked for in the test, a process can be
# made to pause.
my $SLACK = 0.5;

my $run = DistlockTorture->new('clock', seconds => 20, goals => { steps => 200 });

# ---------------------------------------------------------------------------
# The clock
# ---------------------------------------------------------------------------

# In this order: from when to when the clock was ahead by what, in seconds.
my @steps;
my $clock_file;
my %last;                   # by key: when something happened to it, at the earliest

sub offset { return $steps[-1]{offset}; }

sub set_clock
{
	my ($offset) = @_;
	my $began = time;

	unlink "$clock_file.new";
	append_to_file("$clock_file.new", sprintf "%+d\n", $offset);
	rename "$clock_file.new", $clock_file or die "could not set the clock: $!";
	$steps[-1]{to} = time if @steps;
	push @steps, { from => $began, offset => $offset };
	return;
}

# The greatest time that the clock may have shown since the true time, in seconds.
sub latest_since
{
	my ($since) = @_;

	return max map { ($_->{to} // time) + $_->{offset} } grep { ($_->{to} // time) >= $since - $SLACK } @steps;
}

# What is wrong with this time, at which something is said to have happened to the key?
# Without a key, how late it was at most, ever.
sub clock_trouble
{
	my ($key, $microseconds) = @_;

	return $MILLION * (latest_since(0) + $SLACK) unless defined $key;
	my $earliest = ($last{$key} // 0) - $SLACK;

	for my $step (@steps)
	{
		my $true = $microseconds / $MILLION - $step->{offset};

		next if $true < $earliest || $true < $step->{from} - $SLACK || $true > ($step->{to} // time) + $SLACK;
		$last{$key} = $true if $true > ($last{$key} // 0);
		return;
	}
	return "no clock has shown $microseconds later than $earliest";
}

sub start_with_clock
{
	my ($server) = @_;

	local $ENV{LD_PRELOAD} = $faketime;
	local $ENV{FAKETIME_TIMESTAMP_FILE} = $clock_file;
	local $ENV{FAKETIME_NO_CACHE} = 1;
	local $ENV{FAKETIME_DONT_FAKE_MONOTONIC} = 1;

	$server->start;
	return;
}

my $steps_since_lapse = 0;

# Mostly short ones; back when it has gone far.
sub step
{
	my $length = int exp rand log $DAY + 1;
	my $sign = rand() < 0.5 ? 1 : -1;

	# Far behind the time when the leases were taken, none of them ends.
	($length, $sign) = ($DAY, 1) if ++$steps_since_lapse > 12;
	$sign = offset() > 0 ? -1 : 1 if abs(offset() + $sign * $length) > $FARTHEST;
	set_clock(offset() + $sign * $length);
	$run->add(steps => 1, $sign > 0 ? 'forward' : 'back' => 1);
	return;
}

# ---------------------------------------------------------------------------
# Leases of our own
# ---------------------------------------------------------------------------

my ($server, $history, $place, $group, $listener);
my %own;                    # by key: token, fence, expires (seconds), since (true time)
my %lost;                   # by key and fence: when they ended
my %announced;
my %highest;                # fences of our own, by key
my $tokens = 0;

sub take
{
	my ($key) = @_;
	my $token = 'own ' . ++$tokens;
	my $ttl = int 1000 * 2 * exp rand log $LONGEST / 2;
	my $since = time;

	# Who waited for it before may have got it; then the clock went back.
	query("SELECT distlock.try_release('$key', 'waiter')");
	my $fence = query("SELECT distlock.try_acquire_with_token('$key', '$token', '$ttl ms', '2 s')");
	return fail("a free lock is granted: $key") || diag query(<<"EOQ") if $fence eq '';
SELECT clock_timestamp(), to_json(l) FROM distlock.lock l WHERE key = '$key';
SELECT to_json(w) FROM distlock.waiters w;
SELECT to_json(l) FROM pg_locks l WHERE locktype = 'advisory';
EOQ
	my $expires = query("SELECT extract(epoch FROM distlock.try_extend('$key', '$token'))");
	# Nobody but the scheduler of the machine may have taken so long.
	return if $expires eq '' && time > $since + $ttl / 1000 - $SLACK;
	return fail("what was granted for $ttl ms can be extended: $key") if $expires eq '';
	ok($fence > $highest{$key}, "fences of $key grow") or diag "$fence after $highest{$key}"
	  if defined $highest{$key} && $fence <= $highest{$key};
	$highest{$key} = $fence;
	$own{$key} = { token => $token, fence => $fence, expires => $expires, since => $since };
	return;
}

sub query
{
	my ($sql) = @_;

	return $server->{own_session}->query($sql);
}

# What all functions say of a lease, between two looks at the clock
sub look
{
	my ($key) = @_;
	my $own = $own{$key};
	my ($before, $is_held, $fence, $left, $shown, $extended, $after) = split /\|/, query(<<"EOQ"), -1;
SELECT extract(epoch FROM clock_timestamp()), distlock.is_held('$key'), distlock.fence('$key', '$own->{token}'),
	extract(epoch FROM distlock.ttl('$key', '$own->{token}')),
	EXISTS (SELECT FROM distlock.locks WHERE key = '$key'),
	distlock.try_ensure('$key', '$own->{token}', '1 ms') IS NOT NULL, extract(epoch FROM clock_timestamp())
EOQ

	return { before => $before, after => $after, left => $left,
		held => "$is_held$shown$extended" . ($fence eq $own->{fence} ? 't' : $fence eq '' ? 'f' : $fence) };
}

sub check_lease
{
	my ($key) = @_;
	my $own = $own{$key};
	my $seen = look($key);
	my $text = "$key until $own->{expires}, looked at from $seen->{before} to $seen->{after}, is $seen->{held}";

	$run->add(looks => 1);
	if ($seen->{before} > $own->{expires})
	{
		# A waiter may have got it just before the server died.
		fail("over: $text") unless $seen->{held} =~ /ff$/;
		return lose($key);
	}
	return if $seen->{after} > $own->{expires};

	# The clock may have passed its end meanwhile: then it may be lost.
	if ($seen->{held} =~ /ff$/ && latest_since($own->{since}) + $SLACK > $own->{expires})
	{
		return lose($key);
	}
	return fail("held: $text") if $seen->{held} ne 'tttt';
	fail("held: $text, has $seen->{left} s left")
	  if $seen->{left} > $own->{expires} - $seen->{before} + 0.000001
	  || $seen->{left} < $own->{expires} - $seen->{after} - 0.000001;
	return;
}

# Its holder is told so.
sub lose
{
	my ($key) = @_;
	my $own = delete $own{$key};

	$run->add(lapses => 1);
	$steps_since_lapse = 0;
	$lost{"$key $own->{fence}"} = $own unless $own->{untold} || $announced{"$key $own->{fence}"};
	fail("$key: the next call does not say that it was lost")
	  if query_fails("SELECT distlock.guard('$key', '$own->{token}')") ne 'LK001';
	return;
}

sub query_fails { return $server->{own_session}->fails($_[0]); }

# Each lapsed lease is announced once, none before its end.
sub check_events
{
	for my $event (grep { $_->{key} =~ /^own/ } $listener->events)
	{
		my $what = "$event->{key} $event->{fence}";
		my $now = $own{ $event->{key} };
		my $own = $lost{$what} // (defined $now && $now->{fence} eq $event->{fence} ? $now : undef);

		next if $event->{event} ne 'expired';
		fail("$what: announced twice") if $announced{$what}++;
		next unless defined $own;    # a waiter's, or of before a crash
		fail("$what: announced for $event->{at}, the end is $own->{expires}")
		  if abs($event->{at_time} / $MILLION - $own->{expires}) > 0.000002;
		fail("$what: announced before its end")
		  if latest_since($own->{since}) + $SLACK < $own->{expires};
		delete $lost{$what};
		$run->add(events => 1);
	}
	return;
}

# ---------------------------------------------------------------------------
# Waiters
# ---------------------------------------------------------------------------

my $waiter;

# For a lease that will end by the wait, or by a step of the clock.
sub send_waiter
{
	my ($key) = (sort keys %own)[ rand keys %own ];
	my $ms = 100 + int rand 1000;

	return unless defined $key;
	$waiter = { key => $key, own => $own{$key}, began => time, wait => $ms / 1000 };
	$server->{waiting_session}->send(
		"SELECT coalesce(distlock.try_acquire_with_token('$key', 'waiter', '1 ms', '$ms ms')::text, 'none')");
	return;
}

sub check_waiter
{
	return unless defined $waiter && $server->{waiting_session}->is_done;
	my $took = time - $waiter->{began};
	my $result = $server->{waiting_session}->result;

	$run->add(waits => 1);
	fail("a wait of $waiter->{wait} s took $took s") if $took > $waiter->{wait} + $LATE;
	if ($result eq 'none')
	{
		fail("a wait of $waiter->{wait} s was over after $took s") if $took < $waiter->{wait};
	}
	else
	{
		fail("$waiter->{key} was granted to a waiter before its end")
		  if latest_since($waiter->{began}) + $SLACK < $waiter->{own}{expires};
		fail("$waiter->{key}: the fence of a waiter, $result, is not above $waiter->{own}{fence}")
		  if $result <= $waiter->{own}{fence};
		$run->add(waiters_granted => 1);
		$highest{ $waiter->{key} } = $result;
		lose($waiter->{key}) if $own{ $waiter->{key} };
	}
	undef $waiter;
	return;
}

# ---------------------------------------------------------------------------
# Rounds
# ---------------------------------------------------------------------------

sub begin_sessions
{
	my $node = $server->node;

	$server->{own_session} = session($node);
	$server->{waiting_session} = session($node);
	$listener = DistlockListener->new(host => $node->host, port => $node->port,
		user => scalar getpwuid($<), dbname => 'postgres');
	%announced = %lost = ();
	# What has ended before it listened, when the server had just started, it was not told.
	my %there = map { $_ => 1 } split /\n/, query("SELECT token FROM distlock.lock WHERE token LIKE 'own %'");
	$_->{untold} = 1 for grep { !$there{ $_->{token} } } values %own;
	return;
}

sub end_sessions
{
	$_->quit for delete @$server{qw(own_session waiting_session)};
	undef $listener;
	undef $waiter;
	return;
}

# All are sent home; what was committed is judged.
sub end_place
{
	my (%options) = @_;

	if ($options{up}) { $group->send_home } else { $group->end }
	undef $group;
	$history->leave($place, %options);
	return;
}

sub begin_place
{
	my (@from) = @_;

	$place = $history->enter($server, 'postgres', @from);
	$history->forget_all_but($place);
	$group = DistlockClerk::Group->new($history, $place, size => $CLERKS, keys => \@KEYS, ttls => \@TTLS);
	return;
}

# The server stops or dies, and starts under the clock as it is then.
sub start_over
{
	my $from = $place;
	my $how = ('fast', 'immediate', 'kill')[ rand 3 ];

	note "the server ends: $how";
	end_sessions();
	$group->at_an_end;
	if ($how eq 'kill') { $server->kill } else { $server->stop($how) }
	end_place();
	step() if rand() < 0.5;
	start_with_clock($server);
	begin_place(from => $from, kept => 'all', again => 1);
	begin_sessions();
	$run->add(starts => 1);
	return;
}

sub move_on
{
	my $from = $place;

	end_place(up => 1);
	begin_place(from => $from, kept => 'all', again => 1);
	return;
}

# An epoch is above everything, whatever the clock says.
sub advance_fence
{
	$group->keep_working;
	my $highest = max $history->highest, values %highest;
	my $epoch = query('SELECT distlock.advance_fence()');

	ok($epoch >= $highest, 'a new epoch is above all before') or diag "$epoch < $highest" if $epoch < $highest;
	$run->add(epochs => 1);
	return;
}

$server = DistlockServers->make(stopped => 1);
$server->configure(shared_preload_libraries => 'distlock') if $server->node->pg_version >= 16;
$clock_file = $server->node->basedir . '/clock';
set_clock(0);
start_with_clock($server);
$server->safe_psql('postgres', 'CREATE EXTENSION distlock');
$history = DistlockHistory->new(keys => \@KEYS, clock => \&clock_trouble);
begin_place();
begin_sessions();

my $round = 0;
while ($run->go_on)
{
	my $acknowledged = $group->acknowledged;

	step();
	await_at($server->node, 'postgres', 'work', sub {
		$group->keep_working;
		check_waiter();
		return $group->acknowledged >= $acknowledged + 10;
	});
	# What is over is taken again before the next step: it could bring the lease back.
	check_lease($_) for grep { !(defined $waiter && $waiter->{key} eq $_) } sort keys %own;
	check_events();
	take($_) for grep { !$own{$_} && !(defined $waiter && $waiter->{key} eq $_) } @OWN;
	send_waiter() unless defined $waiter;

	$round++;
	advance_fence() if rand() < 0.05;
	move_on() if $round % 20 == 0;
	start_over() if $round % 20 == 10;
	is_deeply([ $history->problems ], [], "round $round") if $round % 10 == 0 || $history->problems;
}

# What was lost has been announced, at the latest to who took the lock.
if (Test::More->builder->is_passing)
{
	take($_) for grep { !$own{$_} && !(defined $waiter && $waiter->{key} eq $_) } @OWN;
	eval { await('events', sub { check_events(); return !%lost }); 1 }
	  or die 'not announced: ', join(', ', map { "$_ until $lost{$_}{expires}" } sort keys %lost), "; $@";
	await('the last waiter', sub { check_waiter(); return !defined $waiter });
}
end_sessions();
end_place(up => 1);
unless (is_deeply([ $history->problems ], [], 'in order, whatever the clock says'))
{
	diag sprintf 'from %.3f to %.3f the clock was ahead by %d', $_->{from}, $_->{to} // time, $_->{offset}
	  for @steps;
}
cmp_ok($run->figure($_), '>', 0, "$_") for qw(steps looks lapses events waits);
$history->conclude($run);
$server->stop('immediate');
$run->finish;
