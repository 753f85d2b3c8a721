# Without distlock in shared_preload_libraries start_worker() gives a database
# its worker, which then comes back by itself as if there were a launcher, until
# it is stopped or there is nothing to work on.  A server that does not preload
# distlock any more works as if it never had.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "max_worker_processes = 20\nrestart_after_crash = on");
my $admin = steadfast($node);

# No process of distlock is there.
sub await_none
{
	await('the end of the processes', sub {
		$admin->query("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'distlock %'") eq '0' });
	return 1;
}

is(worker_state($admin, 'postgres'), 'off', 'not preloaded: no worker');
is($admin->query('SELECT distlock.stop_worker()'), 'f', '... none to be stopped');
is($admin->query('SELECT distlock.start_worker()'), 't', 'start_worker()');
ok(await_as_expected($admin, 'postgres'), '... a worker, and who sees to it');
is($admin->query('SELECT distlock.start_worker()'), 'f', '... which runs already');
leave_to_lapse($admin, 10);
ok(await_freed($admin), '... and does its work');
is($admin->query('SELECT distlock.stop_worker()'), 't', 'stop_worker()');
ok(await_none(), '... both have gone');
is(worker_state($admin, 'postgres'), 'stopped', '... as the view shows');

# It comes back.
is($admin->query('SELECT distlock.start_worker()'), 't', 'started again');
my $worker = await_worker($admin, 'postgres');
kill('TERM', $worker);
$worker = await_worker($admin, 'postgres', $worker);
ok($worker, 'terminated: it comes back');
my $keeper = await_launcher($admin);
kill('TERM', $keeper);
ok(await_launcher($admin, $keeper), '... as does who sees to it');
ok(await_as_expected($admin, 'postgres'), '... once');
kill('KILL', session($node)->pid);
await_worker($admin, 'postgres', $worker);
ok(await_as_expected($admin, 'postgres'), 'after a crash of the server they come back');
leave_to_lapse($admin, 10);
ok(await_freed($admin), '... and do their work');

# Two databases, each with its own
$admin->query('CREATE DATABASE other');
is($node->safe_psql('other', 'CREATE EXTENSION distlock; SELECT distlock.start_worker()'),
	't', 'another database');
await('processes for both', sub {
	pids($admin, 'worker') == 2 && pids($admin, 'launcher') == 2 });
pass('each has its own');
my $position = log_position($node);
$admin->query('DROP DATABASE other');
ok(await_as_expected($admin, 'postgres'), 'DROP DATABASE: they have gone');
$admin->query('DROP EXTENSION distlock');
ok(await_none(), 'DROP EXTENSION: they have gone');
$admin->query('CREATE EXTENSION distlock');
is($admin->query("SELECT distlock.try_acquire('key', '1 h') IS NULL"), 'f',
	'created again: locks work');
is(scalar pids($admin, 'worker'), 0, '... and no worker that nobody has asked for');
is_deeply([ log_lines($node, $position, qr/FATAL|ERROR|WARNING/) ], [], 'no errors in the log');
is($admin->query('SELECT distlock.start_worker()'), 't', '... until it is asked for');

# A restart forgets it.  Then with the library preloaded, and no longer.
$node->restart;
ok(await_none(), 'a restart of the server: no worker');
$node->append_conf('postgresql.conf', preloaded('distlock.max_databases = 8', 'distlock.naptime = 1s'));
$node->restart;
ok(await_worker($admin, 'postgres'), 'preloaded: a worker');
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
$position = log_position($node);
ok(await_none(), 'not preloaded any more: no worker');
is($admin->query("SELECT distlock.force_acquire('key', '1 h') IS NULL"), 'f', '... locks work');
is($admin->query('SELECT distlock.start_worker()'), 't', '... and start_worker()');
ok(await_as_expected($admin, 'postgres'), '... as before');
is_deeply([ log_lines($node, $position, qr/FATAL|ERROR/) ], [], 'no errors in the log');

$admin->quit;
$node->stop('smart');
pass('the server stops when the last session has ended');
done_testing();
