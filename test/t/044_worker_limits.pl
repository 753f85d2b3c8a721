# When there is no place for another worker, the log says so once and what to do
# about it, locks are not concerned, and the worker comes as soon as there is
# place.  Databases without the extension take none.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $use = "SELECT distlock.try_acquire('key', '1 h') IS NOT NULL AND distlock.force_release('key')";

# Two of three databases get a worker.  Returns a session in each, the one
# without a worker last.
sub two_of_three
{
	my ($node, $admin) = @_;
	my %sessions = (postgres => $admin);

	await_worker($admin, 'postgres');
	$admin->query('CREATE DATABASE one');
	$sessions{one} = session($node, 'one');
	$sessions{one}->query('CREATE EXTENSION distlock');
	await_worker($admin, 'one');

	# A look at this one takes a process for a moment, but no place for a database.
	$sessions{one}->query('SELECT distlock.stop_worker()');
	$admin->query('CREATE DATABASE plain');
	$node->poll_query_until('postgres',
		"SELECT xact_commit > 0 FROM pg_stat_database WHERE datname = 'plain'")
	  or die 'nobody has looked at the database';
	$sessions{one}->query('SELECT distlock.start_worker()');
	is_deeply([ log_lines($node, 0, qr/HINT/) ], [], 'as many databases as places: no complaints');
	$admin->query('CREATE DATABASE two');
	$sessions{two} = session($node, 'two');
	$sessions{two}->query('CREATE EXTENSION distlock');
	return @sessions{ 'postgres', 'one', 'two' };
}

# In the database that has none
sub no_place
{
	my ($node, $session, $setting) = @_;
	my $hint = qr/HINT:.*$setting/;

	await('a complaint in the log', sub { log_lines($node, 0, $hint) });
	is($session->query($use), 't', "$setting: locks work without a worker");
	for my $time (1 .. 3)
	{
		is($session->fails('SELECT distlock.start_worker()'), '53400', 'start_worker() fails');
		like($session->stderr, $hint, '... with a hint');
	}
	is(scalar(grep { !/start_worker/ } log_lines($node, 0, qr/LOG:  distlock cannot/)), 1,
		'the log says so once');
	return;
}

# ---------------------------------------------------------------------------
# max_worker_processes
# ---------------------------------------------------------------------------

my $node = new_node('processes', conf => preloaded(
		'max_worker_processes = 3', 'max_logical_replication_workers = 0'));
my ($admin, $one, $two) = two_of_three($node, session($node));

no_place($node, $two, 'max_worker_processes');
becomes(sub { worker_state($admin, 'two') }, 'failed', 'the view shows it');
$one->query('SELECT distlock.stop_worker()');
ok(await_worker($admin, 'two'), 'a worker is stopped: the other comes by itself');
is($one->fails('SELECT distlock.start_worker()'), '53400', '... and there is no place for the first');
becomes(sub { scalar log_lines($node, 0, qr/LOG:  distlock cannot/) }, 2, 'a line in the log for each time');
$two->query('DROP EXTENSION distlock');
await_no_worker($admin, 'two');
is($one->query('SELECT distlock.start_worker()'), 't', '... until the extension is dropped there');
is(scalar log_lines($node, 0, qr/LOG:  distlock cannot/), 2, '... and no more lines');

# A process that has ended leaves its place when the postmaster has seen that.
my ($postmaster) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
my ($started, $lines);
for (1 .. 3)
{
	my $from = log_position($node);

	kill('STOP', $postmaster) == 1 or die 'could not stop the postmaster';
	my $waited = eval {
		$one->query('SELECT distlock.stop_worker()');
		$one->send('SELECT distlock.start_worker()');
		await_state($admin, 'one', 'failed');
		1;
	};
	kill('CONT', $postmaster) == 1 or die 'could not continue the postmaster';
	die $@ unless $waited;
	$started = $one->result;
	$lines = () = log_lines($node, $from, qr/LOG:  distlock cannot/);
	last if $started eq 't' && $lines == 0;
	# We were slow.
	await_worker($admin, 'one');
}
is($started, 't', 'a place that is about to be left is waited for');
is($lines, 0, '... and nobody complains');
$_->quit foreach $admin, $one, $two;
$node->stop;

# ---------------------------------------------------------------------------
# distlock.max_databases
# ---------------------------------------------------------------------------

$node = new_node('databases', conf => preloaded('distlock.max_databases = 2'));
($admin, $one, $two) = two_of_three($node, session($node));
no_place($node, $two, 'distlock\.max_databases');
is($two->query('SELECT state FROM distlock.worker_status WHERE database = current_database()'),
	'off', 'the view shows no worker');
$one->query('DROP EXTENSION distlock');
await_no_worker($admin, 'one');
is($two->query($use), 't', 'the extension is dropped in another: locks work');
ok(await_worker($admin, 'two'), '... and their next use makes the worker come');
$one->quit;
$admin->query('DROP DATABASE one');
is(scalar log_lines($node, 0, qr/LOG:  distlock cannot/), 1, 'no more lines in the log');

# A question is not lost that comes when the database has just been looked at, and the
# launcher does not know yet what was found.
$admin->query('CREATE DATABASE three');
my $three = session($node, 'three');
my ($launcher) = pids($admin, 'launcher');
($postmaster) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
kill('STOP', $postmaster) == 1 or die 'could not stop the postmaster';
my $looks = eval {
	$three->query('CREATE EXTENSION distlock; DROP EXTENSION distlock');
	await_state($admin, 'three', 'starting');
	stop_resting($launcher);
	1;
};
kill('CONT', $postmaster) == 1 or die 'could not continue the postmaster';
die $@ unless $looks;
await_state($admin, 'three', 'off');
$three->query('CREATE EXTENSION distlock');
kill('CONT', $launcher) == 1 or die 'could not continue the launcher';
becomes(sub { scalar log_lines($node, 0, qr/LOG:  distlock cannot/) }, 2, 'no question is lost');

is_deeply([ log_lines($node, 0, qr/FATAL|PANIC|WARNING/) ], [], '... and there were no failures');
$_->quit foreach $admin, $two, $three;
$node->stop;
done_testing();
