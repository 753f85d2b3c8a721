# Interrupts at random moments leave no trace, nobody stuck and no lock with two
# holders.
#
# Statements are cancelled and sessions terminated all the time; the server is shut
# down in all three ways, loses single processes or its postmaster, and gets timeouts
# of all kinds from its configuration.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use DistlockTest;
use DistlockTorture;
use DistlockTrial;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $PAUSE = 0.6;          # seconds between the larger blows, at most

my $run = DistlockTorture->new('interrupts', seconds => 15, goals => { interrupts => 2_000 });
my $node = new_node('main', allows_streaming => 'logical', conf => <<"EOC");
$DistlockTrial::CONF
log_min_messages = fatal
restart_after_crash = on
EOC
my $trial = DistlockTrial->new($run, $node, clients => 8, sabotage => 60);

sub one_of { return $_[ int rand @_ ]; }

# Of a kind of process, one at random
sub process
{
	my ($type) = @_;
	my @pids = split /\n/, $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = '$type' AND pid <> pg_backend_pid()");

	return one_of(@pids);
}

sub signal_to
{
	my ($signal, $type) = @_;
	my $pid = process($type);

	kill $signal, $pid if defined $pid;
	return;
}

# After the death of a process, the server ends all others and starts again.
sub await_server
{
	await('the server to be up', sub { is_up($node) });
	return;
}

# As the sessions do not go by themselves, a smart shutdown is followed by a fast one.
sub smart_shutdown
{
	my ($postmaster) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');

	kill 'TERM', $postmaster;
	sleep rand 0.2;
	# It may have come to its end.
	$node->stop('fast', fail_ok => 1);
	start_again($node);
	return;
}

# The processes notice that their postmaster is gone.
sub postmaster_death
{
	$node->kill9;
	start_again($node);
	return;
}

sub timeouts
{
	my $timeout = one_of('statement_timeout', 'lock_timeout',
		'idle_in_transaction_session_timeout', 'idle_session_timeout', 'deadlock_timeout');

	$node->safe_psql('postgres', "ALTER SYSTEM SET $timeout = '" . (1 + int rand 30) . "ms'");
	$node->reload;
	sleep rand 0.3;
	# They are not for who takes them back.
	local $ENV{PGOPTIONS} = join ' ', map { "-c $_=0" }
	  qw(statement_timeout lock_timeout idle_session_timeout);
	$node->safe_psql('postgres', 'ALTER SYSTEM RESET ALL');
	$node->reload;
	return;
}

my %blows = (
	cancels => sub { signal_to('INT', 'client backend') foreach 1 .. 10; },
	terminates => sub { signal_to('TERM', 'client backend') foreach 1 .. 3; },
	'workers terminated' => sub { signal_to('TERM', 'distlock worker'); },
	'launchers terminated' => sub { signal_to('TERM', 'distlock launcher'); },
	'sessions killed' => sub { signal_to('KILL', 'client backend'); await_server(); },
	'workers killed' => sub { signal_to('KILL', 'distlock worker'); await_server(); },
	'smart shutdowns' => \&smart_shutdown,
	'fast shutdowns' => sub { $node->restart; },
	'immediate shutdowns' => sub { $node->stop('immediate'); $node->start; },
	'postmaster deaths' => \&postmaster_death,
	timeouts => \&timeouts);
my @order;

# Slow machines get more rounds, to have suffered each of them.
while ($run->go_on || (Test::More->builder->is_passing && grep { !$run->figure(tr/ /_/r) } keys %blows))
{
	$trial->round(
		crashed => 1,
		meanwhile => sub {
			my ($left) = @_;

			sleep($left < $PAUSE ? $left : rand $PAUSE);
			return if $left < 2;
			# Each of them comes once before any comes again.
			@order = sort { $a->[1] <=> $b->[1] } map { [ $_, rand ] } sort keys %blows if !@order;
			my ($name) = @{ shift @order };
			my $began = time;

			$blows{$name}->();
			# A server that has been started may still be recovering.
			await_server();
			note sprintf '%s: %.1f s', $name, time - $began if $ENV{DISTLOCK_TORTURE_VERBOSE};
			$run->add(interrupts => 1, $name =~ tr/ /_/r => 1);
		});
}
$trial->conclude;

cmp_ok($run->figure('interrupts'), '>=', 5 * $run->seconds, 'there were interrupts');
cmp_ok($run->figure(tr/ /_/r), '>', 0, "there were $_") foreach sort keys %blows;

$node->stop;
$run->add(stuck => 0);
$run->finish;
