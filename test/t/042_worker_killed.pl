# Whatever happens to the processes of distlock, at whatever moment, also while
# they start: they come back by themselves, one of each, and every lease that
# has lapsed is freed.
#
#	DISTLOCK_LONG=1		100 times each instead of 2
#
# Moments before a process shows itself in pg_stat_activity are reached only where
# the system lists the children of a process (Linux).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use DistlockWorker;
use List::Util qw(shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $TIMES = $ENV{DISTLOCK_LONG} ? 100 : 2;
my $node = new_node('main', conf => preloaded('distlock.naptime = 1s', 'restart_after_crash = on'));
my @databases = ('postgres', 'other');
my %done;

my $session = steadfast($node);

$session->query('CREATE DATABASE other TEMPLATE postgres');

# The newest process of the kind, another one than before if there was one
sub victim
{
	my ($kind, $former) = @_;
	my $pid = '';

	await("a $kind", sub {
		$pid = $session->query(<<"EOQ");
SELECT pid FROM pg_stat_activity
WHERE backend_type = 'distlock $kind' AND pid <> $former ORDER BY backend_start DESC LIMIT 1
EOQ
		return $pid ne '';
	});
	return $pid;
}

# Some moment from the start of a process on
sub moment
{
	usleep(rand 30_000) if rand() < 0.75;
	return;
}

# One that has gone by then does not count.
sub strike
{
	my ($kind, $signal, $former) = @_;

	for (;;)
	{
		my $pid = victim($kind, $former);

		moment();
		return $pid if kill($signal, $pid);
	}
}

my %former = (launcher => 0, worker => 0);
for my $way (shuffle map {
		my $kind = $_;
		map { [ $kind, $_ ] } ('TERM', 'INT', 'KILL') x $TIMES } keys %former)
{
	my ($kind, $signal) = @$way;

	leave_to_lapse($session, 3, "(30 * random())::int * interval '1 ms' + '1 ms'");
	my $pid = strike($kind, $signal, $former{$kind});
	$done{"$signal to a $kind"}++;
	# One that was cancelled need not end.
	$former{$kind} = $signal eq 'INT' ? 0 : $pid;
	# The next one may hit while this one has not come back.
	next if rand() < 0.3;
	await_freed($session);
}

is_deeply(\%done, { map { my $kind = $_; map { ("$_ to a $kind" => $TIMES) } 'INT', 'KILL', 'TERM' } keys %former },
	'all of it was done');

# While it starts: when one has ended, the next child of the postmaster is the
# one that takes its place.
my ($postmaster) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
my $children = "/proc/$postmaster/task/$postmaster/children";

SKIP:
{
	skip 'the system does not list children', 1 unless -r $children;
	# In this order, since a crash ends the pause after a failure.
	my @ways = ([ 'worker', 'TERM' ], [ 'launcher', 'KILL' ], [ 'launcher', 'TERM' ], [ 'worker', 'KILL' ]);
	my $early = 0;

	for my $way ((@ways) x ($TIMES / 2))
	{
		my ($kind, $signal) = @$way;
		my $new;

		await_as_expected($session, @databases);
		leave_to_lapse($session, 3);
		my %known = map { $_ => 1 } split ' ', slurp_file($children);
		kill('TERM', victim($kind, 0));
		await('a new process', sub {
			my $until = time() + 0.1;
			until (defined $new || time() > $until)
			{
				($new) = grep { !$known{$_} } split ' ', slurp_file($children);
			}
			return defined $new;
		});
		usleep(rand 6_000);
		$early += kill($signal, $new);
		# A crash takes all with it; what starts then is not for us to strike.
		await('the crash', sub { !grep { kill(0, $_) } keys %known }) if $signal eq 'KILL';
	}
	is($early, 2 * $TIMES, 'struck while they start');
}

leave_to_lapse($session, 10);
ok(await_freed($session), 'every lease that lapsed has been freed');
ok(await_as_expected($session, @databases), 'a launcher and a worker for each database');
is_deeply([ log_lines($node, 0, qr/PANIC|TRAP|segfault|signal 11|signal 6|ERROR/) ], [],
	'no errors in the log');

# Nothing is left of the processes from before.
for my $database (@databases)
{
	is($node->safe_psql($database, 'SELECT distlock.stop_worker(), distlock.start_worker()'),
		't|t', "stop and start in $database");
}
# A first pass may be at some.
becomes(sub { $session->query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") }, '0', 'no lock is left');
my $began = time();
$session->quit;
$node->stop('fast');
cmp_ok(time() - $began, '<', 10, 'the server stops at once');
done_testing();
