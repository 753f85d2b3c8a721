# A lock of scope session ends with its session, in whatever way that ends, at
# whatever moment: the waiter gets it, and never while the holder still works.
#
# Each holder is ended in one of six ways, while a waiter queues who is the next
# holder then.  A holder's work is to add rows to a table; a waiter counts them
# when it is granted the lock, and no more may come of that holder.  In turns
# with pg_advisory_lock, whose delays from the end to the grant are reported next
# to ours.
#
#	DISTLOCK_LONG=1		200 ends of each way instead of 10

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use List::Util qw(shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $ENDS = $ENV{DISTLOCK_LONG} ? 200 : 10;
my $NOW = "extract(epoch FROM clock_timestamp())";

my $node = new_node('main');
$node->safe_psql('postgres', 'CREATE TABLE work (holder int)');
my $control = session($node);

# How a holder ends; the SQL if the session does it itself, with the time first.
my %WAYS = (
	'client exit' => "SELECT $NOW;\n\\q",
	'kill -9 of the client' => undef,
	'pg_terminate_backend' => undef,
	'DISCARD ALL' => "SELECT $NOW;\nDISCARD ALL",
	'pg_advisory_unlock_all' => "SELECT $NOW, pg_advisory_unlock_all()",
	'release' => "SELECT $NOW, %s");

# Who takes part: distlock; pg_advisory_lock; and, to see that the test can
# fail, a lease that nobody extends.
sub contest
{
	my ($name, $acquire, $release) = @_;

	return { name => $name, acquire => $acquire, release => $release, delays => {}, grants => {},
		late => 0, fence => 0 };
}

my $distlock = contest('distlock',
	"distlock.acquire_with_token('key', 'of %d', '1 h', wait => '150 s', scope => 'session')",
	"distlock.release('key', 'of %d')");
my $advisory = contest('pg_advisory_lock',
	'(pg_advisory_lock(1) IS NULL)::int * 0', 'pg_advisory_unlock(1)');
my $lease = contest('lease',
	"distlock.acquire_with_token('lease', 'of %d', '100 ms', wait => '150 s')",
	"distlock.try_release('lease', 'of %d')");

# Ask for the lock; granted() has the rest.
my $holders = 0;
sub ask
{
	my ($contest) = @_;
	my $session = session($node);
	my $acquire = sprintf $contest->{acquire}, $session->pid;

	$session->send("SELECT $acquire, $NOW;\nSELECT $NOW;\nSELECT count(*) FROM work");
	return { session => $session, number => ++$holders };
}

# Returns when that was: in the server, and as its client saw it.
sub granted
{
	my ($contest, $holder) = @_;
	my ($fence, $granted, $known, $work) = split /[|\n]/, $holder->{session}->result;

	die 'not granted: ' . $holder->{session}->stderr unless defined $work;
	ok(0, "fence $fence after $contest->{fence}") if $contest eq $distlock && $fence <= $contest->{fence};
	$contest->{fence} = $fence;
	$holder->{seen} = $work;
	return ($granted, $known);
}

# What the holder does before its end
sub work
{
	my ($holder, $state) = @_;
	my $insert = "INSERT INTO work SELECT $holder->{number}";

	return $insert if $state eq 'idle';
	return "BEGIN;\n$insert" if $state eq 'in a transaction';
	return join ";\n", ("$insert FROM pg_sleep(0.003 * random())") x (1 + int rand 12);
}

# End the holder; returns when.
sub end
{
	my ($contest, $holder, $way, $state) = @_;
	my $session = $holder->{session};
	my $sql = $WAYS{$way};

	if (defined $sql)
	{
		$sql = sprintf $sql, sprintf($contest->{release}, $session->pid) if $way eq 'release';
		# It takes effect at the end of the transaction, or is not allowed in it.
		$sql = "COMMIT;\n$sql" if $state eq 'in a transaction' && $way eq 'DISCARD ALL';
		# It takes effect at once; what the transaction has written is no work
		# under the lock.
		$sql .= ";\nROLLBACK" if $state eq 'in a transaction' && $way eq 'pg_advisory_unlock_all';
		$sql .= ";\nCOMMIT" if $state eq 'in a transaction' && $way eq 'release';
		$sql = work($holder, $state) . ";\n$sql" if $state eq 'working';
		$session->send($sql);
		my ($ended) = $session->result =~ /^(\d+\.\d+)/m;
		$session->quit;
		return $ended;
	}

	if ($state eq 'working')
	{
		# More than it will come to
		$session->send(join ";\n", (work($holder, $state)) x 40);
		usleep(rand 30_000);
	}
	if ($way eq 'pg_terminate_backend')
	{
		my ($ended) = $control->query("SELECT $NOW, pg_terminate_backend(" . $session->pid . ')')
		  =~ /^([\d.]+)\|t$/ or die 'could not terminate a session';

		$session->quit;
		return $ended;
	}
	my $ended = time();
	$session->kill_client;
	return $ended;
}

# One end; the waiter is the holder then.  It has been waiting before, for
# however long, or just comes.
sub hand_over
{
	my ($contest, $way, $state, $arrival) = @_;
	my $holder = $contest->{holder};
	my $waiter = ask($contest);

	if ($arrival ne 'late')
	{
		await('the waiter to wait', sub {
			$control->query("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = "
				  . $waiter->{session}->pid) eq 't' });
		usleep(240_000 + rand 20_000) if $arrival eq 'early';
	}
	if ($state ne 'working')
	{
		$holder->{session}->query(work($holder, $state));
		usleep(rand 5_000);
	}
	my $ended = end($contest, $holder, $way, $state);
	my ($granted, $known) = granted($contest, $waiter);

	$contest->{grants}{$way}++;
	push @{ $contest->{delays}{$way} }, [ $granted - $ended, $known - $ended ]
	  if $arrival ne 'late';
	$contest->{holder} = $waiter;

	# All that came from the holder before has been counted by the waiter.
	await('the session to end', sub {
		$control->query('SELECT count(*) FROM pg_stat_activity WHERE pid = '
			  . $holder->{session}->pid) eq '0' });
	my $late = $control->query('SELECT count(*) FROM work') - $waiter->{seen};
	$contest->{late}++ if $late != 0;
	return;
}

sub percentile
{
	my ($share, @values) = @_;

	@values = sort { $a <=> $b } @values;
	my $i = int($share * @values);
	return $values[ $i > $#values ? $#values : $i ];
}

sub report
{
	my ($way, $state) = @_;

	for my $contest ($distlock, $advisory)
	{
		my @delays = @{ $contest->{delays}{$way} };
		my @text;

		for my $i (0, 1)
		{
			push @text, map { sprintf '%7.0f', 1e6 * percentile($_, map { $_->[$i] } @delays) } 0.5, 0.99, 1;
		}
		note sprintf('%-22s %-16s %5d %s', $way, $contest->{name}, scalar @delays, "@text");
	}
	return;
}

for my $contest ($distlock, $advisory)
{
	$contest->{holder} = ask($contest);
	granted($contest, $contest->{holder});
}

my @states = ('idle', 'in a transaction', 'working');
my @arrivals = (('') x 7, 'early', 'late', 'late');
my @ends = shuffle map {
	my $way = $_;
	map { [ $way, $states[ $_ % 3 ], $arrivals[ $_ % 10 ] ] } 1 .. $ENDS } sort keys %WAYS;
for my $end (@ends)
{
	hand_over($_, @$end) foreach shuffle $distlock, $advisory;
}
for my $way (sort keys %WAYS)
{
	is($distlock->{grants}{$way}, $ENDS, "$way: $ENDS waiters were granted");
}
is($distlock->{late}, 0, 'no holder worked after the next one was granted the lock');

note 'microseconds from the end to the grant, median, p99 and longest: in the server';
note 'process, and to the next statement of the client';
report($_) foreach sort keys %WAYS;

$_->{holder}{session}->quit foreach $distlock, $advisory;
await('the sessions to end', sub { traces($node) eq '' });
is($control->query("SELECT distlock.is_held('key')"), 'f', 'nothing is left');

# A lease that expires while its holder works is caught.
$lease->{holder} = ask($lease);
granted($lease, $lease->{holder});
$lease->{holder}{session}->send(join ";\n",
	("INSERT INTO work SELECT 0 FROM pg_sleep(0.01)") x 400);
my $next = ask($lease);
granted($lease, $next);
$lease->{holder}{session}->result;
cmp_ok($control->query('SELECT count(*) FROM work'), '>', $next->{seen},
	'the test finds work that goes on after the next grant');
$_->quit foreach $control, $next->{session}, $lease->{holder}{session};

$node->stop;
done_testing();
