# Timeouts, PostgreSQL's and the waiter's own, and the end of the server end a
# wait at once, wherever in the queue (promises 7 and 8).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('main');
my $token = "'of ' || pg_backend_pid()";
my $acquire = "SELECT distlock.try_acquire_with_token('key', $token, '1 h', wait => '150 s')";

hold_key($node);

# Timeouts: the waiter's own, which is no error, and PostgreSQL's
for my $place ('head', 'middle')
{
	my @before = $place eq 'head' ? () : queue_up($node, 1, $acquire);
	my $session = session($node);

	for my $case (
		[ '', "SELECT distlock.try_acquire('key', '1 h', wait => '1 s') IS NULL", '' ],
		[ '', "SELECT distlock.acquire('key', '1 h', wait => '1 s')", '55P03' ],
		[ "SET statement_timeout = '1 s'", $acquire, '57014' ],
		[ "SET lock_timeout = '1 s'", $acquire, '55P03' ],
		[ "SET lock_timeout = '1 s'", "SELECT distlock.acquire('key', '1 h', wait => '1 h')", '55P03' ])
	{
		my ($set, $sql, $sqlstate) = @$case;

		$session->query("RESET ALL; $set");
		my $began = time();
		$session->send($sql);
		my $result = $session->result;
		my $took = time() - $began;

		is($session->sqlstate . $result, $sqlstate || 't', "$place: $set $sql");
		ok($took > 0.99 && $took < 60, '... after the time given')
		  or diag("it took $took s");
		is($set && $session->query('SHOW ' . ($set =~ /(\w+_timeout)/)[0]),
			$set && '1s', '... and the setting is as before');
	}

	# A transaction goes on after a wait in vain.
	is($session->query(<<"EOQ"), "t\n5s\n1", "$place: a wait in vain leaves the transaction usable");
BEGIN;
SET LOCAL lock_timeout = '5 s';
SELECT distlock.try_acquire('key', '1 h', wait => '300 ms') IS NULL;
SHOW lock_timeout;
SELECT 1;
COMMIT
EOQ
	$_->kill_client foreach @before;
	await_waiters($node, 'key', 0);
	$session->quit;
}
becomes(sub { traces($node) }, '', 'timeouts leave no trace');

# A shutdown waits for nobody, neither the head nor those behind it.
my @all = queue_up($node, 3, $acquire);
my $began = time();
$node->stop('fast');
cmp_ok(time() - $began, '<', 10, 'fast shutdown: ends at once');
$_->result foreach @all;
is(join(' ', map { $_->sqlstate } @all), '57P01 57P01 57P01', 'and tells the waiters');
$_->quit foreach @all;

# A smart one waits for clients, not for their locks.
$node->start;
@all = queue_up($node, 2, $acquire);
IPC::Run::run([ 'pg_ctl', '-D', $node->data_dir, '-m', 'smart', '-W', 'stop' ], '>', '/dev/null');
await('shutdown to begin', sub { slurp_file($node->logfile) =~ /received smart shutdown/ });
$all[0]->kill_client;
$all[1]->kill_client;
await('the server to end', sub { !-e $node->data_dir . '/postmaster.pid' });
ok(1, 'smart shutdown: ends when the clients have gone');
$node->_update_pid(0);

done_testing();
