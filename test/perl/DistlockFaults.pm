# What is to be true of the mirror through whatever fault of Redis, or of the way
# to it: sessions notice nothing, the worker stays and can be ended at once, says
# what is wrong, and has made good for all of it soon after the fault has ended.
#
#	my $faults = DistlockFaults->new($node, $redis);
#	$faults->fault('kill -9', begin => sub { $redis->kill9 }, end => sub { $redis->start },
#		error => qr/closed/);
#	$faults->finish;

package DistlockFaults;

use strict;
use warnings;

use DistlockLoad;
use DistlockRedis;
use DistlockTest;
use DistlockWorker;
use Exporter 'import';
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(seconds_until memory_of);

my $BACK_IN_SYNC = 2;         # seconds, of nine of ten faults
my $LONGEST_OUT_OF_SYNC = 8;  # of each: others use the machine, too
my $END_OF_WORKER = 0.2;
my $PATIENCE = 30;            # for what should take a second or two
my $CALLS = 200;              # at least so many in a fault, to compare latencies
my $WORST_RATIO = 10;          # of the median latency; real bounds are for benchmarks
my $STATIC_LOCKS = 500;       # beside those of the load
my $DATABASE = 'postgres';

# Parameters:
#	prefix		what comes before the lock's key in a Redis key
#	baseline	seconds of load without a fault to compare with, 0 for none yet
sub new
{
	my ($class, $node, $redis, %params) = @_;
	my $self = bless {
		node => $node, redis => $redis, prefix => "distlock:$DATABASE:", ratios => [],
		%params }, $class;

	# Before there are any pipes that its processes could inherit.
	$self->{load} = DistlockLoad->new($node);
	$self->{session} = session($node);
	$self->{session}->query(<<"EOQ");
SELECT count(distlock.acquire_with_token('static ' || i, 'mine', '1 d', owner => 'static'))
FROM generate_series(1, $STATIC_LOCKS) i
EOQ
	$self->measure_baseline($params{baseline} // 3) if $params{baseline} // 1;
	return $self;
}

# A session that is not part of the load
sub sql { return $_[0]{session}; }
sub load { return $_[0]{load}; }

# How long calls take when all is well.
sub measure_baseline
{
	my ($self, $seconds) = @_;

	await_connected($self->sql);
	my $from = time();
	$self->load->go;
	usleep(1_000_000 * $seconds);
	$self->load->stop;
	$self->{baseline} = [ $self->load->latencies($from, time()) ];
	return;
}

# One fault, from beginning to end, as a subtest.
#	begin, end		make it and end it
#	before			done first, while the load is under way and all is well
#	during			done in the middle, for more tests
#	state			as shown meanwhile, a pattern; '' if that cannot be foretold
#	error			pattern of the error shown
#	length			seconds that it lasts at least
#	terminate		0: do not end the worker meanwhile; for faults that are over at
#					once
#	lines			what has to be logged of states, of each worker, in order:
#					[ [ 'disconnected' ], [ 'disconnected', 'connected' ] ];
#					undef if it cannot be foretold
#	begun			1: it has begun already
sub fault
{
	my ($self, $name, %fault) = @_;

	$fault{state} //= 'disconnected';
	$fault{length} //= 1;
	$fault{terminate} //= 1;
	$fault{lines} = $fault{terminate}
	  ? [ ['disconnected'], [ 'disconnected', 'connected' ] ]
	  : [ [ 'disconnected', 'connected' ] ]
	  unless exists $fault{lines};
	subtest $name => sub { $self->run($name, %fault) };
	return;
}

# A fault that is a mode of the proxy, with its options in an array.
sub proxy_fault
{
	my ($self, $proxy, $name, $mode, %fault) = @_;
	my $before = $proxy->counts->{connections};

	$self->fault($name, begin => sub { $proxy->mode(@$mode) }, end => sub { $proxy->mode('pass') }, %fault);
	note sprintf '%d connections, %d left open', $proxy->counts->{connections} - $before, $proxy->counts->{open};
	return;
}

sub run
{
	my ($self, $name, %fault) = @_;
	my ($session, $load) = ($self->sql, $self->load);

	unless ($fault{begun})
	{
		my $agrees = seconds_until(sub { $self->differences eq '' });
		ok(defined $agrees, 'all is well before') or diag($self->differences);
	}
	my $worker = await_worker($session, $DATABASE);
	my @workers = ($worker);
	my $log = $fault{begun} ? 0 : log_position($self->{node});
	my $errors_before = () = $load->errors;

	$load->go;
	$fault{before}->() if $fault{before};
	my $before = memory_of($worker);
	my $began = time();
	my $since = $session->query('SELECT clock_timestamp()');
	$since = '-infinity' if $fault{begun};
	$fault{begin}->() if $fault{begin};

	$self->shows($since, %fault) if $fault{state} ne '';
	$fault{during}->() if $fault{during};
	my $lasts = sub { usleep(1e6 * $_[0]) if ($_[0] -= time() - $began) > 0; };
	$lasts->($fault{terminate} ? $fault{length} / 2 : $fault{length});
	is(await_worker($session, $DATABASE), $worker, 'the worker is the same');
	memory_is_bounded($worker, $before);

	if ($fault{terminate})
	{
		push @workers, $self->terminate($worker, $since, %fault);
		$lasts->($fault{length});
		memory_is_bounded($workers[-1], $before);
	}

	$load->stop;
	my $stopped = time();
	$fault{end}->() if $fault{end};
	my $ended = time();

	# First without a word to the worker: mirror_check() would have it reconcile.
	my $synced = seconds_until(sub { $self->differences eq '' });
	my $found = check_mirror($session);
	my $checked = time() - $ended;
	is($found, '', 'mirror_check() finds nothing') or diag(join "\n", (split /\n/, $found)[ 0 .. 5 ]);
	diag("different: " . $self->differences . ', ' . mirror_status($session)) unless defined $synced;
	cmp_ok($checked, '<=', $LONGEST_OUT_OF_SYNC, 'in sync soon after the end of the fault');
	push @{ $self->{checked} }, $checked;

	is(await_worker($session, $DATABASE), $workers[-1], '... by the same worker');
	my @errors = $load->errors;
	is(scalar(@errors) - $errors_before, 0, 'no call failed')
	  or diag(join "\n", @errors[ $errors_before .. $#errors ]);
	$self->logged($log, $fault{lines}, @workers);
	$self->compare($name, $began, $stopped);
	note sprintf '%s: in sync after %s s, mirror_check() says so after %.2f s', $name,
	  defined $synced ? sprintf('%.2f', $synced) : 'no', $checked;
	return;
}

# The view tells what is wrong, since the fault has begun.
sub shows
{
	my ($self, $since, %fault) = @_;
	my ($state, $error) = ('', '');
	my $shown = seconds_until(sub {
		($state, $error) = split /\|/, mirror_status($self->sql,
			"state, CASE WHEN last_error_at >= '$since' THEN last_error END"), 2;
		return $state =~ /^(?:$fault{state})$/ && (!$fault{error} || $error =~ $fault{error});
	}, 10);

	like($state, qr/^(?:$fault{state})$/, 'the state is shown');
	like($error, $fault{error}, 'the error is shown') if $fault{error};
	note sprintf 'shown after %.2f s: %s: %s', $shown, $state, $error if defined $shown;
	return;
}

# The worker ends at once, and a new one is no less patient.  Others use the
# machine, too: it is the best of three attempts that counts.
sub terminate
{
	my ($self, $worker, $since, %fault) = @_;
	my $session = $self->sql;
	my $best;

	for my $attempt (1 .. 3)
	{
		$worker = await_worker($session, $DATABASE);
		# Wherever in its circle of attempts and pauses it is
		usleep(rand 300_000);
		my $began = time();
		$session->query("SELECT pg_terminate_backend($worker)");
		my $took = seconds_until(sub { !is_there($worker) }, undef, 500) // $PATIENCE;
		$best = $took if !defined $best || $took < $best;
		# The launcher would make a pause, as after any failure.
		await('another worker', sub {
			$session->query('SELECT distlock.start_worker()');
			return $session->query(<<"EOQ") eq 'running';
SELECT state FROM distlock.worker_status WHERE database = '$DATABASE' AND pid <> $worker
EOQ
		});
		last if $best <= $END_OF_WORKER;
	}
	cmp_ok($best, '<=', $END_OF_WORKER, 'the worker ends at once when terminated')
	  or diag("$best s");
	note sprintf 'the worker ended within %.0f ms', 1000 * $best;
	$worker = await_worker($session, $DATABASE, $worker);
	$self->shows($since, %fault) if $fault{state} ne '';
	return $worker;
}

# What is in Redis and should not be, or the other way round, or ''.  This looks
# for itself, and takes the states of the mirror into account.
sub differences
{
	my ($self) = @_;
	my $state = mirror_status($self->sql, 'state, lag_ms = 0');
	my %held = map { split /\|/ } split /\n/, $self->sql->query(<<"EOQ");
SELECT key, fence FROM distlock.locks WHERE scope <> 'transaction' AND key NOT LIKE '%|%'
EOQ
	my @differences = $state eq 'connected|t' ? () : "the mirror is $state";

	my ($client, $prefix) = ($self->{redis}->own, $self->{prefix});
	my @keys = grep { !$self->{foreign}{$_} } $client->keys("$prefix*");
	my $values = @keys ? $client->command('MGET', @keys) : [];
	foreach my $i (0 .. $#keys)
	{
		my $key = substr $keys[$i], length $prefix;
		my $fence = delete $held{$key};
		my $value = $values->[$i] // next;

		push @differences, "surplus: $key" unless defined $fence;
		push @differences, "another state: $key" if defined $fence && $value !~ /"fence":$fence\b/;
	}
	push @differences, map { "missing: $_" } grep { !$self->{foreign}{"$prefix$_"} } keys %held;
	return '' unless @differences;
	my $more = @differences > 5 ? " and ${\ (@differences - 5)} more" : '';
	return join(', ', grep { defined } @differences[ 0 .. 4 ]) . $more;
}

# This Redis key is another program's, and differs.
sub set_foreign
{
	my ($self, $key, $is_foreign) = @_;

	$self->{foreign}{"$self->{prefix}$key"} = $is_foreign;
	return;
}

# One line for each change of what is shown.
sub logged
{
	my ($self, $position, $expected, @workers) = @_;
	my %states = map { $_ => [] } @workers;

	foreach my $line (log_lines($self->{node}, $position, qr/LOG:  distlock mirror/))
	{
		my ($pid, $state) = $line =~ /\[(\d+)\].* database "$DATABASE": (\w+)/ or next;

		push @{ $states{$pid} }, $state;
	}
	if ($expected)
	{
		is_deeply([ @states{ @workers[ 0 .. $#$expected ] } ], $expected, 'what was logged of states');
		return;
	}
	my @repeated = grep {
		my $s = $_;
		grep { $s->[$_] eq $s->[ $_ - 1 ] } 1 .. $#$s;
	} values %states;
	is_deeply(\@repeated, [], 'no state was logged twice in a row');
	my ($last) = reverse @{ $states{ $workers[-1] } };
	is($last // 'connected', 'connected', 'the last one is the one that is shown');
	return;
}

# What the fault has done to latencies; much is lost in the noise.
sub compare
{
	my ($self, $name, $from, $to) = @_;
	my @latencies = $self->load->latencies($from, $to);

	unless ($self->{baseline})
	{
		push @{ $self->{later} }, [ $name, $from, $to ];
		return;
	}
	my @baseline = @{ $self->{baseline} };
	if (@latencies < $CALLS)
	{
		cmp_ok(scalar(@latencies), '>', 0, 'there was a load');
		return;
	}
	my ($median, $p99) = map { at($_, @latencies) / at($_, @baseline) } 0.5, 0.99;
	# Who waits for Redis takes longer than this.
	ok($median < $WORST_RATIO || at(0.5, @latencies) < 0.02, 'calls take no longer')
	  or diag("$median times as long as without a fault");
	note sprintf 'latency of %d calls: median %.0f us (%.2f of that without fault), p99 %.0f us (%.2f)',
	  scalar(@latencies), 1e6 * at(0.5, @latencies), $median, 1e6 * at(0.99, @latencies), $p99;
	push @{ $self->{ratios} }, [ $median, $p99 ];
	return;
}

sub at
{
	my ($part, @sorted) = @_;

	return $sorted[ int($part * $#sorted) ];
}

# What is left to be compared and looked at, at the end of the test.
sub finish
{
	my ($self) = @_;

	foreach my $later (@{ delete $self->{later} // [] })
	{
		$self->compare(@$later);
	}
	my @ratios = @{ $self->{ratios} };
	note sprintf 'latencies with a fault / without, over all faults: median %.2f, p99 %.2f (medians)',
	  map { my $i = $_; at(0.5, sort { $a <=> $b } map { $_->[$i] } @ratios) } 0, 1
	  if @ratios;
	cmp_ok(at(0.9, sort { $a <=> $b } @{ $self->{checked} }),
		'<=', $BACK_IN_SYNC, "as a rule in sync within $BACK_IN_SYNC s of the end of a fault");
	my @bad = grep { !/terminating .* due to administrator command/ }
	  log_lines($self->{node}, 0, qr/PANIC:|TRAP|ERROR:|FATAL:|signal \d/);
	is_deeply(\@bad, [], 'no errors in the log') or diag(join "\n", @bad);
	$self->load->quit;
	$self->sql->quit;
	return;
}

# ---------------------------------------------------------------------------
# Helpers
# ---------------------------------------------------------------------------

# It may go while it is looked at.
sub is_there
{
	my ($pid) = @_;

	return eval { DistlockTest::is_alive($pid) };
}

# How long it takes until the code returns true; undef when it takes too long.
sub seconds_until
{
	my ($condition, $patience, $pause) = @_;
	my $began = time();

	until ($condition->())
	{
		return if time() - $began > ($patience // $PATIENCE);
		usleep($pause // 10_000);
	}
	return time() - $began;
}

# In kB: the most that it had of its own or shared, the most it had asked for,
# and what it has of its own now.  Empty where the system does not tell.
sub memory_of
{
	my ($pid) = @_;
	my $status = "/proc/$pid/status";

	return {} unless -r $status;
	return { slurp_file($status) =~ /^(VmPeak|VmHWM|RssAnon):\s+(\d+) kB$/mg };
}

# Whatever length Redis announces, a worker does not ask for that much.  The
# megabyte that a reply may have takes 16 when each four bytes are an integer.
# What is "before" is as returned by memory_of().
my %MOST_GROWTH = (VmPeak => 64 * 1024, VmHWM => 24 * 1024, RssAnon => 20 * 1024);

sub memory_is_bounded
{
	my ($pid, $before) = @_;
	my $now = memory_of($pid);

	foreach my $what (sort keys %$now)
	{
		cmp_ok($now->{$what} - $before->{$what}, '<', $MOST_GROWTH{$what}, "$what of the worker is bounded");
	}
	return;
}

1;
