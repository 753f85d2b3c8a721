# No update is lost when a holder is stopped past the expiry of its lease, if it
# uses guard() or do_exclusively(); and it is if the holder trusts in its lease
# alone.
#
# Clients transfer money: they read two balances, think, and write what they
# have computed.  Backends that are in the middle of it are stopped (SIGSTOP) and
# continued when the lease has long expired.  Without a lock that works, two
# write what they have computed from the same balances.
#
#	DISTLOCK_LONG=1		2000 pauses for each way instead of 60

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $PAUSES = $ENV{DISTLOCK_LONG} ? 2_000 : 60;
my $CLIENTS = 10;
my $PAUSE = 30_000;        # microseconds; thinking takes 8 ms, ttl is less

my $node = new_node('main');
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE account (branch int, side int, balance int, version int,
	PRIMARY KEY (branch, side));
CREATE TABLE ledger (branch int, side int, amount int);
CREATE TABLE refused (branch int);
CREATE TABLE closing (reason text);
CREATE SEQUENCE transfers;

-- Move money between the two accounts of a branch.
CREATE FUNCTION transfer(branch_ int, key text, token text, guard text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	a account;
	b account;
	amount int := 1 + random() * 9;
BEGIN
	-- From here on it may be stopped.
	PERFORM set_config('application_name', 'transfer ' || nextval('transfers'), false);
	IF guard = 'first' THEN
		PERFORM distlock.guard(key, token);
	END IF;
	SELECT * INTO a FROM account WHERE branch = branch_ AND side = 1;
	SELECT * INTO b FROM account WHERE branch = branch_ AND side = 2;
	PERFORM pg_sleep(0.008);
	IF guard = 'last' THEN
		PERFORM distlock.guard(key, token);
	END IF;
	UPDATE account SET balance = a.balance - amount, version = a.version + 1
	WHERE branch = branch_ AND side = 1;
	UPDATE account SET balance = b.balance + amount, version = b.version + 1
	WHERE branch = branch_ AND side = 2;
	INSERT INTO ledger VALUES (branch_, 1, -amount), (branch_, 2, amount);
EXCEPTION WHEN SQLSTATE 'LK001' THEN
	INSERT INTO refused VALUES (branch_);
END $$;

CREATE PROCEDURE work_with_lease(guard text, ttl interval) LANGUAGE plpgsql AS $$
DECLARE
	branch int;
	key text;
	token text;
BEGIN
	WHILE NOT EXISTS (SELECT FROM closing) LOOP
		branch := floor(random() * 4);
		key := 'branch ' || branch;
		token := distlock.acquire(key, ttl, wait => '150 s');
		COMMIT;
		PERFORM transfer(branch, key, token, guard);
		COMMIT;
		SET application_name = 'between';
		PERFORM distlock.try_release(key, token);
		COMMIT;
	END LOOP;
END $$;

CREATE PROCEDURE work_exclusively() LANGUAGE plpgsql AS $$
DECLARE
	branch int;
BEGIN
	WHILE NOT EXISTS (SELECT FROM closing) LOOP
		branch := floor(random() * 4);
		PERFORM distlock.do_exclusively('branch ' || branch, '3 ms',
			format('SELECT transfer(%s, NULL, NULL, NULL)', branch), wait => '150 s');
		COMMIT;
		SET application_name = 'between';
	END LOOP;
END $$;
EOQ

# Whoever is stopped has to go on, whatever happens to this test.
my %stopped;
END { kill 'CONT', keys %stopped if %stopped; }

my $control = session($node);
my $middle = <<'EOQ';
SELECT pid, application_name FROM pg_stat_activity WHERE application_name LIKE 'transfer %'
EOQ

# Stop all that are in the middle for a time.  Returns how many were there from
# the beginning of the pause to its end.
sub pause
{
	my %found = map { split /\|/ } split /\n/, $control->query($middle);
	my $paused = 0;

	$stopped{$_} = 1 foreach grep { kill('STOP', $_) } keys %found;
	usleep($PAUSE);

	# Nobody may wait for an answer that depends on those who are stopped.
	$control->send($middle);
	my $until = time() + 0.2;
	usleep(500) until $control->is_done || time() > $until;
	my $answered = $control->is_done;
	kill('CONT', keys %stopped);
	my %there = map { split /\|/ } split /\n/, $control->result;
	$paused = grep { ($there{$_} // '') eq $found{$_} } keys %stopped if $answered;
	%stopped = ();
	return $paused;
}

# Let clients work in a way until there were enough pauses; returns how many
# updates were lost, transfers were made and refused.
sub work
{
	my ($way, $call, $pauses) = @_;
	my $paused = 0;
	my $until = time() + $pauses + 60;

	$control->query(<<'EOQ');
TRUNCATE account, ledger, refused, closing;
INSERT INTO account SELECT b, s, 1000, 0 FROM generate_series(0, 3) b, generate_series(1, 2) s;
EOQ
	my @clients = map { session($node) } 1 .. $CLIENTS;
	$_->send($call) foreach @clients;
	$paused += pause() while $paused < $pauses && time() < $until;
	$control->query("INSERT INTO closing VALUES ('enough')");
	$_->result foreach @clients;
	is(join('', map { $_->sqlstate } @clients), '', "$way: no client failed");
	$_->quit foreach @clients;

	cmp_ok($paused, '>=', $pauses, "$way: there were pauses in the middle of transfers");
	my ($lost, $transfers, $refused, $wrong, $off) = split /\|/, $control->query(<<'EOQ');
WITH accounts AS (
	SELECT a.branch, a.side, balance, version, count(amount) AS updates,
		1000 + coalesce(sum(amount), 0) AS right_balance
	FROM account a LEFT JOIN ledger l ON l.branch = a.branch AND l.side = a.side
	GROUP BY 1, 2, 3, 4)
SELECT sum(updates) - sum(version), sum(updates)::int / 2, (SELECT count(*) FROM refused),
	count(*) FILTER (WHERE balance <> right_balance), sum(abs(balance - right_balance))
FROM accounts
EOQ
	note "$way: $paused pauses; $transfers transfers, $refused refused; "
	  . "$lost updates lost, $wrong of 8 balances wrong, by $off in all";
	is($wrong, 0, "$way: the balances are right") if $lost == 0;
	return ($lost, $transfers, $refused);
}

my ($lost, $transfers, $refused);

# The guard outlives the lease.
($lost, $transfers) = work('guard before reading', "CALL work_with_lease('first', '3 ms')", $PAUSES);
is($lost, 0, 'guard before reading: no update is lost');
cmp_ok($transfers, '>', 0, 'and there were updates');

# The guard tells who has lost the lease.
($lost, $transfers, $refused) =
  work('guard before writing', "CALL work_with_lease('last', '25 ms')", $PAUSES);
is($lost, 0, 'guard before writing: no update is lost');
cmp_ok($transfers, '>', 0, 'and there were updates');
cmp_ok($refused, '>', 0, 'and late ones were refused');

($lost, $transfers) = work('do_exclusively', 'CALL work_exclusively()', $PAUSES);
is($lost, 0, 'do_exclusively: no update is lost');
cmp_ok($transfers, '>', 0, 'and there were updates');

($lost) = work('lease alone', "CALL work_with_lease('none', '3 ms')", 60);
cmp_ok($lost, '>', 0, 'lease alone: updates are lost, and found to be');

is(traces($node), '', 'nothing is left');
$control->quit;
$node->stop;
done_testing();
