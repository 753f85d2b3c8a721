# No lock is held twice and no fence goes back, whatever clients do.
#
# Sixteen clients and a few more that misbehave use four keys (and some that
# are new to everybody) in every way there is; what they did is judged by the
# changes of the lock table in the order of their commits.  Then the one-statement
# lock that everybody writes at first has to bear the same, and must be caught.
#
# Settings in the environment:
#
#	DISTLOCK_STRESS_SECONDS		run for at least so long (20)
#	DISTLOCK_STRESS_GRANTS		and until so many grants were made (10000)
#	DISTLOCK_STRESS_SEED		repeat the choices of an earlier run; what
#								comes of them depends on the timing as well
#	DISTLOCK_STRESS_FSYNC		1: with fsync, as in real life
#	DISTLOCK_STRESS_WORKER		0: without the worker, which ends and purges
#								what has lapsed (1), and without events

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use DistlockCrew;
use DistlockJudge;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $CLIENTS = 16;
my $CREW = 4;
my $ROUND = 8;             # seconds
my $PATIENCE = 300;        # seconds until we do without the grants missing

# SQLSTATEs that are answers to what the crew does.
my %EXPECTED = map { $_ => 1 } (
	'55P03',    # not granted; lock_timeout; pinned
	'LK001',    # not held
	'40001', '40P01',
	'57014',    # cancelled, statement_timeout
	'57P01',    # terminated
	'25P01',    # SAVEPOINT after a BEGIN that was cancelled
	'25P02',    # statement after an error in the transaction
	'3B001',    # savepoint of a transaction that has failed
	'42704',    # COMMIT PREPARED after PREPARE failed
	'P0001');   # raised by the script

# The scripts and how often each is run.
my %LOAD = (
	autocommit => 30,
	one_transaction => 30,
	two_transactions => 10,
	savepoints => 10,
	shared_tokens => 10,
	two_keys => 4,
	retry => 6,
	new_keys => 6,
	prepared => 1);

my $seconds = $ENV{DISTLOCK_STRESS_SECONDS} // 20;
my $wanted = $ENV{DISTLOCK_STRESS_GRANTS} // 10_000;
my $seed = $ENV{DISTLOCK_STRESS_SEED} // int(rand(1_000_000));
my $scripts = "$FindBin::RealBin/../stress";

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 'logical');
$node->append_conf('postgresql.conf', q{
max_connections = 60
max_prepared_transactions = 20
deadlock_timeout = 20ms
autovacuum_naptime = 1s
log_statement = none
});
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'distlock'
distlock.events = 'expired, forced, granted, released, extended'
distlock.expiry_warning = 50ms
distlock.purge_after = 200ms
}) if $ENV{DISTLOCK_STRESS_WORKER} // 1;
$node->append_conf('postgresql.conf', 'fsync = on') if $ENV{DISTLOCK_STRESS_FSYNC};
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION distlock');
$node->safe_psql('postgres', slurp_file("$scripts/$_.sql")) for qw(setup naive);

note "seed $seed";

# Run all scripts on a schema for a time; returns pgbench's exit status and
# what it wrote.
sub run_load
{
	my ($schema, $time, $round_seed, $meanwhile) = @_;
	my ($out, $err) = ('', '');
	my $run = IPC::Run::start(
		[
			'pgbench', '-n', '-c', $CLIENTS, '-j', 2, '-T', $time,
			'--max-tries', 3, '--random-seed', $round_seed,
			'-D', "schema=$schema",
			(map { ('-f', "$scripts/$_.sql\@$LOAD{$_}") } sort keys %LOAD),
			$node->connstr('postgres')
		],
		'>', \$out,
		'2>', \$err);

	while ($run->pumpable)
	{
		$run->pump_nb;
		$meanwhile->() if $meanwhile;
		sleep 0.05;
	}
	$run->finish;
	return ($run->result // 0, "$out$err");
}

# A prepared transaction whose session was killed keeps its keys locked until
# somebody ends it; and those who could may all be waiting for it.
my $looked = 0;
sub end_abandoned
{
	return if time - $looked < 1;
	$looked = time;
	$node->psql('postgres', q{
		SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts
		WHERE prepared < clock_timestamp() - interval '1 s' \gexec});
	return;
}

# Percentage of attempts that met with a lock in somebody else's hands.
sub contention
{
	return $node->safe_psql('postgres', q{
		SELECT coalesce(round(100.0 * (r.last_value + w.last_value)
			/ a.last_value, 1), 0),
			format('%s attempts, %s refused, %s granted after a wait',
				a.last_value, r.last_value, w.last_value)
		FROM stress.attempts a, stress.refusals r, stress.waits w});
}

# ---------------------------------------------------------------------------
# distlock
# ---------------------------------------------------------------------------

my %owners = (forced => 'forced', own_token => 'own token');
my $judge = DistlockJudge->new(table => 'distlock.lock', %owners);
$judge->start($node, 'distlock');
my $crew = DistlockCrew->new($node, size => $CREW, seed => $seed,
	keys => [ map { "key $_" } 1 .. 4 ]);

my $began = time;
my $rounds = 0;
my $failures = '';
while (time - $began < $seconds
	|| ($judge->count('grants') < $wanted && time - $began < $PATIENCE))
{
	my ($status, $output) =
	  run_load('distlock', $ROUND, $seed + $rounds++,
		sub { $crew->keep_working; end_abandoned(); });

	$failures .= $output if $status != 0 || $output =~ /aborted/;
	$crew->stop;
	# What the crew has left behind would block everybody in the next round.
	$node->safe_psql('postgres', q{
		SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts \gexec});
	# The next round may begin without rows.
	$node->safe_psql('postgres', 'CALL distlock.purge()');
	$judge->read_changes;
	last if $failures || $judge->violations;
}

my ($percent, $contention) = split /\|/, contention();
note sprintf('%d s in %d rounds: %s', time - $began, $rounds, $judge->summary);
note "contention $percent %: $contention";
note 'errors met by those who misbehave: ' . join(', ',
	map { "$_ $crew->{errors}{$_}" } sort keys %{ $crew->errors });

is($failures, '', 'no client was stopped by an error');
is_deeply([ $judge->violations ], [], 'no lock was held twice, no fence went back')
  or diag $judge->evidence;
cmp_ok($judge->count('grants'), '>=', $wanted, "at least $wanted grants");
cmp_ok($percent, '>=', 5, 'contention of at least 5 %');
for my $event (qw(takeovers extends releases forced_releases lapses deletes))
{
	cmp_ok($judge->count($event), '>', 0, "there were $event");
}
is_deeply([ grep { !$EXPECTED{$_} } sort keys %{ $crew->errors } ],
	[], 'no unexpected errors');
cmp_ok($crew->errors->{$_} // 0, '>', 0, "there were errors $_")
  for qw(55P03 LK001 40001 57014 57P01);

is($node->safe_psql('postgres',
	q{SELECT count(*) FROM (SELECT key, line FROM stress.ledger
		GROUP BY 1, 2 HAVING count(*) > 1) d}),
	0, 'every holder saw the work of the one before');
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM stress.ledger'),
	'>', 100, 'holders worked');
is($node->safe_psql('postgres',
	q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'}),
	0, 'no key is left locked');
unlike(slurp_file($node->logfile), qr/PANIC:|TRAP:|terminated by signal|XX000/,
	'no crash and no internal error');

# ---------------------------------------------------------------------------
# The naive lock
# ---------------------------------------------------------------------------

$judge = DistlockJudge->new(table => 'naive.lock', %owners);
$judge->start($node, 'naive');
run_load('naive', $ROUND, $seed);
$judge->read_changes;

note 'naive lock: ' . $judge->summary;
cmp_ok($judge->count('grants'), '>', 100, 'the naive lock was granted');
cmp_ok($judge->count('overlaps') + $judge->count('fence_regressions'),
	'>', 0, 'the naive lock is caught');

$node->stop;
done_testing();
