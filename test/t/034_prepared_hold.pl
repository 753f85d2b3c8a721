# A lock of scope transaction goes with PREPARE TRANSACTION: it excludes others
# until the transaction ends, over a restart and over a crash, and is handed
# over then, with the work.  So do a guard and the lock of do_exclusively.

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
my @keys = ('reads', 'writes', 'works', 'undone', 'guarded');

$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE work (what text, fence bigint);
SELECT distlock.acquire_with_token('guarded', 'mine', '5 s');
BEGIN;
SELECT distlock.guard('guarded', 'mine');
PREPARE TRANSACTION 'guarded';
BEGIN;
SELECT distlock.acquire_with_token('reads', 'mine', '1 ms', scope => 'transaction');
PREPARE TRANSACTION 'reads';
BEGIN;
INSERT INTO work SELECT 'writes',
	distlock.acquire_with_token('writes', 'mine', '1 ms', scope => 'transaction');
PREPARE TRANSACTION 'writes';
BEGIN;
SELECT distlock.do_exclusively('works', '1 ms',
	$$INSERT INTO work SELECT 'works', distlock.current_fence()$$);
PREPARE TRANSACTION 'works';
BEGIN;
SELECT distlock.acquire('undone', '1 ms', scope => 'transaction');
INSERT INTO work VALUES ('undone');
PREPARE TRANSACTION 'undone';
EOQ

# Nobody gets any of them, in whatever way.
sub excludes
{
	my ($when) = @_;

	for my $key (@keys)
	{
		my $began = time();

		is($node->safe_psql('postgres', <<"EOQ"), 't|t|t|t|t', "$when: $key excludes others");
SELECT distlock.is_held('$key'),
	distlock.try_acquire('$key', '1 s') IS NULL,
	distlock.try_acquire('$key', '1 s', scope => 'session') IS NULL,
	distlock.try_acquire('$key', '1 s', scope => 'transaction') IS NULL,
	distlock.try_do_exclusively('$key', '1 s', 'SELECT 1/0') IS NULL
EOQ
		cmp_ok(time() - $began, '<', 60, '... and a try does not wait');
		is(sqlstate($node, 'postgres', "SELECT distlock.acquire('$key', '1 s', wait => '10 ms')"),
			'55P03', '... and a wait ends');
		is(sqlstate($node, 'postgres', "SELECT distlock.force_acquire('$key', '1 s')"),
			'55P03', '... and it cannot be forced');
	}
	is($node->safe_psql('postgres', <<'EOQ'), 'transaction||4', "$when: the view locks shows them");
SELECT scope, pid, count(*) FROM distlock.locks WHERE scope = 'transaction' GROUP BY 1, 2
EOQ
	return;
}

# The lease under the guard expires meanwhile; that changes nothing.
$node->poll_query_until('postgres', <<'EOQ') or die 'the lease does not expire';
SELECT clock_timestamp() > expires_at FROM distlock.lock WHERE key = 'guarded'
EOQ
excludes('prepared');
$node->restart;
excludes('restarted');
crash($node);
start_again($node);
excludes('crashed');

# A waiter for each, of every scope, and the end of the transaction
my @scopes = ('lease', 'session', 'transaction');
for my $i (0 .. $#keys)
{
	my $key = $keys[$i];
	my $scope = $scopes[ $i % @scopes ];
	my $waiter = session($node);
	my ($end, $rows) = $key eq 'undone' ? ('ROLLBACK', 0) : ('COMMIT', $key =~ /work|write/ ? 1 : 0);

	$waiter->send(<<"EOQ");
BEGIN;
SELECT distlock.acquire_with_token('$key', 'next', '1 h', wait => '100 s', scope => '$scope') AS fence \\gset
SELECT count(*), coalesce(bool_and(fence < :fence), true) FROM work WHERE what = '$key';
COMMIT;
EOQ
	await('a waiter', sub {
		$node->safe_psql('postgres',
			"SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND pid = "
			  . $waiter->pid) });
	ok(!$waiter->is_done, "$key: a waiter waits");
	my $began = time();
	$node->safe_psql('postgres', "$end PREPARED '$key'");
	is($waiter->result, "$rows|t", "$end PREPARED hands it over ($scope)"
		. ($rows ? ', with the work, under a greater fence' : ''));
	cmp_ok(time() - $began, '<', 60, '... soon');
	$waiter->quit;
}

$node->safe_psql('postgres', "SELECT distlock.release_all('next')");
await('the sessions to end', sub { traces($node) eq '' });
is($node->safe_psql('postgres', 'SELECT count(*) FROM distlock.locks'), '0', 'nothing is left');

$node->stop;
done_testing();
