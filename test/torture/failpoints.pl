# Crashes and errors at each step: acknowledged grants survive, nobody holds a lock
# twice, no fence comes again, and nothing is left stuck, whether a process raises an
# error, is slow, or is killed there, or the postmaster is.
#
# The steps are the fail points of a build with "make FAIL_POINTS=yes".  They are
# set for the whole server while clients are at work, until somebody has come by;
# then the server recovers, and everything is compared.  Some clients do what leads to
# each of the points (DistlockLedger), others as much as they can (DistlockTrial).  In
# the short form each point is tried with an action drawn at random, in the long form
# with all of them.
#
#	DISTLOCK_TORTURE_CASE='kill commit_waking'	that case only: an action, and points

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Cwd qw(realpath);
use DistlockLedger;
use DistlockRedis;
use DistlockTest;
use DistlockTorture;
use DistlockTrial;
use DistlockWorker;
use List::Util qw(shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $CLIENTS = 5;
my $OTHERS = 4;
my $KILLS = 8;           # points in the short form at which a process is killed
my $POSTMASTERS = 2;     # and the postmaster
my $TOGETHER = 16;       # points in a case in which nobody is killed; in the long form 4
my $SEEN_TIMES = 3;      # so often an error or a sleep has to happen
my $UNLIKELY = 0.6;      # after so many seconds, points are sure to fire, and provoked
my $LONGEST = 600;        # seconds that a case may take
my $SRC = "$FindBin::RealBin/../../src";

# What clients may be told
my %EXPECTED = map { $_ => 1 } (
	'LK099',             # the fail point
	'55P03', 'LK001',    # not granted, not held
	'40001', '40P01', '25P02', '3B001',
	'42704',             # a transaction that was not prepared
	'0A000',             # of scope "session", to be prepared
	'55000',             # the mirror cannot be checked now
	'57P01', '57P02', '57P03');

# May an error be raised there?  A pair is a point and an action.
my %points = read_points();
my $pairs = 3 * keys(%points) + grep { $points{$_} eq 'ERROR_ALLOWED' } keys %points;
my %tried;

my $run = DistlockTorture->new('failpoints', seconds => 1, goals => { pairs => $pairs });

# Drawn first, and anew for each round: how often others draw depends on the machine.
my $round = 0;
my @plan = next_plan();

# ---------------------------------------------------------------------------
# Servers
# ---------------------------------------------------------------------------

my $redis = DistlockRedis->new('main');
my $node = new_node('main', allows_streaming => 'logical', conf => redis_conf($redis, <<'EOC'));
restart_after_crash = on
log_line_prefix = '%m [%p] %e '
log_statement = none
deadlock_timeout = 50ms
max_prepared_transactions = 40
distlock.redis_reconcile = 1
distlock.purge_after = 20
distlock.naptime = 1
EOC
if ($node->safe_psql('postgres', "SELECT current_setting('distlock.fail_points', true) IS NULL") eq 't')
{
	fail('this distlock has fail points: build it with "make FAIL_POINTS=yes"');
	done_testing();
	exit 1;
}
$node->safe_psql('postgres', 'CREATE DATABASE scratch');

my $ledger = DistlockLedger->new($node, size => $CLIENTS, seed => $run->seed);
$ledger->start;
my $trial = DistlockTrial->new($run, $node, clients => $OTHERS, expected => [ keys %EXPECTED ]);

# ---------------------------------------------------------------------------
# The log
# ---------------------------------------------------------------------------

my $log_read = 0;
my $log_rest = '';
my (%hits, @bad);
my ($ready, $reinitialized) = (0, 0);

# What has been logged since the last call.
sub read_log
{
	open my $log, '<', $node->logfile or die "could not read the log: $!";
	seek $log, $log_read, 0;
	local $/;
	my $text = $log_rest . (<$log> // '');
	$log_read = tell $log;
	close $log;
	$text =~ s/([^\n]*)\z//;
	$log_rest = $1;

	for my $line (split /\n/, $text)
	{
		$hits{"$1=$2"}++ if $line =~ /LOG:  fail point "(\w+)": (\w+)$/;
		$run->add(recoveries => 1) if $line =~ /was not properly shut down; automatic recovery/;
		$reinitialized = $ready if $line =~ /all server processes terminated; reinitializing/;
		$ready++ if $line =~ /database system is ready to accept connections/;
		push @bad, $line
		  if $line =~ /PANIC: |TRAP: |\] XX|was terminated by signal (?!9\b)|exited with exit code (?!1\b)/;
	}
	return;
}

# ---------------------------------------------------------------------------
# Cases: points, and what is done there
# ---------------------------------------------------------------------------

sub set_fail_points
{
	my ($value) = @_;
	my $file = $node->data_dir . '/postgresql.auto.conf';

	# Not by ALTER SYSTEM: the server may be down.
	open my $conf, '>', "$file.new" or die "could not write $file: $!";
	print $conf "distlock.fail_points = '$value'\n";
	close $conf;
	rename "$file.new", $file or die "could not write $file: $!";
	# It may have been killed.
	my ($postmaster) = split /\n/, eval { slurp_file($node->data_dir . '/postmaster.pid') } // '';
	kill('HUP', $postmaster) if $postmaster && grep { $_ == $postmaster } processes();
	return;
}

# Some steps are rare: bring them about.
sub provoke
{
	my ($point) = @_;

	if ($point =~ /^fence_start|^launcher_entered/)
	{
		# A server that has just come up.
		my ($pid) = $node->safe_psql('postgres',
			"SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'");
		kill('KILL', $pid) if $pid;
	}
	elsif ($point =~ /^launcher_|^worker_entering|^fence_incarnation/)
	{
		# A worker leaves when the extension goes, and comes with it.
		my $there = $node->safe_psql('scratch', "SELECT 1 FROM pg_extension WHERE extname = 'distlock'");
		$node->psql('scratch', ($there eq '' ? 'CREATE' : 'DROP') . ' EXTENSION distlock');
	}
	elsif ($point =~ /^mirror_(?!reconciling)/)
	{
		$redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
	}
	return;
}

# Let clients work until each of the points has been come by so often, or at least
# once when it is rare.  Returns those that have not.
sub work_until_hit
{
	my ($case, $times) = @_;
	my ($action, @names) = ($case->{action}, @{ $case->{points} });
	my $began = time();
	my ($provoked, $set) = (0, 0);
	my @missing = @names;

	delete $hits{"$_=$action"} foreach @names;
	while (@missing && time() - $began < $PostgreSQL::Test::Utils::timeout_default)
	{
		$ledger->keep_working;
		usleep(5_000);
		read_log();

		my @left = grep { ($hits{"$_=$action"} // 0) < $times } @missing;

		if (time() - $began > $UNLIKELY)
		{
			# From now on each time; what has been hit keeps others from being.
			$times = 1;
			@left = grep { !$hits{"$_=$action"} } @left;
			set_fail_points(setting($case, 100, @left)) if @left && @left != $set;
			$set = @left;
		}
		if (time() - $began > $UNLIKELY * ($provoked + 1))
		{
			$provoked++;
			# The server may be down just now.
			eval { $ledger->end_prepared };
			eval { provoke($_) } foreach @left;
		}
		@missing = @left;
	}
	return @missing;
}

sub setting
{
	my ($case, $probability, @names) = @_;
	my $how = $case->{action} eq 'sleep' ? "sleep:$case->{ms}" : $case->{action};

	return join ', ', map { "$_=$how%$probability" } @names;
}

sub run_case
{
	my ($case) = @_;
	my $deadly = $case->{action} =~ /^kill/;
	my $name = "$case->{action} at " . join ' ', @{ $case->{points} };

	# Something is held, and somebody waits, when it happens.
	my $operations = $ledger->count('operations');
	$trial->begin($LONGEST);
	$ledger->keep_working;
	await('clients to work', sub {
		$ledger->keep_working;
		return $ledger->count('operations') > $operations;
	}) if $case->{probability} == 100;
	set_fail_points(setting($case, $case->{probability}, @{ $case->{points} }));
	my @missing = work_until_hit($case, $deadly ? 1 : $SEEN_TIMES);
	set_fail_points('');
	$trial->stop;
	is_deeply(\@missing, [], "$name: reached") or return 0;
	start_after_kill($name) if $case->{action} eq 'kill_postmaster';
	foreach my $point (@{ $case->{points} })
	{
		$run->add(points => 1) unless grep { $tried{"$point=$_"} } qw(error sleep kill kill_postmaster);
		$run->add(pairs => 1) unless $tried{"$point=$case->{action}"}++;
		$run->add(hits => $hits{"$point=$case->{action}"});
	}
	return check($name);
}

# The postmaster is gone: all others go by themselves.
sub start_after_kill
{
	my ($name) = @_;
	my $data = $node->data_dir;
	my $socket = $node->host . '/.s.PGSQL.' . $node->port;

	eval {
		await('all processes to end', sub { !processes() });
		1;
	} or fail("$name: processes go with the postmaster");
	$node->kill9;
	unlink "$data/postmaster.pid", "$socket.lock", $socket;
	start_again($node);
	return;
}

# All of the server's, by their directory.
sub processes
{
	my $data = realpath($node->data_dir);

	return map { m{(\d+)$} } grep { (readlink("$_/cwd") // '') eq $data } glob '/proc/[0-9]*';
}

# ---------------------------------------------------------------------------
# Afterwards
# ---------------------------------------------------------------------------

# Returns whether all is as it should be.
sub check
{
	my ($name) = @_;
	my $session;
	my $good = 1;
	my $problem = sub {
		my ($what, $found) = @_;

		return if $found eq '';
		fail("$name: $what");
		diag($found);
		$good = 0;
	};

	await('the server to be up', sub {
		read_log();
		return $ready > $reinitialized && is_up($node);
	});
	$problem->('nobody is stuck', 'a client has not come to its end') unless $ledger->stop;
	$ledger->end_prepared;
	eval { $trial->end(crashed => 1); 1 } or $problem->('the others come to an end', $@);
	eval {
		$session = session($node);
		await_connected($session);
		1;
	} or $problem->('the worker and the mirror are up', $@);
	eval { await('locks to be let go', sub { traces($node) eq '' }); 1 }
	  or $problem->('no key is left locked', traces($node) . $@);

	# The worker goes on meanwhile.
	my $differs = '';
	eval {
		await('table and slot to agree', sub {
			$ledger->read_changes;
			return ($differs = $ledger->table_differs) eq '';
		});
		1;
	} or $problem->('the slot tells what the table has', $differs);
	$ledger->settle;
	# The slot would go on from where it was a long time ago, after a crash.
	$node->safe_psql('postgres', 'CHECKPOINT') if rand() < 0.5;
	$problem->('no promise is broken', $ledger->evidence) if $ledger->violations;

	if ($good)
	{
		eval { await_in_sync($session); 1 } or $problem->('the mirror agrees', $@);
		# Who held it may have to expire first.
		my $key = (DistlockLedger::keys_used())[ int rand DistlockLedger::keys_used() ];
		my $state = $session->fails("SELECT distlock.release('$key', distlock.acquire('$key', '1 min', wait => '30 s'))");

		$problem->('a lock can be acquired', "$key: $state") if $state ne '';
	}
	$session->quit if defined $session;
	read_log();
	$problem->('no internal error', join "\n", splice @bad);
	my @unexpected = grep { !$EXPECTED{$_} } sort keys %{ $ledger->errors };
	$problem->('no unexpected error', join ' ', @unexpected);
	return $good && Test::More->builder->is_passing;
}

# ---------------------------------------------------------------------------
# The plan
# ---------------------------------------------------------------------------

# The points of the sources, and whether an error is allowed there.
sub read_points
{
	my %points = slurp_file("$SRC/fail_point.c") =~ /^\t\{"(\w+)", (ERROR_ALLOWED|NO_ERROR)\},/mg;
	my @used = map { slurp_file($_) =~ /FAIL_POINT\("(\w+)"\)/g } glob "$SRC/*.c";

	is_deeply([ sort @used ], [ sort keys %points ], 'each fail point is in the sources once');
	return %points;
}

sub case
{
	my ($action, @names) = @_;

	return {
		action => $action, points => \@names,
		ms => 1 + int rand 40,
		probability => $action =~ /^kill/ ? (1, 5, 20, 100)[ int rand 4 ] : 30 };
}

# Cases of an action, with so many points each.
sub cases
{
	my ($action, $together, @names) = @_;
	my @cases;

	push @cases, case($action, splice @names, 0, $together) while @names;
	return @cases;
}

# Of the next round.
sub next_plan
{
	srand($run->seed + $round);
	return case(split ' ', $ENV{DISTLOCK_TORTURE_CASE}) if defined $ENV{DISTLOCK_TORTURE_CASE};
	return $round++ == 0 ? short_plan() : long_plan();
}

# Each point once, with an action drawn at random.
sub short_plan
{
	my @names = shuffle(sort keys %points);
	my @kill = splice @names, 0, $KILLS;
	my @postmaster = (shuffle(sort keys %points))[ 0 .. $POSTMASTERS - 1 ];
	my (@error, @sleep);

	push @{ $points{$_} eq 'ERROR_ALLOWED' && rand() < 0.6 ? \@error : \@sleep }, $_ foreach @names;
	return shuffle(cases('kill', 1, @kill), cases('kill_postmaster', 1, @postmaster),
		cases('error', $TOGETHER, @error), cases('sleep', $TOGETHER, @sleep));
}

# Each point with each action.
sub long_plan
{
	my @names = shuffle(sort keys %points);

	return shuffle(cases('kill', 1, @names), cases('kill_postmaster', 1, @names),
		cases('error', 4, grep { $points{$_} eq 'ERROR_ALLOWED' } @names),
		cases('sleep', 4, @names));
}

# The time counts from here on.  Each point comes first once, then the rest as time
# allows.
$run->elapsed;
while (@plan && run_case(shift @plan))
{
	last if $round > 1 && !$run->go_on;
	@plan = next_plan() if !@plan && $run->go_on;
}
$ledger->stop;

unless (defined $ENV{DISTLOCK_TORTURE_CASE})
{
	ok($ledger->count('acknowledged') > 100, 'clients were granted locks');
	$trial->conclude;
}
is($ledger->broken('lost_grants'), 0, 'no acknowledged grant was lost');
is_deeply([ $ledger->violations ], [], 'no promise was broken');
note $ledger->summary;
note 'errors: ' . join ', ', map { "$_ " . $ledger->errors->{$_} } sort keys %{ $ledger->errors };

read_log();
$run->add(
	operations => $ledger->count('operations'),
	acknowledged => $ledger->count('acknowledged'),
	lost => $ledger->broken('lost_grants'),
	doubtful => $ledger->count('doubtful'),
	doubtful_and_committed => $ledger->count('committed'),
	prepared_survived => $ledger->count('prepared'));
$node->stop('fast');
$run->finish;
