# Whatever becomes of run_exclusively, and whenever: afterwards the lock is
# free, nothing is stuck, the chunks that its command has committed stay, and
# the command's error arrives unchanged.  After a crash of the server the lock
# is reserved for ttl from the start of the server, and free then.
#
#	DISTLOCK_LONG=1		500 runs instead of 45

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $RUNS = $ENV{DISTLOCK_LONG} ? 500 : 45;
my $CHUNKS = 40;           # of about 2 ms
my $TTL = '700 ms';

# A client that is gone is noticed.
my $node = new_node('main', conf => q{
restart_after_crash = on
client_connection_check_interval = 5ms
});
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE chunk (run int, number int, fence bigint);
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
CREATE PROCEDURE work(run int, chunks int, failing text DEFAULT '') LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. chunks LOOP
		INSERT INTO chunk VALUES (run, i, distlock.current_fence());
		PERFORM pg_sleep(0.002);
		COMMIT;
	END LOOP;
	INSERT INTO chunk VALUES (run, 0);
	CASE failing
		WHEN '' THEN DELETE FROM chunk WHERE number = 0;
		WHEN 'raise' THEN
			RAISE EXCEPTION 'run % has "failed"', run
				USING ERRCODE = 'ZX042', DETAIL = 'The detail.', HINT = 'The hint.';
		WHEN 'divide' THEN PERFORM 1 / 0;
		WHEN 'commit' THEN INSERT INTO child VALUES (1); COMMIT;
		WHEN 'last commit' THEN INSERT INTO child VALUES (1);
	END CASE;
END $$;
EOQ
my ($runner, $control) = (session($node), session($node));

sub call
{
	my ($command) = @_;

	return "CALL distlock.run_exclusively('key', '$TTL', \$\$$command\$\$)";
}

# ---------------------------------------------------------------------------
# What can happen.  Each runs a command, and returns the SQLSTATE it ended with
# and the one it may end with besides '' (when the event came too late); or
# nothing when nobody was there to be told.
# ---------------------------------------------------------------------------

# The error, with whatever it says, but not where it comes from
sub error_text
{
	return $runner->stderr =~ s/^(LOCATION:|distlock: end of).*\n//gmr;
}

sub at_a_random_moment
{
	usleep(rand($CHUNKS * 3_000));
	return;
}

# The error is the one that the command has by itself.
sub fails
{
	my ($run, $kind) = @_;
	my $command = "CALL work($run, " . int(rand 5) . ", '$kind')";
	my (@states, @errors);

	for my $sql ($command, call($command))
	{
		$control->query("DELETE FROM chunk WHERE run = $run");
		push @states, $runner->fails($sql);
		push @errors, error_text();
	}
	isnt($states[0], '', "$kind: fails");
	is($errors[1], $errors[0], '... with the error unchanged');
	return reverse @states;
}

sub syntax_error
{
	my ($run) = @_;

	return ($runner->fails(call("CALL work($run, 1); SELEC 1")), '42601');
}

sub cancelled
{
	my ($run) = @_;

	$runner->send(call("CALL work($run, $CHUNKS)"));
	at_a_random_moment();
	$control->query('SELECT pg_cancel_backend(' . $runner->pid . ')');
	$runner->result;
	is(error_text(), "ERROR:  57014: canceling statement due to user request\n", 'the error is unchanged')
	  if $runner->sqlstate ne '';
	return ($runner->sqlstate, '57014');
}

sub statement_timeout
{
	my ($run) = @_;

	$runner->query('SET statement_timeout = ' . (1 + int rand($CHUNKS * 3)));
	$runner->send(call("CALL work($run, $CHUNKS)"));
	$runner->result;
	my $state = $runner->sqlstate;
	is(error_text(), "ERROR:  57014: canceling statement due to statement timeout\n", 'the error is unchanged')
	  if $state ne '';
	$runner->query('RESET statement_timeout');
	return ($state, '57014');
}

# The runner's session is over after one of these.
sub ended
{
	my ($pid) = @_;

	await('the session to end', sub {
		$control->query("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid") eq '0' });
	return;
}

sub terminated
{
	my ($run) = @_;

	$runner->send(call("CALL work($run, $CHUNKS)"));
	at_a_random_moment();
	$control->query('SELECT pg_terminate_backend(' . $runner->pid . ')');
	$runner->result;
	my $state = $runner->sqlstate;
	$runner->quit;
	ended($runner->pid);
	return ($state, '57P01');
}

sub client_killed
{
	my ($run) = @_;

	$runner->send(call("CALL work($run, $CHUNKS)"));
	at_a_random_moment();
	$runner->kill_client;
	ended($runner->pid);
	return;
}

# Nobody notices before the work is done.
sub client_killed_unnoticed
{
	my ($run) = @_;

	$runner->query('SET client_connection_check_interval = 0');
	return client_killed($run);
}

sub backend_killed
{
	my ($run) = @_;
	my $start = start_of_server();

	$runner->send(call("CALL work($run, $CHUNKS)"));
	at_a_random_moment();
	kill('KILL', $runner->pid) == 1 or die 'could not kill a backend';
	$runner->quit;
	$control->quit;
	await('the server to be up again', sub {
		my $now = eval { start_of_server() } // '';
		return $now ne '' && $now ne $start });
	return;
}

sub server_killed
{
	my ($run) = @_;

	$runner->send(call("CALL work($run, $CHUNKS)"));
	at_a_random_moment();
	crash($node);
	$_->quit foreach $runner, $control;
	start_again($node);
	return;
}

sub immediate_stop
{
	my ($run) = @_;

	$runner->send(call("CALL work($run, $CHUNKS)"));
	at_a_random_moment();
	$node->stop('immediate');
	$_->quit foreach $runner, $control;
	$node->start;
	return;
}

sub start_of_server
{
	my ($ret, $stdout) = $node->psql('postgres',
		"SELECT backend_start FROM pg_stat_activity WHERE backend_type = 'walwriter'");

	return $stdout;
}

my @events = (
	[ fails => 'raise' ], [ fails => 'divide' ], [ fails => 'commit' ], [ fails => 'last commit' ],
	['syntax_error'],
	(['cancelled']) x 4, (['statement_timeout']) x 4, (['terminated']) x 4,
	(['client_killed']) x 3, ['client_killed_unnoticed'],
	['backend_killed'], ['server_killed'], ['immediate_stop']);
my %crashes = map { $_ => 1 } qw(backend_killed server_killed immediate_stop);

# ---------------------------------------------------------------------------
# Afterwards
# ---------------------------------------------------------------------------

my (%outcomes, $highest, @done);

# After a crash.  The row tells whether the lock was held then.
sub reserved
{
	my ($run) = @_;
	my $start = of_walwriter($node, 'backend_start');
	my ($row, $chunks) = split /\n/, $control->query(<<"EOQ");
SELECT count(token) FROM distlock.lock WHERE key = 'key';
SELECT count(*) FROM chunk WHERE run = $run;
EOQ

	is($row, 1, 'the lock was held at the crash') if $chunks > 0 && $chunks < $CHUNKS;
	return 'not running' if !$row;

	my $end = "'$start'::timestamptz + '$TTL'";
	# This machine may be too slow to see it, and get the lock.
	is($control->query(<<"EOQ"), 't|t', 'reserved after the crash');
BEGIN;
SELECT held AND try IS NULL OR clock_timestamp() >= $end, before >= '$start'
FROM (SELECT clock_timestamp() AS before, distlock.is_held('key') AS held,
	distlock.try_acquire('key', '1 h') AS try OFFSET 0) l;
ROLLBACK
EOQ
	is($control->query(<<"EOQ"), 't|t', 'free when ttl has passed since the start of the server');
BEGIN;
SELECT now >= $end, now < $end + '30 s'
FROM (SELECT distlock.acquire('key', '1 h', wait => '100 s') AS token, clock_timestamp() AS now OFFSET 0) l;
ROLLBACK
EOQ
	return 'reserved';
}

# The rows of a run: how many, how many are chunks in a row, under one fence
sub chunks
{
	my ($run) = @_;

	return $control->query(<<"EOQ");
SELECT count(*), count(DISTINCT number), coalesce(max(number), 0), count(DISTINCT fence) < 2
FROM chunk WHERE run = $run AND number > 0
EOQ
}

for my $run (1 .. $RUNS)
{
	my ($event, @arguments) = @{ $events[ $run % @events ] };
	my $name = "run $run: $event @arguments";
	my ($state, $expected) = do { no strict 'refs'; $event->($run, @arguments) };

	if (defined $expected)
	{
		is($state, $expected, "$name: ends with $expected") if $state ne '';
		$outcomes{"$event: " . ($state || 'done')}++;
	}
	$runner = session($node) if !defined $expected || $event eq 'terminated';
	if ($crashes{$event})
	{
		$control = session($node);
		$outcomes{"$event: " . reserved($run)}++;
	}

	# Free at once, for a try that does not wait.  It is rolled back, because a
	# release may be lost in the next crash.
	my ($held, $fence, $seen, $traces, $waiters) = split /\n/, $control->query(<<"EOQ");
SELECT distlock.is_held('key');
BEGIN;
SELECT coalesce(distlock.try_acquire_with_token('key', 'mine', '1 h'), 0);
ROLLBACK;
SELECT count(*) FROM chunk WHERE run = $run;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory';
SELECT count(*) FROM distlock.waiters;
EOQ
	is("$held $traces $waiters", 'f 0 0', "$name: free, and nothing is left");
	cmp_ok($fence, '>', $highest // 0, "$name: the next one is granted");
	$highest = $fence;

	my ($rows, $numbers, $last, $one_fence) = split /\|/, chunks($run);
	is("$rows $numbers $one_fence", "$last $last t", "$name: the chunks committed stay");
	$outcomes{"$event: " . ($rows ? $rows == $CHUNKS ? 'all chunks' : 'some chunks' : 'no chunk')}++
	  if $event !~ /fails|syntax/;
	is($control->query("SELECT count(*) FROM chunk WHERE run = $run AND number = 0"),
		'0', "$name: ... and no other work");
	cmp_ok($control->query("SELECT coalesce(max(fence), 0) FROM chunk WHERE run = $run"),
		'<', $fence, "$name: their fence is below the next one's");
	push @done, [ $run, $seen ];
}

# Nothing came of a run after the next one was granted the lock.
is($control->query("SELECT count(*) FROM chunk WHERE run = $_->[0]"), $_->[1], "run $_->[0] was over")
  foreach @done;
note "$_ ($outcomes{$_})" foreach sort keys %outcomes;

# In a transaction block it is refused, before anything happens.
is($runner->fails('BEGIN; ' . call('SELECT 1')), '2D000', 'refused in a transaction block');
$runner->query('ROLLBACK');
is(traces($node), '', '... and nothing is left');

$_->quit foreach $runner, $control;
$node->stop;
ok(slurp_file($node->logfile) !~ /PANIC:|TRAP:|signal 11|signal 6|XX000/, 'no internal error');
done_testing();
