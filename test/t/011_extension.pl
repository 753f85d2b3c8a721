# Sessions live on while the extension is dropped, created anew, or its table
# is tampered with; they get clean errors meanwhile, and locks that work after.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $session = session($node);
my $admin = session($node);
my $acquire = "SELECT distlock.try_acquire('key', '1 h') IS NOT NULL";

# The table is changed, and changed back.
for my $case (
	[ 'column added', 'ALTER TABLE distlock.lock ADD COLUMN more int',
		'ALTER TABLE distlock.lock DROP COLUMN more' ],
	[ 'column renamed', 'ALTER TABLE distlock.lock RENAME data TO payload',
		'ALTER TABLE distlock.lock RENAME payload TO data' ],
	[ 'index added', 'CREATE INDEX extra ON distlock.lock (expires_at)', 'DROP INDEX distlock.extra' ],
	[ 'type changed', 'DROP VIEW distlock.locks; ALTER TABLE distlock.lock ALTER data TYPE varchar',
		'ALTER TABLE distlock.lock ALTER data TYPE text' ],
	[ 'unlogged', 'ALTER TABLE distlock.lock SET UNLOGGED', 'ALTER TABLE distlock.lock SET LOGGED' ])
{
	my ($what, $change, $undo) = @$case;

	$admin->query("SELECT distlock.force_release('key')");
	is($session->query($acquire), 't', "before: $what");
	$admin->query("BEGIN; SET LOCAL client_min_messages = error;"
		  . ($change =~ /^DROP VIEW/ ? ' ALTER EXTENSION distlock DROP VIEW distlock.locks;' : '')
		  . " $change; COMMIT");
	is($session->fails($acquire), '55000', "$what: locks are out of order");
	is($session->fails('SELECT distlock.force_release(\'key\')'), '55000', '... for all functions');
	$admin->query($undo);
	$admin->query('SELECT distlock.force_release(\'key\')');
	is($session->query($acquire), 't', '... until it is undone');
}
$admin->query('DROP EXTENSION distlock CASCADE; CREATE EXTENSION distlock');

# Maintenance is no tampering.
for my $command ('VACUUM FULL distlock.lock', 'REINDEX TABLE distlock.lock',
	'CLUSTER distlock.lock USING lock_pkey', 'TRUNCATE distlock.lock', 'ANALYZE distlock.lock')
{
	$session->query("SELECT distlock.force_acquire('key', '1 h') IS NULL");
	$admin->query($command);
	is($session->query("SELECT distlock.is_held('key')"),
		$command =~ /TRUNCATE/ ? 'f' : 't', "$command: locks are as they were");
	is($session->query("SELECT distlock.force_acquire('key', '1 h') IS NOT NULL"),
		't', '... and work');
}

# The extension goes, while its library stays in the sessions' memory.
$admin->query('DROP EXTENSION distlock');
is($session->fails($acquire), '3F000', 'dropped: the schema is unknown');
is($session->query('SELECT 1'), '1', '... and the session lives');
for my $time (1 .. 3)
{
	$admin->query('CREATE EXTENSION distlock');
	is($session->query($acquire), 't', 'created anew: a session from before works');
	is($admin->query("SELECT distlock.is_held('key')"), 't', '... and others see it');
	$admin->query('DROP EXTENSION distlock');
}

# Within one transaction, also undone
is($session->query(<<'EOQ'), "t\nt", 'created, used, dropped, created and used in a transaction');
BEGIN;
CREATE EXTENSION distlock;
SELECT distlock.try_acquire('key', '1 h') IS NOT NULL;
DROP EXTENSION distlock;
CREATE EXTENSION distlock;
SELECT distlock.try_acquire('key', '1 h') IS NOT NULL;
ROLLBACK;
EOQ
$admin->query('CREATE EXTENSION distlock');
is($session->query(<<"EOQ"), "t\nt", 'a rolled-back DROP has not happened');
$acquire;
BEGIN;
DROP EXTENSION distlock;
ROLLBACK;
SELECT distlock.is_held('key')
EOQ

# A prepared statement outlives it.
$session->query("PREPARE p AS SELECT distlock.is_held('key')");
$session->query('EXECUTE p') foreach 1 .. 7;
$admin->query('DROP EXTENSION distlock; CREATE EXTENSION distlock');
is($session->query('EXECUTE p'), 'f', 'a prepared statement goes on with the new extension');

# DROP waits for transactions that use the locks.
$session->query("BEGIN; $acquire");
$admin->send('DROP EXTENSION distlock');
$node->poll_query_until('postgres',
	'SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = \'Lock\' AND pid = '
	  . $admin->pid)
  or die 'DROP EXTENSION does not wait';
$session->query('COMMIT');
$admin->result;
is($admin->sqlstate, '', 'DROP EXTENSION waits for a transaction that uses it');
$admin->query('CREATE EXTENSION distlock');

# Preloaded, it is the same.
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'distlock'");
$_->quit foreach $session, $admin;
$node->restart;
is($node->safe_psql('postgres', $acquire), 't', 'preloaded: locks work');
is($node->safe_psql('postgres', 'SHOW distlock.durable'), 'on', 'preloaded: the settings are there');

$node->stop;
done_testing();
