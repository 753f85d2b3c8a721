# A grant that is committed with its statement keeps the head of the queue until
# then, and is not shown as waiting; one in a transaction block does not.  Who
# waits in the queue, and for whom nobody can be waiting, looks for deadlocks
# late; everybody else does so after deadlock_timeout.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "deadlock_timeout = '20ms'\nlog_lock_waits = on");
my $acquire = "distlock.acquire_with_token('key', pg_backend_pid()::text, '1 h', wait => '150 s')";
my $release = "distlock.release('key', pg_backend_pid()::text)";

# A session that waits for the key
sub waiter
{
	my ($count, $sql, $before) = @_;
	my $session = session($node);

	$session->query($before) if $before;
	$session->send($sql);
	await_waiters($node, 'key', $count);
	return $session;
}

sub granted_is_to_come
{
	my ($session, $what) = @_;

	$node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_locks WHERE pid = ${\ $session->pid }
		 AND locktype = 'advisory' AND NOT granted AND classid = 0 AND objid = 4711")
	  or die "$what: not at its second wait";
	return;
}

# One that is granted the lock in a statement that goes on, waiting for another
# lock of ours; the next in line is shown alone.
my $gate = session($node);
for my $in_block (0, 1)
{
	my $what = $in_block ? 'in a block' : 'a statement';

	$gate->query('SELECT pg_advisory_lock(4711)');
	hold_key($node);
	my $first = waiter(1, "SELECT $acquire IS NOT NULL, pg_advisory_lock(4711) IS NULL;",
		$in_block ? 'BEGIN' : undef);
	my $second = waiter(2, "SELECT $acquire IS NOT NULL");
	let_go_of_key($node);
	granted_is_to_come($first, $what);
	is($node->safe_psql('postgres', 'SELECT pid, position FROM distlock.waiters'),
		$second->pid . '|1', "$what: who has been granted the lock does not wait");

	# The queue lock is the one that has holder and waiter but is no key lock.
	is($node->safe_psql('postgres', "SELECT count(*) FROM pg_locks WHERE pid = ${\ $first->pid }
			AND locktype = 'advisory' AND granted AND mode = 'ExclusiveLock'"),
		$in_block ? 1 : 2, $in_block ? '... and has left the queue' : '... and keeps the queue until the commit');

	$gate->query('SELECT pg_advisory_unlock(4711)');
	is($first->result, 't|f', '... the statement ends');
	$first->query('COMMIT') if $in_block;
	$first->query("SELECT $release");
	is($second->result, 't', '... the next one is served');
	$second->query("SELECT $release");
	$_->quit foreach $first, $second;
}

# Several keys in a statement: who has got the first waits for the second alone.
$node->safe_psql('postgres', "SELECT distlock.acquire_with_token(k, 'first', '1 h') FROM (VALUES ('key'), ('next')) v (k)");
my $both = waiter(1, "SELECT count(distlock.acquire_with_token(k, 'both', '1 h', wait => '150 s'))
	FROM (VALUES ('key'), ('next')) v (k)");
let_go_of_key($node);
await_waiters($node, 'next', 1);
is($node->safe_psql('postgres', "SELECT string_agg(key || ' ' || position, ', ') FROM distlock.waiters"),
	'next 1', 'several keys: shown as waiting for the second one');
$node->safe_psql('postgres', "SELECT distlock.release('next', 'first')");
is($both->result, '2', '... and gets it');
$both->query("SELECT distlock.release_all('both')");
$both->quit;

# Whoever gives up waiting in the queue is told who has the lock by then.
hold_key($node);
$gate->query('SELECT pg_advisory_lock(4711)');
my $later = waiter(1, "SELECT distlock.acquire_with_token('key', 'later', '1 h', wait => '150 s', owner => 'the later one')
	IS NOT NULL, pg_advisory_lock(4711) IS NULL");
my $gives_up = waiter(2, "SELECT distlock.acquire('key', '1 h', wait => '8 s')");
let_go_of_key($node);
granted_is_to_come($later, 'the later one');
is($gives_up->result . $gives_up->sqlstate, '55P03', 'a wait in the queue is over');
like($gives_up->stderr, qr/DETAIL:  It is held by "the later one"/, '... the error names who has the lock now');
$gate->query('SELECT pg_advisory_unlock(4711)');
$later->result;
$later->query("SELECT distlock.release('key', 'later')");
$_->quit foreach $later, $gives_up;

# Deadlock checks, as the log shows them
$node->safe_psql('postgres', 'CREATE TABLE one_row AS SELECT 1');
hold_key($node);
my $head = waiter(1, "SELECT $acquire");
my $plain = waiter(2, "SELECT $acquire");
my %checks = (
	'in a transaction block' => waiter(3, "SELECT $acquire", 'BEGIN'),
	'after writing' => waiter(4, "WITH w AS (INSERT INTO written VALUES (1) RETURNING 1) SELECT $acquire FROM w",
		'CREATE TABLE written (i int)'),
	'with another key locked' => waiter(5, "SELECT distlock.acquire('other', '1 h'), $acquire"),
	'with a lock of the session' => waiter(6, "SELECT $acquire",
		"SELECT distlock.acquire('of session', '1 h', scope => 'session')"),
	'with an advisory lock' => waiter(7, "SELECT $acquire", 'SELECT pg_advisory_lock(4712)'),
	'reading a table' => waiter(8, "SELECT $acquire FROM one_row"));
for my $what (sort keys %checks)
{
	my $pid = $checks{$what}->pid;

	await("$what: looked for deadlocks",
		sub { slurp_file($node->logfile) =~ /process $pid still waiting/ });
	pass("$what: deadlocks are looked for after deadlock_timeout");
}
my $pid = $plain->pid;
unlike(slurp_file($node->logfile), qr/process $pid still waiting/,
	'not by a statement that nobody can be waiting for');

let_go_of_key($node);
for my $session ($head, $plain)
{
	like($session->result, qr/^\d+$/, 'all are served');
	$session->query("SELECT $release");
}

# The setting is as before.
is($plain->query('SHOW deadlock_timeout'), '20ms', 'deadlock_timeout is unchanged');
$plain->query('BEGIN; SELECT pg_advisory_xact_lock(1)');
my $other = session($node);
$other->query('BEGIN; SELECT pg_advisory_xact_lock(2)');
$plain->send('SELECT pg_advisory_xact_lock(2)');
$other->send('SELECT pg_advisory_xact_lock(1)');
$_->result foreach $plain, $other;
is(join('', map { $_->sqlstate } $plain, $other), '40P01', '... and is heeded in other waits');

$node->stop('immediate');
done_testing();
