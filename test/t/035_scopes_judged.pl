# Holders of all scopes exclude each other, whatever becomes of their sessions.
#
# Clients use two keys in every scope and write the fence of their lock into a
# table while they hold it; their statements are cancelled, their sessions
# terminated and the clients killed.  A logical decoding slot tells the order in
# which that was committed: nothing with a lower fence may come after a higher
# one.
#
#	DISTLOCK_LONG=1		for 120 seconds instead of 12

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $SECONDS = $ENV{DISTLOCK_LONG} ? 120 : 12;
my $CLIENTS = 10;
my $STEPS = 30;            # of a script

# Answers to what happens here
my %EXPECTED = map { $_ => 1 } (
	'55P03',    # not granted
	'LK001',    # not held
	'57014', '57P01',
	'40P01',    # between sessions whose release was cancelled
	'25P01', '25P02', '42704');    # after a BEGIN or PREPARE that was cancelled

my $node = new_node('main', allows_streaming => 'logical', conf => 'deadlock_timeout = 50ms');
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE act (scope text, key text, fence bigint);
CREATE PROCEDURE act_in_chunks(key text, chunks int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. chunks LOOP
		INSERT INTO act VALUES ('run_exclusively', key, distlock.current_fence());
		PERFORM pg_sleep(0.002 * random());
		COMMIT;
	END LOOP;
END $$;
SELECT pg_create_logical_replication_slot('slot', 'test_decoding');
EOQ

# ---------------------------------------------------------------------------
# What clients do
# ---------------------------------------------------------------------------

sub one_of { return $_[ int rand @_ ]; }

# Write the fence, if the lock is held.
sub act
{
	my ($scope, $key, $fence) = @_;

	return "INSERT INTO act SELECT '$scope', '$key', f FROM $fence f WHERE f IS NOT NULL";
}

sub step
{
	my ($number) = @_;
	my $key = one_of('a', 'b');
	my $gid = "step $number";
	my $scope = one_of('session', 'session', 'session', 'transaction', 'prepared',
		'lease', 'do_exclusively', 'run_exclusively');
	my $sleep = "SELECT FROM pg_sleep(0.003 * random())";
	my $fence = "distlock.fence('$key', 'token $number')";

	return "SELECT distlock.do_exclusively('$key', '1 ms', \$\$"
	  . act($scope, $key, 'distlock.current_fence()') . "; $sleep\$\$, wait => '2 s');"
	  if $scope eq 'do_exclusively';
	return "CALL distlock.run_exclusively('$key', '1 ms', \$\$CALL act_in_chunks('$key', 3)\$\$, '2 s');"
	  if $scope eq 'run_exclusively';

	my $acquire = sub {
		my ($of, $ttl) = @_;
		return "SELECT FROM distlock.acquire_with_token('$key', 'token $number', '$ttl', wait => '2 s', scope => '$of')";
	};
	my $end = one_of('COMMIT', 'COMMIT', 'ROLLBACK');

	return join(";\n", $acquire->('session', '1 ms'),
		(act($scope, $key, $fence), $sleep) x (1 + int rand 3),
		one_of('BEGIN;' . act($scope, $key, $fence) . "; $sleep; $end", $sleep),
		one_of(("SELECT distlock.release('$key', 'token $number')") x 3,
			'DISCARD ALL', 'SELECT pg_advisory_unlock_all()')) . ';'
	  if $scope eq 'session';
	return join(";\n", 'BEGIN', $acquire->('transaction', '1 ms'), act($scope, $key, $fence), $sleep, $end) . ';'
	  if $scope eq 'transaction';
	return join(";\n", 'BEGIN', $acquire->('transaction', '1 ms'), act($scope, $key, $fence),
		"PREPARE TRANSACTION '$gid'", "$end PREPARED '$gid'") . ';'
	  if $scope eq 'prepared';
	return join(";\n", $acquire->('lease', '5 ms'), 'BEGIN',
		act($scope, $key, "distlock.guard('$key', 'token $number')"),
		"SELECT FROM pg_sleep(0.01 * random())",
		act($scope, $key, "distlock.guard('$key', 'token $number')"), $end,
		"SELECT distlock.try_release('$key', 'token $number')") . ';';
}

# ---------------------------------------------------------------------------
# The clients, and what happens to them
# ---------------------------------------------------------------------------

my (@clients, %errors);
my $steps = 0;
my $control = session($node);

sub begin
{
	my %client = (script => join("\n", 'SET client_min_messages = error;',
			map { step($steps++) } 1 .. $STEPS) . "\n", err => '');

	$client{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'VERBOSITY=sqlstate', '-d', $node->connstr('postgres') . ' application_name=client' ],
		'<', \$client{script}, '>', '/dev/null', '2>', \$client{err});
	return \%client;
}

sub finish
{
	my ($client) = @_;

	eval { $client->{run}->finish };
	# While it starts, it says so in words.
	$client->{err} =~ s/terminating connection due to administrator command/57P01/g;
	$client->{err} =~ s/canceling statement due to user request/57014/g;
	$errors{$1}++ while $client->{err} =~ /(?:ERROR|FATAL|PANIC):  (.{5})/g;
	return;
}

sub harm
{
	my $what = rand;

	if ($what < 0.2)
	{
		one_of(@clients)->{run}->signal('KILL');
		return;
	}
	my $function = $what < 0.8 ? 'pg_cancel_backend' : 'pg_terminate_backend';
	$control->query(<<"EOQ");
SELECT $function(pid) FROM pg_stat_activity WHERE application_name = 'client'
ORDER BY random() LIMIT 1
EOQ
	# Prepared transactions whose session did not live to end them
	my $left = $control->query(<<'EOQ');
SELECT format('ROLLBACK PREPARED %L;', gid) FROM pg_prepared_xacts
WHERE prepared < clock_timestamp() - interval '200 ms'
EOQ
	$control->fails($left) if $left ne '';
	return;
}

my $began = time();
@clients = map { begin() } 1 .. $CLIENTS;
while (time() - $began < $SECONDS)
{
	for my $client (@clients)
	{
		# It fails when psql has ended before the end of its script.
		next if eval { $client->{run}->pump_nb; 1 } && $client->{run}->pumpable;
		finish($client);
		$client = begin();
	}
	harm();
	usleep(rand 40_000);
}
finish($_) foreach @clients;
$control->query("SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts \\gexec");
await('the sessions to end', sub { traces($node) eq '' });

# ---------------------------------------------------------------------------
# Judgement
# ---------------------------------------------------------------------------

# Returns how many came too late, and counts all by their scope.
sub judge
{
	my %count;
	my %highest;
	my $late = 0;

	for my $line (split /\n/, $node->safe_psql('postgres',
			"SELECT data FROM pg_logical_slot_get_changes('slot', NULL, NULL)"))
	{
		next unless $line =~
		  /^table public.act: INSERT: scope\[text\]:'(\w+)' key\[text\]:'(\w+)' fence\[bigint\]:(\d+)/;
		my ($scope, $key, $fence) = ($1, $2, $3);

		$count{$scope}++;
		if ($fence >= ($highest{$key} // 0))
		{
			$highest{$key} = $fence;
			next;
		}
		$late++;
		note "$scope, key $key: fence $fence after $highest{$key}";
	}
	return ($late, \%count);
}

my ($late, $count) = judge();
note join ', ', map { "$count->{$_} of $_" } sort keys %$count;
note 'errors: ' . join ', ', map { "$_ $errors{$_}" } sort keys %errors;
is($late, 0, 'no holder worked after the next one');
cmp_ok($count->{$_} // 0, '>', 5, "there was work of $_")
  foreach qw(session transaction prepared lease do_exclusively run_exclusively);
is_deeply([ grep { !$EXPECTED{$_} } sort keys %errors ], [], 'no unexpected errors');
cmp_ok($errors{$_} // 0, '>', 0, "there were errors $_") foreach qw(57014 57P01);
is($control->query("SELECT count(*) FROM distlock.locks WHERE scope <> 'lease'"), '0', 'nothing is left');
ok(slurp_file($node->logfile) !~ /PANIC:|TRAP:|terminated by signal|XX000/, 'no internal error');

# A holder that does not heed the expiry of its lease is found.
$control->query(<<'EOQ');
SELECT distlock.acquire_with_token('c', 'first', '1 ms') AS first \gset
SELECT distlock.acquire_with_token('c', 'second', '1 h', wait => '10 s') AS second \gset
INSERT INTO act VALUES ('lease', 'c', :second);
INSERT INTO act VALUES ('lease', 'c', :first);
EOQ
is((judge())[0], 1, 'the test finds work that comes too late');

$control->quit;
$node->stop;
done_testing();
