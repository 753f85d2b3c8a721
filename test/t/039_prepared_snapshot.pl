# Work that is prepared under a lock of scope transaction, or under a guard, and
# committed later: a transaction whose snapshot does not show it is not granted the
# lock, but gets 40001 (promise 9).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use DistlockTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $worker = session($node);
my $reader = session($node);
my $ender = session($node);

$worker->query('CREATE TABLE work (n int)');
for my $kind ('transaction', 'guard')
{
	my $key = "under $kind";
	my $ends;

	if ($kind eq 'transaction')
	{
		$worker->query("SELECT distlock.release('$key', distlock.acquire('$key', '1 h'))");
		$worker->query("BEGIN; SELECT distlock.acquire('$key', '1 h', scope => 'transaction')");
	}
	else
	{
		$worker->query("SELECT distlock.acquire_with_token('$key', 'mine', '5 s')");
		$worker->query("BEGIN; SELECT distlock.guard('$key', 'mine')");
		$ends = $ender->query("SELECT expires_at FROM distlock.lock WHERE key = '$key'");
	}
	$worker->query("INSERT INTO work VALUES (1); PREPARE TRANSACTION 'w'");

	# The snapshot is from after the PREPARE, and from after the end of the lease, so
	# that nothing else forbids the grant.
	await('the end of the lease', sub { $ender->query("SELECT clock_timestamp() > '$ends'") eq 't' })
	  if $ends;
	$reader->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM work');
	is($reader->query("SELECT distlock.try_acquire('$key', '1 h') IS NULL"),
		't', "$kind: held by the prepared transaction");
	$ender->query("COMMIT PREPARED 'w'");
	is($reader->fails("SELECT distlock.acquire('$key', '1 h', wait => '1 min')"),
		'40001', "$kind: its work is not in the snapshot");
	$reader->query('ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ');
	$reader->query("SELECT distlock.acquire('$key', '1 h')");
	pass("$kind: a retry is granted the lock");
	$reader->query('ROLLBACK');
}

$node->stop;
done_testing();
