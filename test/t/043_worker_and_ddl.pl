# The worker is in nobody's way: databases are created, dropped, renamed, copied
# and moved, the extension is dropped, its table is maintained, all while workers
# run and leases lapse, without waiting long, without a deadlock, and leaving no
# process behind.
#
#	DISTLOCK_LONG=1		10 rounds instead of 1, and no statement takes 2 s

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use DistlockWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my ($ROUNDS, $LONGEST) = $ENV{DISTLOCK_LONG} ? (10, 2) : (1, 5);
my $node = new_node('main', conf => preloaded('allow_in_place_tablespaces = on',
		'deadlock_timeout = 50ms', 'distlock.naptime = 1s'));
my $admin = session($node);
my $forced = 0;
my %longest;

$admin->query("CREATE TABLESPACE other_place LOCATION ''");
$admin->query('CREATE ROLE boss');
$admin->query('CREATE ROLE chief');

# Execute while leases lapse in the database "work".
sub during
{
	my ($database, $sql, $sqlstate) = @_;
	my $session = session($node, 'work');

	leave_to_lapse($session, 30, "i * interval '7 ms'");
	if ($database ne 'work')
	{
		$session->quit;
		await('the session to end', sub { !connected($node, $session->pid) });
		$session = session($node, $database);
	}
	my $began = time();
	my $got = $session->fails($sql);
	my $took = time() - $began;

	is($got, $sqlstate // '', "in $database: $sql") or diag($session->stderr);
	$longest{$sql} = $took if $took > ($longest{$sql} // 0);
	$session->quit;
	await('the session to end', sub { !connected($node, $session->pid) });
	return;
}

# The extension again, where a statement has dropped it
sub create_again
{
	my ($owner) = @_;

	$node->safe_psql('work', <<"EOQ");
GRANT CREATE ON DATABASE work TO boss, chief;
SET ROLE $owner;
CREATE EXTENSION distlock;
EOQ
	await_worker($admin, 'work');
	return;
}

sub without_worker
{
	my ($sql) = @_;

	during('work', $sql);
	await_as_expected($admin, 'postgres');
	pass('... and the worker has gone');
	return;
}

for my $round (1 .. $ROUNDS)
{
	$admin->query('CREATE DATABASE work');
	create_again('boss');

	# Databases
	during('postgres', 'CREATE DATABASE another');
	during('postgres', 'ALTER DATABASE another RENAME TO yet_another');
	during('postgres', 'DROP DATABASE yet_another');
	during('postgres', 'CREATE DATABASE copy TEMPLATE work STRATEGY wal_log');
	await_as_expected($admin, 'postgres', 'work', 'copy');
	during('postgres', 'CREATE DATABASE copy2 TEMPLATE work STRATEGY file_copy');
	await_as_expected($admin, 'postgres', 'work', 'copy', 'copy2');
	during('postgres', 'DROP DATABASE copy2');
	during('postgres', 'DROP DATABASE copy WITH (FORCE)');
	$forced++;
	during('postgres', 'ALTER DATABASE work RENAME TO renamed');
	await_as_expected($admin, 'postgres', 'renamed');
	$admin->query('ALTER DATABASE renamed RENAME TO work');
	await_worker($admin, 'work');
	during('postgres', 'ALTER DATABASE work SET TABLESPACE other_place');
	await_worker($admin, 'work');
	during('postgres', 'ALTER DATABASE work SET TABLESPACE pg_default');
	await_worker($admin, 'work');

	# The table
	during('work', $_) foreach 'VACUUM FULL distlock.lock', 'REINDEX TABLE distlock.lock',
	  'REINDEX TABLE CONCURRENTLY distlock.lock', 'CLUSTER distlock.lock USING lock_pkey',
	  'VACUUM (FREEZE, ANALYZE) distlock.lock', 'ALTER TABLE distlock.lock SET (fillfactor = 60)',
	  'TRUNCATE distlock.lock', 'REINDEX DATABASE work', 'VACUUM FULL';

	# While it is locked, the worker waits without a lock, and then does its work.
	my $session = session($node, 'work');
	leave_to_lapse($session, 10, "'100 ms'");
	$session->query('BEGIN; LOCK TABLE distlock.lock');
	await('leases to lapse', sub { $session->query(
		'SELECT max(expires_at) < clock_timestamp() FROM distlock.lock') eq 't' });
	is($admin->query('SELECT count(*) FROM pg_locks WHERE NOT granted'), '0',
		'the worker does not wait for the table');
	$session->query('COMMIT');
	ok(await_freed($session), '... and frees what has lapsed afterwards');
	$session->quit;

	# The extension
	during('work', 'ALTER EXTENSION distlock UPDATE');
	during('work', 'DROP SCHEMA distlock CASCADE', '2BP01');
	during('work', 'REASSIGN OWNED BY boss TO chief');
	await_as_expected($admin, 'postgres', 'work');
	without_worker('DROP OWNED BY chief');
	create_again('chief');
	without_worker('DROP EXTENSION distlock');
	create_again('chief');
	without_worker('DROP EXTENSION distlock CASCADE');
	create_again('chief');
	during('work', 'BEGIN; DROP EXTENSION distlock; ROLLBACK');
	await_as_expected($admin, 'postgres', 'work');
	during('work', 'BEGIN; DROP EXTENSION distlock; CREATE EXTENSION distlock; COMMIT');
	await_as_expected($admin, 'postgres', 'work');
	pass('dropped and created in one transaction: the worker is there');

	during('postgres', 'DROP DATABASE work');
	await_as_expected($admin, 'postgres');
	pass('nothing is left');
}

my @slow = grep { $longest{$_} >= $LONGEST } keys %longest;
is_deeply(\@slow, [], "no statement took $LONGEST s");
note sprintf('%6.3f s  %s', $longest{$_}, $_)
  foreach (sort { $longest{$b} <=> $longest{$a} } keys %longest)[ 0 .. 7 ];
my @fatal = log_lines($node, 0, qr/FATAL|PANIC/);
cmp_ok(scalar @fatal, '<=', $forced, 'no process failed but those ended by force')
  or diag(join "\n", @fatal);
is_deeply([ grep { !/cannot drop schema distlock/ } log_lines($node, 0, qr/ERROR|deadlock/) ], [],
	'no errors in the log');

$admin->quit;
$node->stop;
done_testing();
