# A refusal costs nothing: a try on a held key, and a release or an extension
# with a wrong token, take no transaction id, write no WAL and leave no lock
# (promise 6).

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
my $holder = session($node);
my $open = session($node);
my $session = session($node);
my $times = 1000;

$holder->query("SELECT distlock.acquire_with_token('held', 'mine', '1 h')");
$holder->query("SELECT distlock.acquire_with_token('free', 'mine', '1 h')");
$holder->query("SELECT distlock.release('free', 'mine')");
$open->query("BEGIN; SELECT distlock.acquire_with_token('uncommitted', 'mine', '1 h')");

for my $call (
	"distlock.try_acquire('held', '1 s') IS NULL",
	"distlock.try_acquire('uncommitted', '1 s') IS NULL",
	"distlock.try_acquire_with_token('held', 'not mine', '1 s') IS NULL",
	"distlock.try_acquire_with_token('uncommitted', 'not mine', '1 s') IS NULL",
	"distlock.try_extend('held', 'not mine') IS NULL",
	"distlock.try_ensure('held', 'not mine', '1 h') IS NULL",
	"distlock.try_ensure('held', 'mine', '1 s') IS NOT NULL",
	"NOT distlock.try_release('held', 'not mine')",
	"NOT distlock.try_release('free', 'mine')",
	"NOT distlock.force_release('free')",
	"distlock.release_all('nobody') = 0",
	"distlock.extend_all('nobody', '1 s') = 0",
	"distlock.ttl('held', 'not mine') IS NULL",
	"distlock.is_held('held')")
{
	my @costs;

	# Once before, for what a checkpoint, caches and hint bits may bring.
	$session->query('CHECKPOINT');
	@costs = split /\n/, $session->query(<<"EOQ") foreach 1 .. 2;
SELECT pg_current_wal_insert_lsn() AS lsn,
	pg_snapshot_xmax(pg_current_snapshot()) AS xid \\gset
BEGIN;
SELECT count(*) FILTER (WHERE $call) FROM generate_series(1, $times);
SELECT coalesce(pg_current_xact_id_if_assigned()::text, 'none');
SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory';
COMMIT;
SELECT pg_current_wal_insert_lsn() - :'lsn';
SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint - :xid;
EOQ
	is("@costs", "$times none 0 0 0", "$call: no transaction id, no lock, no WAL");
}

# The verbs that raise, each call in a transaction of its own
for my $call (
	[ "distlock.acquire('held', '1 s')", '55P03' ],
	[ "distlock.acquire('uncommitted', '1 s')", '55P03' ],
	[ "distlock.release('held', 'not mine')", 'LK001' ],
	[ "distlock.extend('held', 'not mine')", 'LK001' ])
{
	my ($sql, $sqlstate) = @$call;

	is($session->fails("SELECT $sql"), $sqlstate, "$sql fails");
	my $before = $session->query(
		'SELECT pg_current_wal_insert_lsn(), pg_snapshot_xmax(pg_current_snapshot())');
	$session->fails("SELECT $sql") foreach 1 .. 50;
	is($session->query(
			'SELECT pg_current_wal_insert_lsn(), pg_snapshot_xmax(pg_current_snapshot())'),
		$before, '... at no cost');
}

# Nor does a refusal wait, nor keep anything from the one that holds the key.
my $began = time();
$session->query("SELECT distlock.try_acquire('uncommitted', '1 s')") foreach 1 .. 20;
cmp_ok((time() - $began) / 20, '<', 0.5, 'a try does not wait for one who has not committed');
$session->query("BEGIN; SELECT distlock.try_acquire('held', '1 s')");
is($holder->query("SELECT distlock.try_release('held', 'mine')"),
	't', 'a transaction that was refused is in nobody\'s way');
$session->query('COMMIT');
$open->query('COMMIT');
is(traces($node), '', 'nothing is left');

$_->quit foreach $holder, $open, $session;
$node->stop;
done_testing();
