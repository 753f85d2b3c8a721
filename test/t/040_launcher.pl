# With distlock in shared_preload_libraries there is a launcher, which keeps a
# worker in every database that has the extension, however the database came by
# it, and in no other.  Neither is in anybody's way while it has nothing to do.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', extension => 0,
	conf => preloaded('distlock.naptime = 1h', 'distlock.max_databases = 6'));
my $admin = session($node);

# What changes at once is not left to the next look at all databases.
sub look_often
{
	my ($often) = @_;

	return change_setting($admin, 'distlock.naptime', $often ? '1s' : '1h');
}

# ---------------------------------------------------------------------------
# Which databases
# ---------------------------------------------------------------------------

await_launcher($admin);
await_no_worker($admin, 'postgres');
$admin->query('CREATE EXTENSION distlock');
ok(await_worker($admin, 'postgres'), 'CREATE EXTENSION: a worker at once');

$admin->query('CREATE DATABASE plain');
$admin->query('CREATE DATABASE first');
my $first = session($node, 'first');
$first->query('BEGIN; CREATE EXTENSION distlock');
is($admin->query('SELECT count(*) FROM distlock.worker_status WHERE state = \'running\''),
	'1', 'not committed: no worker');
$first->query("SELECT distlock.acquire('key', '1 h')");
$first->query('COMMIT');
ok(await_worker($admin, 'first'), '... committed: a worker at once');
$first->quit;

$admin->query('CREATE DATABASE copy TEMPLATE first');
$node->safe_psql('copy', "SELECT distlock.try_acquire('other', '1 h')");
ok(await_worker($admin, 'copy'), 'a copy of a database that has it: a worker with the first use');
ok(await_worker($admin, 'first'), '... and the original has its worker again');

$admin->query('CREATE DATABASE model TEMPLATE first IS_TEMPLATE true');
$admin->query('CREATE DATABASE closed TEMPLATE first ALLOW_CONNECTIONS false');
look_often(1);
$admin->query('CREATE DATABASE unused TEMPLATE model');
ok(await_worker($admin, 'unused'), 'a copy that nobody has used: found within naptime');
await_as_expected($admin, 'postgres', 'first', 'copy', 'unused');
pass('no worker in templates, in what is closed, and where the extension is not');

$node->safe_psql('unused', 'DROP EXTENSION distlock');
await_no_worker($admin, 'unused');
pass('DROP EXTENSION ends the worker');
my $unused = session($node, 'unused');
for my $i (1 .. 20)
{
	$unused->query('CREATE EXTENSION distlock');
	await_worker($admin, 'unused');
	$unused->query('DROP EXTENSION distlock');
	await_no_worker($admin, 'unused');
}
pass('... each time, whether it notices before or after the end of the transaction');
$unused->query('CREATE EXTENSION distlock');
await_worker($admin, 'unused');
$unused->query("BEGIN; DROP EXTENSION distlock; PREPARE TRANSACTION 'drop'");
is(scalar pids($admin, 'worker', 'unused'), 1, '... not while it is only prepared');
$unused->query("COMMIT PREPARED 'drop'");
await_no_worker($admin, 'unused');
pass('... but when that is committed');
$unused->quit;
$admin->query('DROP DATABASE copy');
await_as_expected($admin, 'postgres', 'first');
pass('DROP DATABASE ends the worker');

# With places for six databases, three of them in use here
for my $i (1 .. 5)
{
	$admin->query("CREATE DATABASE brief TEMPLATE model");
	await_worker($admin, 'brief');
	$admin->query('DROP DATABASE brief');
}
pass('databases that have gone leave no place taken');
await_as_expected($admin, 'postgres', 'first');

# ---------------------------------------------------------------------------
# Off and on
# ---------------------------------------------------------------------------

look_often(0);

# On again before the launcher has seen that it was off
my ($launcher) = pids($admin, 'launcher');
stop_resting($launcher);
my $off_and_on = eval {
	change_setting($admin, 'distlock.worker', 'off');
	await_no_worker($admin, $_) foreach 'first', 'postgres';
	change_setting($admin, 'distlock.worker', 'on');
	1;
};
my $began = time();
kill('CONT', $launcher) == 1 or die 'could not continue the launcher';
die $@ unless $off_and_on;
await_as_expected($admin, 'postgres', 'first');
cmp_ok(time() - $began, '<', 30, 'distlock.worker is off for a moment: the workers are back after one');

my $position = log_position($node);
change_setting($admin, 'distlock.worker', 'off');
await_no_worker($admin, $_) foreach 'first', 'postgres';
is(worker_state($admin, $_), 'off', "distlock.worker = off: state of $_") foreach 'first', 'postgres';
change_setting($admin, 'distlock.worker', 'on');
await_as_expected($admin, 'postgres', 'first');
pass('distlock.worker = on: they are back');

# The launcher may read it before the postmaster does, from which the workers inherit.
change_setting($admin, 'distlock.worker', 'off');
await_no_worker($admin, $_) foreach 'first', 'postgres';
$admin->query("ALTER SYSTEM SET distlock.worker = 'on'");
kill('HUP', $_) foreach pids($admin, 'launcher');
await_as_expected($admin, 'postgres', 'first');
pass('... also when the launcher is told before the postmaster');
$admin->query('SELECT pg_reload_conf()');
await('the setting', sub { $admin->query('SHOW distlock.worker') eq 'on' });

is($admin->query('SELECT distlock.start_worker()'), 'f', 'start_worker(): there is one');
is($admin->query('SELECT distlock.stop_worker()'), 't', 'stop_worker(): it has gone');
is($admin->query('SELECT state, pid IS NULL FROM distlock.worker_status WHERE database = \'postgres\''),
	'stopped|t', '... as the view shows');
becomes(sub { scalar pids($admin, 'worker', 'postgres') }, 0, '... and is true');
is($admin->query('SELECT distlock.stop_worker()'), 'f', '... there is none to be stopped');
look_often(1);
$admin->query('CREATE DATABASE later TEMPLATE model');
await_worker($admin, 'later');
is(worker_state($admin, 'postgres'), 'stopped', '... when the launcher looks at the databases, too');
is($admin->query('SELECT distlock.start_worker()'), 't', 'start_worker(): it is started');
await_as_expected($admin, 'postgres', 'first', 'later');

# A line is written just after the state has changed.
await('the log', sub { 11 <= log_lines($node, $position, qr/LOG:  distlock/) });
is(join("\n", map { s/.*LOG:  distlock worker for database //r }
			sort { $a =~ s/.*LOG://r cmp $b =~ s/.*LOG://r }
			log_lines($node, $position, qr/LOG:  distlock/)), <<'EOT' =~ s/\n\z//r,
"first" ended
"first" ended
"first" started
"first" started
"later" started
"postgres" ended
"postgres" ended
"postgres" ended
"postgres" started
"postgres" started
"postgres" started
EOT
	'the log has a line for each change');
is_deeply([ log_lines($node, 0, qr/FATAL|PANIC|ERROR|WARNING/) ], [], '... and no errors');

# ---------------------------------------------------------------------------
# When there is nothing to do
# ---------------------------------------------------------------------------

# What is shown of a worker between two passes
$admin->query("SELECT distlock.force_release('key')");
await('the first pass of each', sub { $admin->query(<<'EOQ') eq '0' });
SELECT count(*) FROM distlock.worker_status WHERE state = 'running' AND last_pass_at IS NULL
EOQ
await('the worker to have done its work', sub {
	$admin->query(<<'EOQ') eq 'idle|||Extension|t' });
SELECT state, query, backend_xmin, wait_event_type, usename = (SELECT rolname FROM pg_authid WHERE oid = 10)
FROM pg_stat_activity WHERE backend_type = 'distlock worker' AND datname = 'first'
EOQ
pass('a worker without work is idle, without query and snapshot');
becomes(sub { $admin->query(<<'EOQ') }, '', '... and holds no lock');
SELECT format('%s %s %s', locktype, relation::regclass, mode) FROM pg_locks
WHERE pid IN (SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'distlock %')
EOQ
becomes(sub { $admin->query(<<'EOQ') }, '||', 'the launcher is connected to no database, and has no snapshot');
SELECT datname, backend_xmin, backend_xid FROM pg_stat_activity WHERE backend_type = 'distlock launcher'
EOQ

# Named where PostgreSQL lets extensions name one.
my $events = $node->pg_version >= 17 ? 'DistlockLauncherMain DistlockWorkerMain' : 'Extension';
becomes(sub { $admin->query(<<'EOQ') }, $events, 'their wait events');
SELECT string_agg(DISTINCT wait_event, ' ' ORDER BY wait_event) FROM pg_stat_activity WHERE backend_type LIKE 'distlock %'
EOQ

# The end of a worker, at the latest, makes known what it has counted.
sub commits
{
	return $admin->query(
		"SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'later'");
}

my $worker = await_worker($admin, 'later');
my ($before, $passes) = (commits(),
	$admin->query("SELECT passes FROM distlock.worker_status WHERE database = 'later'"));
for my $i (1 .. 2)
{
	$admin->query("CREATE DATABASE looked_$i TEMPLATE model");
	await_worker($admin, "looked_$i");
}
is($admin->query("SELECT passes FROM distlock.worker_status WHERE database = 'later' AND pid = $worker"),
	$passes, 'a worker without work makes no passes while the launcher looks around');
$admin->query('DROP DATABASE looked_1');
$admin->query('DROP DATABASE looked_2');
kill('TERM', $worker);
await('the worker to end', sub { !connected($node, $worker) });
cmp_ok(commits() - $before, '<=', 10, '... and no transactions');

$admin->quit;
$node->stop;
my @stop = log_lines($node, $position, qr{PANIC|still|could not (?!send data to client)});
is_deeply(\@stop, [], 'the server stops without complaints');
done_testing();
