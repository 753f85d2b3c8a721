# No lock is held twice, no fence goes back and no promise is broken, whatever
# clients do at the same time.
#
# Clients use a few keys that all of them want, and many others, in every way there
# is; their statements are cancelled and their sessions ended.  They write down what
# they asked and got; the changes of the table in the order of their commits tell
# what became of that.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use DistlockClients;
use DistlockJudge;
use DistlockTest;
use DistlockTorture;
use DistlockWitness;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $ROUND = 20;           # seconds, at most
my $GRANTS = 500;         # a second, at least
my $CONTENTION = 5;       # per cent of the attempts, at least

my $run = DistlockTorture->new('mix', seconds => 20,
	goals => { operations => 10_000_000, interrupts => 2_000 });

my $node = new_node('main', allows_streaming => 'logical', conf => <<'EOC');
shared_preload_libraries = 'distlock'
max_prepared_transactions = 40
deadlock_timeout = 50ms
log_statement = none
distlock.purge_after = 2s
EOC

my $clients = DistlockClients->new(clients => 12, sabotage => 20);
my $judge = DistlockJudge->new(table => 'distlock.lock', ledger => 'public.ledger',
	forced => 'forced', own_token => 'shared');
my $witness = DistlockWitness->new;
my %errors;

$clients->prepare($node);
$judge->start($node, 'judge');

for (my $round = 1; $run->go_on; $round++)
{
	my $left = $run->seconds - $run->elapsed;

	$clients->start($node, seed => $run->seed, round => $round,
		seconds => $left < 1 || $left > $ROUND ? $ROUND : $left);
	my $counts = $clients->finish;
	# What nobody was left to end
	$node->safe_psql('postgres',
		q{SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts \gexec});
	await('the sessions to end', sub { traces($node) eq '' });
	$judge->read_changes;
	$witness->hear($clients->logs);
	$witness->compare($judge->take_sight);

	$run->add(map { $_ => $counts->{$_} } qw(operations grants refusals waits interrupts lost));
	$run->add(load_seconds => $counts->{seconds});
	$errors{$_} += $counts->{errors}{$_} foreach keys %{ $counts->{errors} };
	is_deeply([ $judge->violations ], [], "round $round: no lock was held twice, no fence went back")
	  or diag $judge->evidence;
	is_deeply([ $witness->violations ], [], "round $round: it is as the clients know it")
	  or diag $witness->evidence;
	is_deeply([ DistlockClients::unexpected($counts) ], [], "round $round: no unexpected errors");
}

note $judge->summary;
note $witness->summary;
note 'errors: ' . join ', ', map { "$_ $errors{$_}" } sort keys %errors;

my $seconds = $run->figure('load_seconds');
my $attempts = $run->figure('grants') + $run->figure('refusals');
my $contention = 100 * ($run->figure('refusals') + $run->figure('waits')) / $attempts;
note sprintf '%d grants a second, contention %.1f %%', $run->figure('grants') / $seconds, $contention;
cmp_ok($run->figure('grants') / $seconds, '>=', $GRANTS, "at least $GRANTS grants a second");
cmp_ok($contention, '>=', $CONTENTION, "at least $CONTENTION % contention");
cmp_ok($judge->count($_), '>', 0, "there were $_")
  foreach qw(takeovers extends releases forced_releases lapses deletes touches ended_sessions works);
cmp_ok($witness->count($_), '>', 0, "there were $_") foreach qw(acknowledged intervals fences);
cmp_ok($errors{$_} // 0, '>', 0, "there were errors $_") foreach qw(55P03 LK001 40001 57014 lost);
unlike(slurp_file($node->logfile), qr/PANIC:|TRAP:|terminated by signal|XX000/,
	'no crash and no internal error');

$run->add(overlaps => $judge->count('overlaps') + $witness->count('held_twice'),
	fence_regressions => $judge->count('fence_regressions') + $witness->count('fence_order')
	  + $witness->count('repeated_fences'),
	lost_grants => $witness->count('lost_grants'));
$node->stop;
$run->finish;
